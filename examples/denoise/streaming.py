"""The client's side: a session of each model, and every frame through both."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

import carousel_client as carousel
from examples.common.errors import DemoError
from examples.common.progress import counted
from examples.common.wav import Samples
from examples.denoise.frames import (
    BINS,
    FRAME,
    Spectrum,
    analyse,
    count_frames,
    frames,
    overlap_add,
    synthesise,
)

#: The first model says which frequencies are speech, the second mends what that leaves.
MASKING: Final = "masking"
MENDING: Final = "mending"


class Stage:
    """One model's session, stepped with arrays of one axis whatever axes of 1 the model has."""

    def __init__(self, client: carousel.Client, name: str, *, size: int) -> None:
        """Open a session. Raises DemoError where a step isn't `size` numbers in and out."""
        model = client.model(name)
        found = [spec.size for spec in (*model.inputs, *model.outputs)]
        if found != [size, size]:
            shapes = ", ".join(
                f"{spec.name} {list(spec.shape)}" for spec in (*model.inputs, *model.outputs)
            )
            raise DemoError(
                f"A model that maps {size} numbers to {size} was expected for {name}, and this one "
                f"has {shapes}."
            )
        self._shape = model.inputs[0].shape
        self._session = client.open(name)

    def step(self, values: Samples | Spectrum) -> Samples | Spectrum:
        """Return the answer (size,) to values (size,)."""
        answer = self._session.step(values.reshape(self._shape))
        return np.asarray(answer, np.float32).reshape(-1)

    def close(self) -> None:
        """End the session."""
        self._session.close()


def stream(address: str, samples: Samples) -> Samples:
    """Stream a recording (N,) frame by frame through both models, and return it denoised, (N,).

    Raises carousel.CarouselError, and DemoError where the models are not such as are needed.
    """
    with carousel.connect(address) as client:
        masking = Stage(client, MASKING, size=BINS)
        mending = Stage(client, MENDING, size=FRAME)
        denoised = overlap_add(_denoise(samples, masking, mending), len(samples))
        masking.close()
        mending.close()
    return denoised


def _denoise(samples: Samples, masking: Stage, mending: Stage) -> Iterator[Samples]:
    """Yield the answer (512,) to each frame."""
    total = count_frames(len(samples))
    for frame in counted(frames(samples), total=total, told="streaming"):
        magnitude, phase = analyse(frame)
        mask = masking.step(magnitude)  # (257,) -> (257,), 0 to 1
        yield mending.step(synthesise(magnitude * mask, phase))  # (512,) -> (512,)
