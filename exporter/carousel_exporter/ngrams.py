"""What a network of characters has to beat: counting which character followed the last few.

Interpolated Witten-Bell smoothing (Witten and Bell 1991, method C, as in Chen and Goodman 1999,
section 2.6): after a context h that was seen c(h) times and followed by t(h) different characters,

    p(x | h) = (c(h, x) + t(h) p(x | h')) / (c(h) + t(h)),

where h' is h without its oldest character; below the empty context all characters are alike. It
needs no discount to be tuned, and does well on small alphabets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from carousel_exporter.corpus import Ids
from carousel_exporter.errors import SettingsError

Counts = NDArray[np.int64]


def bits_a_character(known: Ids, judged: Ids, *, vocabulary: int, order: int = 5) -> float:
    """Return the mean -log2 p of `judged` (M,), after counting in `known` (N,).

    An order of 5 is a character after four others. `judged` goes on where `known` ends or from
    anywhere else: its own characters are the contexts, and its first `order` - 1 are not judged.
    Raises SettingsError where that leaves none.
    """
    if order < 1 or len(judged) < order:
        raise SettingsError(
            f"Judging with an order of {order} takes {order} characters, not {len(judged)}."
        )
    return float(-np.log2(probabilities(known, judged, vocabulary=vocabulary, order=order)).mean())


def probabilities(
    known: Ids, judged: Ids, *, vocabulary: int, order: int = 5
) -> NDArray[np.float64]:
    """Return p of each character of `judged` from place `order` - 1 on, (M - order + 1,)."""
    places = len(judged) - order + 1
    p = np.full(places, 1 / vocabulary)
    # Counted in both texts' joint numbering, so that a context has one number everywhere.
    both = np.concatenate([known, judged])
    contexts = np.zeros(len(both) + 1, np.int64)  # of the character at each place: none yet
    for length in range(order):
        if length:
            contexts = _longer(contexts, both, length, vocabulary)
        follows = contexts[:-1] * vocabulary + both
        in_known = slice(length, len(known))
        in_judged = slice(len(known) + order - 1, len(both))
        counts = _count(contexts[in_known], follows[in_known], vocabulary)
        p = _interpolate(p, counts, contexts[in_judged], follows[in_judged])
    return p


def _longer(contexts: Counts, both: Ids, length: int, vocabulary: int) -> Counts:
    """Give contexts of `length` characters a number each, for the character at each place.

    Takes the numbers of those that are one character shorter; the first `length` places have no
    whole context, and are not asked for.
    """
    older = np.concatenate([np.zeros(length, np.int64), both[: len(both) + 1 - length]])
    _, numbers = np.unique(contexts * vocabulary + older, return_inverse=True)
    return numbers.astype(np.int64)


@dataclass(frozen=True)
class _Counted:
    """What followed what in the known text, by numbers in ascending order.

    `contexts` (K,) were seen `times` and followed by `kinds` different characters, `pairs` (L,) of
    a context and a character `pair_times`.
    """

    contexts: Counts
    times: Counts
    kinds: Counts
    pairs: Counts
    pair_times: Counts


def _count(contexts: Counts, follows: Counts, vocabulary: int) -> _Counted:
    """Count contexts (N,) and what follows them (N,): context * vocabulary + character."""
    pairs, pair_times = np.unique(follows, return_counts=True)
    seen, times = np.unique(contexts, return_counts=True)
    _, kinds = np.unique(pairs // vocabulary, return_counts=True)  # in the same order as `seen`
    return _Counted(seen, times, kinds, pairs, pair_times)


def _interpolate(
    lower: NDArray[np.float64], counted: _Counted, contexts: Counts, follows: Counts
) -> NDArray[np.float64]:
    """Mix the counts of one order with the probabilities of the order below, (M,)."""
    c_hx = _look_up(counted.pairs, counted.pair_times, follows)
    c_h = _look_up(counted.contexts, counted.times, contexts)
    t_h = _look_up(counted.contexts, counted.kinds, contexts)
    whole = c_h + t_h
    mixed = (c_hx + t_h * lower) / np.maximum(whole, 1)
    return np.where(whole > 0, mixed, lower)


def _look_up(keys: Counts, values: Counts, wanted: Counts) -> Counts:
    """Return the value of each wanted key, 0 where it isn't there; `keys` are in order."""
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, values[places], 0)
