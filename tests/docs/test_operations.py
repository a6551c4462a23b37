"""docs/operations.md: its formulas are what the server does, its tables what they give."""

from __future__ import annotations

import numpy as np
import pytest

from carousel_server.engine.lot import ParkingLot
from carousel_server.runtime.device import Device
from carousel_server.runtime.pool import Pool
from carousel_server.spec import StateSpec
from tests.docs.pages import blocks, tables

PAGE = "docs/operations.md"
GIB = 1024**3


@pytest.fixture(scope="module")
def formulas():
    (code,) = blocks(PAGE, "python sizing")
    names = {}
    exec(code, names)
    return names


def states(layers, hidden):
    """Return the states of an LSTM, as its manifest has them."""
    zeros = np.zeros(hidden, np.float32)
    return [
        StateSpec(f"{kind}{layer}", f"{kind}{layer}_out", zeros.dtype, zeros.shape, zeros)
        for layer in range(layers)
        for kind in "hc"
    ]


@pytest.mark.parametrize(("layers", "hidden"), [(1, 8), (3, 20)])
def test_a_session_and_a_pool_take_what_is_said(formulas, layers, hidden):
    size = formulas["lstm_state_bytes"](layers, hidden)
    assert size == sum(state.nbytes for state in states(layers, hidden))
    pool = Pool(states(layers, hidden), 9, Device("cpu"))
    real = sum(tensor.numpy().nbytes for tensor in pool.tensors.values())
    assert formulas["pool_bytes"](9, size) == real


@pytest.mark.parametrize("half", [False, True])
def test_a_parked_session_takes_what_is_said(formulas, half):
    lot = ParkingLot(states(2, 16), half=half)
    size = formulas["lstm_state_bytes"](2, 16)
    assert formulas["parked_bytes"](1, size, half) == lot.row_bytes


def test_the_slots_that_fit_do_and_more_would_not(formulas):
    device, weights, size = 16 * GIB, 50_000_000, 4096
    slots = formulas["slots_that_fit"](device, weights, size)
    room = device * 0.7 - weights
    pool = formulas["pool_bytes"]
    assert pool(slots, size) <= room < pool(slots + 1, size)


def test_servers_that_are_left_hold_all_sessions(formulas):
    needed = formulas["servers_needed"]
    assert needed(1000, 300) == 5
    assert all((needed(n, 7) - 1) * 7 >= n > (needed(n, 7) - 2) * 7 for n in range(1, 60))


def test_the_table_is_what_the_formulas_give(formulas):
    rows = tables(PAGE, "layers")
    assert len(rows) == 5
    for row in rows:
        layers, hidden, size, small, large = (int(cell.replace(",", "")) for cell in row)
        assert size == formulas["lstm_state_bytes"](layers, hidden)
        fit = formulas["slots_that_fit"]
        assert [small, large] == [fit(g * GIB, 50_000_000, size) for g in (16, 80)]
