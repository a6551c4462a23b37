"""Sequences and texts that tests learn from in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

#: A text whose next character is mostly plain from the last few.
TEXT = "the cat sat on the mat, and the rat sat on the cat.\n" * 40


def write_gestures(path: Path, *, sequences: int = 30, seed: int = 0) -> Path:
    """Write a CSV file: a slow and a fast wave and a flat line, 9 to 15 steps each."""
    rng = np.random.default_rng(seed)
    lines = ["id,a,b,kind"]
    for number in range(sequences):
        kind = ("slow", "fast", "flat")[number % 3]
        pace = {"slow": 0.3, "fast": 1.2, "flat": 0.0}[kind]
        t = np.arange(rng.integers(9, 16))
        a = np.sin(pace * t) + 0.1 * rng.normal(size=len(t))
        b = np.cos(pace * t) + 0.1 * rng.normal(size=len(t))
        lines += [f"s{number},{x:.5f},{y:.5f},{kind}" for x, y in zip(a, b, strict=True)]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_text(path: Path, text: str = TEXT) -> Path:
    path.write_text(text, encoding="utf-8")
    return path
