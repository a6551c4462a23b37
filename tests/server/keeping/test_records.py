"""Between columns of states and the bytes of records."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from carousel_server.keeping.records import (
    Recorder,
    place_to_go_on,
    schema_difference,
    schema_of,
)
from carousel_server.store.interface import Checkpoint, Record
from tests.server.rpc.test_snapshots import gathered, model, state
from tests.server.store.some import HEADER, at

F2, F4, F8, I8 = (np.dtype(name) for name in ("<f2", "<f4", "<f8", "<i8"))
STATES = (state("h", F4, 2, 3), state("n", I8), state("c", F4, 1))


def recorder(*states) -> Recorder:
    return Recorder("m", "7", "ab" * 32, model(*(states or STATES)).spec)


def test_what_is_saved_is_what_goes_on():
    made = gathered(3)
    saves = recorder().saves(made, [4, 5, 6])
    assert (list(saves.ids), list(saves.tokens)) == (["s"] * 3, [4, 5, 6])
    assert list(saves.marks) == [""] * 3
    for row, (header, checkpoint) in enumerate(zip(saves.headers, saves.checkpoints, strict=True)):
        assert (header.model, header.version, header.sha256) == ("m", "7", "ab" * 32)
        assert checkpoint.step == 41 + row
        assert len(checkpoint.data) == 24 + 8 + 4
        mark = recorder().mark(header, checkpoint)
        assert mark.step == 41 + row
        for name, values in made.states.items():
            np.testing.assert_array_equal(mark.states[name], values[row])
            assert mark.states[name].dtype == values.dtype


def test_states_in_another_order_are_found_by_name():
    saves = recorder().saves(gathered(), [1])
    mark = recorder(*STATES[::-1]).mark(saves.headers[0], saves.checkpoints[0])
    np.testing.assert_array_equal(mark.states["h"], gathered().states["h"][0])
    assert not recorder(*STATES[::-1]).difference(saves.headers[0])


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(F2, (2, 3), elements=st.floats(-60000, 60000, width=16)))
def test_narrow_floats_come_back_wide_and_exact(values):
    made = gathered()
    made.states["h"] = values[None]
    saves = recorder(state("h", F2, 2, 3), *STATES[1:]).saves(made, [1])
    mark = recorder().mark(saves.headers[0], saves.checkpoints[0])
    assert mark.states["h"].dtype == F4
    np.testing.assert_array_equal(mark.states["h"], values)


def test_a_value_that_a_narrower_state_cant_hold_is_a_fault_of_the_next_step():
    made = gathered()
    made.states["h"][:] = 1e6
    saves = recorder().saves(made, [1])
    mark = recorder(state("h", F2, 2, 3), *STATES[1:]).mark(saves.headers[0], saves.checkpoints[0])
    assert np.isinf(mark.states["h"]).all()


@pytest.mark.parametrize(
    ("states", "why"),
    [
        (STATES, ""),
        ((state("h", F8, 2, 3), *STATES[1:]), ""),
        (STATES[:2], "states: ['c', 'h', 'n'] were saved, ['h', 'n'] are the model's"),
        (
            (state("h", F4, 6), *STATES[1:]),
            "state 'h': shape [2, 3] was saved, shape [6] is the model's",
        ),
        (
            (STATES[0], state("n", F4), STATES[2]),
            "state 'n': int64 was saved, float32 is the model's",
        ),
        (
            (STATES[0], state("n", np.dtype("<i4")), STATES[2]),
            "state 'n': int64 was saved, int32 is the model's",
        ),
    ],
)
def test_how_states_differ(states, why):
    assert schema_difference(schema_of(STATES), states) == why


@pytest.mark.parametrize(
    ("delivered", "step"),
    [(None, 30), (0, None), (9, None), (10, 10), (29, 20), (30, 30), (10**18, 30)],
)
def test_where_to_go_on(delivered, step):
    record = Record("x", HEADER, 1, (at(10), at(20), at(30)), (("m", at(25)),))
    found = place_to_go_on(record, delivered)
    assert (found and found.step) == step


def test_without_a_checkpoint_it_is_the_beginning():
    assert place_to_go_on(Record("x", HEADER, 1, ()), None) is None
    assert place_to_go_on(Record("x", HEADER, 1, ()), 5) is None
    assert place_to_go_on(Record("x", HEADER, 1, (Checkpoint(0, b""),)), 0).step == 0
