"""What runs next: pure functions of columns."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carousel_server.engine import scheduler
from carousel_server.engine.cost import RunCost
from carousel_server.engine.status import RowStatus

GOOD = {"status": 0, "valid": 0, "tickets": 7, "barrier": 0, "expected": 5, "applied": 5}


def screen_one(*, late: bool | None = None, **column: int) -> RowStatus:
    columns = {name: np.array([value]) for name, value in (GOOD | column).items()}
    (code,) = scheduler.screen(**columns, late=None if late is None else np.array([late]))
    return RowStatus(code)


@pytest.mark.parametrize(
    ("column", "status"),
    [
        ({}, RowStatus.OK),
        ({"expected": -1}, RowStatus.OK),
        ({"barrier": 7}, RowStatus.OK),
        ({"late": False}, RowStatus.OK),
        ({"expected": 6}, RowStatus.OUT_OF_ORDER),
        ({"barrier": 8}, RowStatus.OUT_OF_ORDER),
        ({"expected": -1, "barrier": 8}, RowStatus.OUT_OF_ORDER),
        ({"expected": 4}, RowStatus.ALREADY_APPLIED),
        ({"expected": 0, "applied": 1}, RowStatus.ALREADY_APPLIED),
        ({"late": True}, RowStatus.DEADLINE),
        ({"late": True, "expected": 4}, RowStatus.ALREADY_APPLIED),
        ({"late": True, "expected": 6}, RowStatus.OUT_OF_ORDER),
        ({"status": RowStatus.INVALID, "late": True, "expected": 6}, RowStatus.INVALID),
        ({"valid": RowStatus.STALE_HANDLE, "status": RowStatus.INVALID}, RowStatus.STALE_HANDLE),
    ],
)
def test_screen(column, status):
    assert screen_one(**column) is status


def limits(**given) -> scheduler.Limits:
    return scheduler.Limits(
        **(
            {
                "rows": 99,
                "steps": 16,
                "seconds": 4e-3,
                "cost": RunCost(),
                "batch": 0,
                "ragged": True,
            }
            | given
        )
    )


@given(
    steps=st.lists(st.integers(1, 16), min_size=1, max_size=40),
    batch=st.integers(0, 5),
    ragged=st.booleans(),
)
def test_groups_hold_each_piece_once(steps, batch, ragged):
    lengths = np.array(steps)
    runs = scheduler.groups(lengths, limits(batch=batch, ragged=ragged))
    assert sorted(place for run in runs for place in run.tolist()) == list(range(len(steps)))
    for run in runs:
        assert len(run)
        assert (np.diff(run) > 0).all(), "places are in ascending order"
        assert not batch or len(run) <= batch
        inside = lengths[run]
        assert ragged or (inside == inside[0]).all()


@given(
    steps=st.lists(st.integers(1, 64), min_size=1, max_size=40),
    cost=st.builds(
        RunCost, run=st.floats(0, 1e-3), step=st.floats(1e-6, 1e-4), row=st.floats(1e-7, 1e-4)
    ),
)
def test_groups_cost_no_more_than_one_run_or_a_run_a_kind(steps, cost):
    lengths = np.array(steps)

    def seconds(runs):
        return sum(cost.seconds(int(lengths[run].max()), len(run)) for run in runs)

    kinds = np.ceil(np.log2(lengths))
    apart = [np.flatnonzero(kinds == kind) for kind in np.unique(kinds)]
    chosen = seconds(scheduler.groups(lengths, limits(cost=cost)))
    assert chosen <= min(seconds(apart), seconds([np.arange(len(lengths))])) * (1 + 1e-9)


def test_single_steps_share_one_run():
    assert len(scheduler.groups(np.ones(1000, np.int64), limits(ragged=False))) == 1


@given(streams=st.lists(st.integers(1, 4), min_size=1, max_size=40), count=st.integers(1, 40))
def test_streams_get_even_shares_of_a_tick(streams, count):
    places = scheduler.even_shares(np.array(streams), count).tolist()
    assert places == sorted(set(places))
    assert len(places) == min(count, len(streams))
    share = {stream: [place for place in places if streams[place] == stream] for stream in streams}
    for stream, own in share.items():
        whole = [place for place, other in enumerate(streams) if other == stream]
        assert own == whole[: len(own)], "a stream's oldest rows go first"
        if len(own) < len(whole):
            most = max(map(len, share.values()))
            assert len(own) >= most - 1, "nobody has more while this one waits"


@given(pieces=st.integers(1, 5000), steps=st.integers(1, 200), seconds=st.floats(1e-5, 1e-1))
def test_many_pieces_are_short_and_few_are_long(pieces, steps, seconds):
    given = limits(steps=steps, seconds=seconds)
    found = scheduler.piece_steps(pieces, given)
    assert 1 <= found <= steps
    assert found == 1 or found * (given.cost.step + pieces * given.cost.row) <= seconds
