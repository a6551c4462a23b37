"""What holds for all tests."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

import pytest

# PyTorch's threads wait for each other by spinning: beside servers that use the cores too, small
# networks take minutes on two threads and seconds on one. It is read when PyTorch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Tell people what happens, at once."""
    began = time.monotonic()

    def line(text: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n  {time.monotonic() - began:6.1f} s  {text}")
            sys.stdout.flush()

    return line
