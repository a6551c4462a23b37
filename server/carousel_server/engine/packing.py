"""Between rows laid end to end and the padded `[T, B, ...]` of a run."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from carousel_server.engine.columns import IntColumn

Array = NDArray[np.generic]


def pack(flat: Array, starts: IntColumn, steps: IntColumn, longest: int) -> Array:
    """Return `[longest, B, ...]` from rows that begin at `starts` [B] and are `steps` [B] long.

    Padding repeats the row's last step, so that it is as valid as the row itself.
    """
    if longest == 1:
        return take(flat, starts)[None]
    if len(starts) == 1 and steps[0] == longest:
        return flat[starts[0] : starts[0] + longest, None]
    time = np.minimum(np.arange(longest)[:, None], steps - 1)  # (T, B)
    return flat[starts + time]


def take(flat: Array, places: IntColumn) -> Array:
    """Return `flat[places]`, without a copy where the places are a run."""
    count, first = len(places), int(places[0])
    if int(places[-1]) - first == count - 1 and (count < 3 or bool((np.diff(places) == 1).all())):
        return flat[first : first + count]
    return flat[places]


def unpack(flat: Array, starts: IntColumn, steps: IntColumn, values: Array) -> None:
    """Write `values` `[T, B, ...]` to rows of `flat`; padding is dropped."""
    longest = len(values)
    if longest == 1:
        flat[starts] = values[0]
        return
    time = np.arange(longest)[:, None]  # (T, 1)
    within = time < steps  # (T, B)
    flat[(starts + time)[within]] = values[within]
