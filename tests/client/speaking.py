"""The fake server's models that take text, and that answer with labels: what they say is known."""

from __future__ import annotations

import numpy as np

from carousel.v1 import manifest_pb2 as mf
from carousel.v1 import tensor_pb2

F32, I64 = tensor_pb2.DATA_TYPE_FLOAT32, tensor_pb2.DATA_TYPE_INT64

#: The symbols of "letters"; the last stands for every other character.
LETTERS = "abcdefghijklmnopqrstuvwxyz ,.\n\ufffd"
WEATHER = ("calm", "windy", "storm")

#: The probability of the symbol that "letters" takes for the next, the others sharing the rest.
SURE = 0.75


def text(name: str) -> mf.TensorSpec:
    """Return an input of one letter a step."""
    return mf.TensorSpec(name=name, dtype=I64, minimum=0, maximum=len(LETTERS) - 1, symbols=LETTERS)


def next_letters(name: str) -> mf.TensorSpec:
    """Return an output of the next letter's log-probabilities."""
    content = mf.TENSOR_CONTENT_LOG_PROBABILITIES
    return mf.TensorSpec(
        name=name, dtype=F32, shape=[len(LETTERS)], columns=LETTERS, content=content
    )


def weather(name: str) -> mf.TensorSpec:
    """Return an output of three probabilities."""
    content = mf.TENSOR_CONTENT_PROBABILITIES
    return mf.TensorSpec(name=name, dtype=F32, shape=[3], columns=WEATHER, content=content)


def said(output: mf.TensorSpec, sums: np.ndarray) -> np.ndarray:
    """Return an output's answers to running sums of the input, (T, *step) -> (T, *output).

    The next letter is the one whose number is the sum of those before, round the alphabet; the
    weather is the sums' softmax; of all others the sums themselves are the answers.
    """
    if output.content == mf.TENSOR_CONTENT_LOG_PROBABILITIES:
        size = len(LETTERS)
        likely = np.full((len(sums), size), np.log((1 - SURE) / (size - 1)))
        likely[np.arange(len(sums)), sums.astype(int) % size] = np.log(SURE)
        return likely
    if output.content == mf.TENSOR_CONTENT_PROBABILITIES:
        grown = np.exp(sums - sums.max(axis=-1, keepdims=True))
        return grown / grown.sum(axis=-1, keepdims=True)
    return sums
