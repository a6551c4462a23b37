"""The client's side: what the model writes, and how surprised it is by what others wrote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

import carousel_client as carousel

MODEL: Final = "text"


@dataclass(frozen=True)
class Written:
    """Texts that go on from one prompt: by lot at some temperatures, and by beam search.

    `beams` are by the number of texts that were followed; 1 is greedy. Each has the best text and
    the natural logarithm of its probability.
    """

    drawn: dict[float, str]
    beams: dict[int, tuple[str, float]]


@dataclass(frozen=True)
class Surprise:
    """A passage, and how many bits each character after the first took, (T - 1,)."""

    passage: str
    bits: NDArray[np.float64]
    answers: NDArray[np.float32]  # (T, V), log-probabilities as they were streamed


def write(
    client: carousel.Client, prompt: str, *, temperatures: Sequence[float], length: int, seed: int
) -> Written:
    """Have the model go on from a prompt. Raises carousel.CarouselError."""
    drawn = {}
    for temperature in temperatures:
        with client.open(MODEL) as session:
            drawn[temperature] = carousel.text.generate(
                session, prompt, length, temperature=temperature, rng=seed
            )
    beams = {}
    for width in (1, 8):
        with client.open(MODEL) as session:
            # Every text that is followed has a fork of the session: its state, at the server.
            best = carousel.text.beam(session, prompt, length // 4, beams=width)[0]
            beams[width] = (best.text, best.log_probability)
    return Written(drawn, beams)


def surprise(client: carousel.Client, passage: str) -> Surprise:
    """Stream a passage, a character at a time, and see what was thought of each next one."""
    with client.open(MODEL) as session:
        steps = [session.step(character) for character in passage]
        names = session.info.outputs[0].columns
    answers = np.concatenate([np.atleast_2d(np.asarray(step)) for step in steps])  # (T, V)
    places = {name: place for place, name in enumerate(names)}
    unknown = places["\N{REPLACEMENT CHARACTER}"]
    following = [places.get(character, unknown) for character in passage[1:]]
    logs = answers[np.arange(len(following)), following].astype(np.float64)
    return Surprise(passage, -logs / np.log(2), answers)
