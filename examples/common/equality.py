"""Whether what was streamed is what PyTorch answers to the whole sequence."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from examples.common.errors import DemoError

#: The largest difference that is allowed, relative to max(1, |reference|).
TOLERANCE: Final = 1e-5


def check_equal(pairs: Iterable[tuple[NDArray[Any], NDArray[Any]]]) -> str:
    """Compare streamed answers with their references; say in a sentence how far off they are.

    Raises DemoError where one is off by more than is allowed, or not finite.
    """
    worst = 0.0
    for found, reference in pairs:
        difference = np.abs(found - reference) / np.maximum(1, np.abs(reference))
        worst = float(np.maximum(worst, difference.max()))  # a NaN stays
    if not worst <= TOLERANCE:
        raise DemoError(f"A streamed answer is off by {worst:.1e}; {TOLERANCE:.0e} is allowed.")
    return f"All streamed answers equal PyTorch's: off by {worst:.1e} at most."
