"""The client's side: one session, a chunk at a time, as a microphone would give them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

import carousel_client as carousel
from examples.common.errors import DemoError
from examples.common.progress import counted
from examples.common.wav import RATE, Samples

MODEL: Final = "vad"
#: Samples a chunk: 32 ms, what the detector was trained with.
CHUNK: Final = 512
SECONDS: Final = CHUNK / RATE


def stream(address: str, samples: Samples) -> NDArray[np.float32]:
    """Stream a recording (N,) and return the probability of speech of each chunk, (N / 512,).

    Raises carousel.CarouselError, and DemoError where the model is no detector of such chunks.
    """
    with carousel.connect(address) as client:
        check_model(client.model(MODEL))
        with client.open(MODEL) as session:
            total = -(-len(samples) // CHUNK)
            answers = [
                session.step(chunk)  # (512,) -> (1,): the state stays at the server
                for chunk in counted(chunks(samples), total=total, told="streaming")
            ]
    return np.concatenate(answers)


def chunks(samples: Samples) -> Iterator[Samples]:
    """Cut samples (N,) into chunks (512,); the last one is filled up with silence."""
    for begin in range(0, len(samples), CHUNK):
        chunk = samples[begin : begin + CHUNK]
        yield np.pad(chunk, (0, CHUNK - len(chunk)))


def check_model(model: carousel.ModelInfo) -> None:
    """Raise DemoError where a model doesn't map a chunk to a probability."""
    found = [spec.shape for spec in (*model.inputs, *model.outputs)]
    if found != [(CHUNK,), (1,)]:
        shapes = ", ".join(
            f"{spec.name} {list(spec.shape)}" for spec in (*model.inputs, *model.outputs)
        )
        raise DemoError(
            f"A detector that maps [{CHUNK}] samples to a probability, [1], was expected, and this "
            f"model has {shapes}."
        )
