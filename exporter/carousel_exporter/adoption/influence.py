"""What depends on what, by numbers: one input is changed, and the outputs are looked at.

Nothing here knows which tensors are states; it is measured before anybody says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from carousel_exporter.adoption.bounds import Values
from carousel_exporter.adoption.trials import Arrays, Trial, TrialError

#: A change below this, relative to max(1, |value|), is rounding; in half precision, see `_noise`.
_NOISE: Final = 1e-6
#: Elements of a state that are changed one at a time, and by how much.
_PROBES: Final = 24
_SMALL: Final = 0.5
_FACTOR: Final = 64.0
#: What the larger change must do to an element at least, and how far from a line it may be.
_NOTABLE: Final = 0.3
_BENT: Final = 0.02
#: Tensors smaller than this tell nothing by which of their elements change.
_LEAST_ELEMENTS: Final = 4


@dataclass(frozen=True)
class Influence:
    """The largest change of each output where each input was drawn anew: `change[input][output]`.

    Relative to max(1, |value|), and 0 where nothing but rounding changed.
    """

    change: Mapping[str, Mapping[str, float]]
    identical: Mapping[str, frozenset[str]]

    def reaches(self, name: str, output: str) -> bool:
        """Tell whether an output changed with an input."""
        return self.change[name][output] > 0


def measure(
    trial: Trial, names: Sequence[str], feeds: Sequence[Arrays], values: Values
) -> Influence:
    """Draw each of some inputs anew, and see what changes. `feeds` are runs to begin with.

    `identical[input]` are outputs that always held what that input did. Raises TrialError.
    """
    change: dict[str, dict[str, float]] = {n: dict.fromkeys(trial.outputs, 0.0) for n in names}
    identical = {name: set(trial.outputs) for name in names}
    for feed in feeds:
        before = trial.run(feed)
        for name in names:
            identical[name] &= {o for o, v in before.items() if _same(feed[name], v)}
            drawn = values.draw(name, feed[name].dtype, feed[name].shape)
            try:
                after = trial.run(feed | {name: drawn})
            except TrialError:  # an integer that is no index, perhaps: it has influence
                change[name] = dict.fromkeys(trial.outputs, 1.0)
                continue
            for output in trial.outputs:
                found = difference(before[output], after[output])
                change[name][output] = max(change[name][output], found)
    return Influence(change, {name: frozenset(found) for name, found in identical.items()})


def carried(trial: Trial, feed: Arrays, name: str, output: str, values: Values) -> float:
    """Return which part of an input's elements goes into one element each of an output, in a line.

    That is how an LSTM's cell state comes to its successor (c' = f * c + i * g), and how a buffer
    does; an answer that is computed from a state mixes its elements or bends them. Elements are
    raised one at a time, by a little and by 64 times that. Raises TrialError.
    """
    base = feed[name]
    if base.dtype.kind != "f" or base.size < _LEAST_ELEMENTS:
        return 0.0

    def changes(place: int, by: float) -> np.ndarray:
        raised = base.copy()
        raised.reshape(-1)[place] += by
        after = trial.run(feed | {name: raised}, [output])[output]
        return (after.astype(np.float64) - before).reshape(-1)

    before = trial.run(feed, [output])[output].astype(np.float64)
    places = values.rng.permutation(base.size)[:_PROBES]
    found = [_one_goes(p, changes(p, _SMALL), changes(p, _SMALL * _FACTOR)) for p in places]
    return float(np.mean(found))


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Return the largest difference, relative to max(1, |a|); 0 for what is only rounding."""
    if a.shape != b.shape:
        return 1.0
    x, y = a.astype(np.float64), b.astype(np.float64)
    both = np.isfinite(x) & np.isfinite(y)
    if (np.isfinite(x) != np.isfinite(y)).any():
        return 1.0
    largest = np.max(np.abs(x - y) / np.maximum(1.0, np.abs(x)), where=both, initial=0.0)
    return float(largest) if largest > _noise(a) else 0.0


def _noise(array: np.ndarray) -> float:
    return 1e-3 if array.dtype == np.float16 else _NOISE


def _same(value: np.ndarray, output: np.ndarray) -> bool:
    return value.shape == output.shape and bool(np.array_equal(value, output))


def _one_goes(place: int, little: np.ndarray, much: np.ndarray) -> bool:
    """Tell whether one element of an input moves one element of an output, in a straight line.

    `little` and `much` are what raising the element at `place` did. What it moves is at the same
    place, or, as in a buffer, hardly any others move at all.
    """
    changed = np.abs(much) > _NOTABLE
    straight = changed & (np.abs(much - _FACTOR * little) <= _BENT * np.abs(much))
    if int(straight.sum()) != 1:
        return False
    return bool(straight[place]) or int(changed.sum()) <= 2
