"""Steps in buckets, on the CPU provider, beside the ordinary way: ragged or not, all is equal."""

from __future__ import annotations

import threading
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carousel_server.errors import RunError
from carousel_server.runtime import poolgraph
from carousel_server.runtime.ondevice.exchange import Exchange
from carousel_server.runtime.ondevice.steps import Launch, plan
from tests.support import models
from tests.support.guards import context
from tests.support.loaded import load
from tests.support.ondevice import always_by_steps, inputs, open_on_device
from tests.support.recurrent import CELLS, cell, growing

SLOTS = 12


def same(one, other):
    """Whether values are equal up to what another order of sums makes of them."""
    np.testing.assert_allclose(one, other, atol=1e-5, rtol=1e-5)


def pair(folder, made, **options):
    """Return the model by steps in small buckets, and the ordinary one."""
    ours = open_on_device(folder, made, slots=SLOTS, largest=4, **options)
    return always_by_steps(ours), load(folder, made, slots=SLOTS)


def everything(model):
    return model.read(np.arange(1, SLOTS + 1))


def test_launches_cover_the_rows_that_still_have_a_step():
    costs = {1: 1.0, 2: 1.9, 4: 3.7}
    assert list(plan([5, 2, 1], costs)) == [
        Launch(0, 0, 4, 4), Launch(0, 4, 5, 1),
        Launch(1, 0, 2, 2),
        Launch(2, 0, 1, 1),
    ]  # fmt: skip


@pytest.fixture(scope="module", params=[*CELLS, "no lengths", "one step", "context"])
def both(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    made = {
        "no lengths": lambda: cell("lstm", sequence_lens=False),
        "one step": lambda: models.running_sum(3),
        "context": context,
    }.get(request.param, lambda: cell(request.param, layers=2))()
    return pair(folder, made)


SCHEDULES = st.lists(
    st.lists(st.integers(1, 5), min_size=1, max_size=SLOTS), min_size=1, max_size=4
)


@given(SCHEDULES, st.integers(0, 2**32 - 1))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_random_ragged_schedules_are_the_ordinary_way(both, schedule, seed):
    ours, ordinary = both
    rng = np.random.default_rng(seed)
    for drawn in schedule:
        rows = len(drawn)
        lengths = drawn if ours.spec.ragged else [drawn[0] if ours.spec.time_axis else 1] * rows
        given_ = np.array(lengths, np.int64)
        slots = rng.permutation(np.arange(1, SLOTS + 1))[:rows]
        values = inputs(ours, rng, max(lengths), rows)
        came, bad = ours.run(slots, given_, values)
        wanted, wanted_bad = ordinary.run(slots, given_, values)
        assert not bad.any()
        assert not wanted_bad.any()
        within = np.arange(max(lengths))[:, None] < given_  # (T, B)
        for name, value in wanted.items():
            if ours.spec.time_axis:
                same(came[name][within], value[within])
            else:
                same(came[name], value)
    states, wanted_states = everything(ours), everything(ordinary)
    for name, value in wanted_states.items():
        same(states[name], value)
        assert (states[name][~value.any(axis=1)] == 0).all(), "other slots stay"


def test_finished_rows_stay_untouched_to_the_bit(tmp_path):
    ours, _ = pair(tmp_path, cell("lstm"))
    rng = np.random.default_rng(0)
    slots, x = np.array([3, 7, 1]), inputs(ours, rng, 5, 3)
    ours.run(slots, np.array([5, 1, 2]), x)
    after = everything(ours)
    alone, _ = pair(tmp_path / "alone", cell("lstm"))
    alone.run(np.array([7]), np.array([1]), {"x": x["x"][:1, 1:2]})
    same(after["h0"][6], everything(alone)["h0"][6])
    for slot in (2, 4, 5, 6, 8, 9, 10, 11, 12):
        assert not after["h0"][slot - 1].any()


def test_a_row_that_overflows_half_way_has_its_old_state(tmp_path):
    """Earlier steps of its piece were written by then."""
    ours, ordinary = pair(tmp_path, growing())
    slots, lengths = np.array([2, 5, 6]), np.array([4, 1, 2])
    x = np.zeros((4, 3, 3), np.float32)
    x[:, :, 0] = 1.0
    before = {"h0": np.zeros((3, 8), np.float32)}
    before["h0"][:, 3] = 2.0**-80
    for model in (ours, ordinary):
        model.write(slots, before)
        _, bad = model.run(slots, lengths, {"x": x})
        assert bad.tolist() == [True, False, False]
        states = model.read(slots)["h0"]
        assert states[0].tolist() == before["h0"][0].tolist()
        np.testing.assert_allclose(states[1:, 0], [1, 1e20], rtol=1e-6)


def failing_at(call: int):
    """Have the device fail at some run of many, as one that is out of memory does."""
    launch, calls = Exchange.launch, iter(range(1000))

    def failing(self, on_host=None):
        steps = any(port.name == poolgraph.BAD for port in self.outputs.ports)
        if steps and next(calls) == call:
            raise RuntimeError("out of memory")
        launch(self, on_host)

    return patch.object(Exchange, "launch", failing)


@pytest.mark.parametrize("call", range(5))
def test_a_run_that_fails_half_way_has_advanced_nobody(tmp_path, call):
    ours, ordinary = pair(tmp_path, cell("lstm"))
    rng = np.random.default_rng(2)
    slots, lengths = np.arange(1, 8), np.array([3, 1, 2, 3, 1, 2, 3])
    first = inputs(ours, rng, 3, 7)
    for model in (ours, ordinary):
        model.run(slots, lengths, first)
    before, second = everything(ours), inputs(ours, rng, 3, 7)
    with failing_at(call), pytest.raises(RunError, match="out of memory"):
        ours.run(slots, lengths, second)
    for name, value in everything(ours).items():
        np.testing.assert_array_equal(value, before[name])
    came, _ = ours.run(slots, lengths, second)  # one tick failed, not the server
    wanted, _ = ordinary.run(slots, lengths, second)
    same(came["y"][0], wanted["y"][0])


def test_captures_are_a_threads_own_and_touch_scratch_alone(tmp_path):
    ours, _ = pair(tmp_path, cell("lstm"))
    rng = np.random.default_rng(3)
    ours.run(np.arange(1, 5), np.ones(4, np.int64), inputs(ours, rng, 1, 4))
    before, captured = everything(ours), ours.counts.captures
    ours.steps.prepare(4)
    assert ours.counts.captures == captured, "this thread has it"
    other = threading.Thread(target=ours.steps.prepare, args=(4,))
    other.start()
    other.join()
    assert ours.counts.captures == captured + 1
    for name, value in everything(ours).items():
        np.testing.assert_array_equal(value, before[name])


def test_replays_are_counted(tmp_path):
    ours, _ = pair(tmp_path, cell("lstm"))
    before = ours.counts.replays
    ours.run(
        np.arange(1, 8),
        np.array([2, 1, 1, 1, 1, 1, 1]),
        inputs(ours, np.random.default_rng(0), 2, 7),
    )
    launches = list(plan([7, 1], dict.fromkeys(ours.steps.sizes, 0.0)))
    assert ours.counts.replays - before == len(launches)


def test_one_copy_each_way_for_each_launch(tmp_path):
    """However many tensors there are."""
    ours = open_on_device(tmp_path, cell("lstm", layers=2))
    values = inputs(ours, np.random.default_rng(0), 1, 4)
    ours.run(np.arange(1, 5), np.ones(4, np.int64), values)
    traffic = ours.memory.traffic
    before = (traffic.copies_in, traffic.copies_out)
    ours.run(np.arange(1, 5), np.ones(4, np.int64), values)
    assert (traffic.copies_in - before[0], traffic.copies_out - before[1]) == (1, 1)
