"""What must be true of symbols and probabilities, in every model file."""

from __future__ import annotations

import pytest

from carousel.meanings import meaning_flaw
from carousel.v1 import tensor_pb2
from carousel.v1.manifest_pb2 import (
    TENSOR_CONTENT_LOG_PROBABILITIES,
    TENSOR_CONTENT_PROBABILITIES,
    TensorSpec,
)


def letters(**changed) -> TensorSpec:
    """Return an integer scalar a step that stands for three letters."""
    fields = {
        "name": "x",
        "dtype": tensor_pb2.DATA_TYPE_INT64,
        "minimum": 0,
        "maximum": 2,
        "symbols": ["a", "b", "c"],
    }
    return TensorSpec(**fields | changed)


def classes(**changed) -> TensorSpec:
    """Return log-probabilities of two classes."""
    fields = {
        "name": "y",
        "dtype": tensor_pb2.DATA_TYPE_FLOAT32,
        "shape": [2],
        "columns": ["yes", "no"],
        "content": TENSOR_CONTENT_LOG_PROBABILITIES,
    }
    return TensorSpec(**fields | changed)


def test_what_is_right():
    assert meaning_flaw(letters()) is None
    assert meaning_flaw(letters(dtype=tensor_pb2.DATA_TYPE_UINT8)) is None
    assert meaning_flaw(letters(symbols=["", "b", "c"])) is None
    assert meaning_flaw(classes()) is None
    assert meaning_flaw(classes(content=TENSOR_CONTENT_PROBABILITIES, shape=[4, 2])) is None
    plain = TensorSpec(name="x", dtype=tensor_pb2.DATA_TYPE_FLOAT32, columns=["a", "a"], shape=[2])
    assert meaning_flaw(plain) is None


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (
            letters(dtype=tensor_pb2.DATA_TYPE_FLOAT32),
            "3 symbols, and only integers stand for symbols",
        ),
        (letters(minimum=1), "3 symbols, and no minimum of 0"),
        (letters(minimum=None), "3 symbols, and no minimum of 0"),
        (letters(maximum=3), "3 symbols, which needs the maximum 2, not 3"),
        (letters(maximum=None), "3 symbols, which needs the maximum 2, not none"),
        (letters(symbols=["a", "b", "a"]), "the symbol 'a' twice"),
        (classes(content=7), "the content 7, which this version does not know"),
        (classes(dtype=tensor_pb2.DATA_TYPE_INT64), "probabilities that are not floats"),
        (classes(columns=["yes"]), "probabilities of 2 classes, and the names of 1 (columns)"),
        (classes(shape=[]), "probabilities of 0 classes, and the names of 2 (columns)"),
        (classes(columns=["yes", ""]), "a class without a name"),
        (classes(columns=["yes", "yes"]), "the class 'yes' twice"),
    ],
)
def test_what_is_wrong(spec, words):
    assert meaning_flaw(spec) == words
