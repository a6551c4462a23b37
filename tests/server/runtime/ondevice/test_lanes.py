"""Ticks, copies and writes that are under way together, on a device that puts everything off."""

from __future__ import annotations

import gc
import queue
import random
import threading
from collections import deque

import numpy as np
import pytest

from carousel_server.runtime.ondevice.memory import Stream
from tests.support.deferred import DeferredMemory
from tests.support.loaded import load
from tests.support.ondevice import always_by_steps, inputs, open_on_device
from tests.support.recurrent import cell, growing

SLOTS = 24


def same(one, other):
    np.testing.assert_allclose(one, other, atol=1e-5, rtol=1e-5)


class Pair:
    """A model on such a device, and the ordinary one, which does the same at once."""

    def __init__(self, folder, seed, *, by_steps):
        made = cell("lstm", layers=2)
        self.ours = open_on_device(
            folder, made, slots=SLOTS, memory=DeferredMemory(seed), largest=4
        )
        if by_steps:
            always_by_steps(self.ours)
        self.ordinary = load(folder, made, slots=SLOTS)
        self.rng, self.random = np.random.default_rng(seed), random.Random(seed)
        self.flights, self.copies = deque(), []

    def some(self):
        """Return slots that no tick is under way for."""
        flying = [slots for _, slots, *_ in self.flights]
        free = np.setdiff1d(np.arange(1, SLOTS + 1), np.concatenate([[], *flying]))
        return self.rng.permutation(free)[: self.rng.integers(1, min(len(free), 7) + 1)]

    def start(self):
        if len(self.flights) == 3:
            return
        slots, longest = self.some(), self.random.choice([1, 1, 3])
        lengths = self.rng.integers(1, longest + 1, len(slots))
        lengths[0] = longest
        values = inputs(self.ours, self.rng, longest, len(slots))
        wanted = self.ordinary.run(slots, lengths, values)[0]["y"]
        run = self.ours.start(slots, lengths, values)
        within = np.arange(longest)[:, None] < lengths
        values["x"][:] = np.nan  # they were taken over
        self.flights.append((run, slots, within, wanted))

    def land(self):
        if self.flights:
            run, _, within, wanted = self.flights.popleft()
            outputs, bad = run.finish()
            assert not bad.any()
            same(outputs["y"][within], wanted[within])

    def copy(self):
        slots = self.some()
        self.copies.append((self.ours.copy(slots), self.ordinary.read(slots)))

    def look(self):
        if self.copies:
            copy, wanted = self.copies.pop(self.random.randrange(len(self.copies)))
            for name, value in wanted.items():
                same(copy.get()[name], value)
            assert copy.done

    def forget(self):
        if self.copies:
            self.copies.pop(self.random.randrange(len(self.copies)))

    def write(self):
        slots = self.some()
        states = {
            s.name: self.rng.normal(size=(len(slots), *s.shape)).astype(s.dtype)
            for s in self.ours.spec.states
        }
        self.ordinary.write(slots, states)
        self.ours.write(slots, states)
        for given in states.values():
            given[:] = np.nan


class Reader(threading.Thread):
    """Gets copies that others get too."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.copies, self.seen = queue.Queue(), []

    def run(self):
        while (given := self.copies.get()) is not None:
            copy, wanted = given
            self.seen.append((copy.get(), wanted, copy.done))


@pytest.mark.parametrize("seed", range(3))
def test_threads_read_the_same_copies_while_another_model_is_captured(tmp_path, seed):
    """The keeper, a snapshot and the engine; and a new version that is loaded meanwhile."""
    pair, readers = Pair(tmp_path, seed, by_steps=False), [Reader(), Reader()]
    other = open_on_device(tmp_path, cell("lstm"), memory=DeferredMemory(seed), largest=2)
    other.memory.gate = pair.ours.memory.gate
    capturing = threading.Thread(
        target=lambda: [other.steps.exchange(1 + n % 2).capture(rest) for n in range(40)],
        daemon=True,
    )
    for thread in (*readers, capturing):
        thread.start()
    for _ in range(60):
        pair.random.choice([pair.start, pair.start, pair.land])()
        pair.copy()
        for reader in readers:
            reader.copies.put(pair.copies[-1])
        pair.look()
    for reader in readers:
        reader.copies.put(None)
    for thread in (*readers, capturing):
        thread.join(60)
        assert not thread.is_alive(), "it waits for somebody who waits for it"
    for states, wanted, done in [seen for reader in readers for seen in reader.seen]:
        assert done
        for name, value in wanted.items():
            same(states[name], value)
    assert [len(reader.seen) for reader in readers] == [60, 60]


def rest(there):
    for values in there.values():
        values[...] = 0


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("by_steps", [False, True], ids=["whole", "steps"])
def test_whatever_is_under_way_together_comes_out_as_if_it_were_not(tmp_path, seed, by_steps):
    pair = Pair(tmp_path, seed, by_steps=by_steps)
    whatever = [pair.start, pair.start, pair.land, pair.copy, pair.look, pair.forget, pair.write]
    for _ in range(120):
        pair.random.choice(whatever)()
    while pair.flights:
        pair.land()
    everything = np.arange(1, SLOTS + 1)
    states, wanted = pair.ours.read(everything), pair.ordinary.read(everything)
    for name, value in wanted.items():
        same(states[name], value)
    assert pair.ours.overlapped > 5


def test_a_tick_is_done_when_it_is(tmp_path):
    model = open_on_device(tmp_path, cell("lstm"), memory=DeferredMemory(1))
    values = inputs(model, np.random.default_rng(0), 1, 2)
    run = model.start(np.array([1, 2]), np.ones(2, np.int64), values)
    copy = model.copy(np.array([3]))
    assert model.memory.queued
    while not (run.done and copy.done):
        pass
    assert not model.memory.queued or copy.get() is copy.get()
    run.finish()


def test_a_tick_alone_goes_straight_and_one_behind_it_is_staged(tmp_path):
    memory = DeferredMemory(2)
    model = open_on_device(tmp_path, cell("lstm"), memory=memory)
    values, ones = inputs(model, np.random.default_rng(0), 1, 2), np.ones(2, np.int64)
    for _ in range(2):  # the first time, buckets are captured
        model.start(np.array([1, 2]), ones, values).finish()
    memory.wait_for_all()
    alone = model.start(np.array([1, 2]), ones, values)
    assert {stream for stream, queue in memory._queues.items() if queue} == {Stream.COMPUTE}
    behind = model.start(np.array([3, 4]), ones, values)
    assert all(memory._queues[stream] for stream in (Stream.INWARD, Stream.OUTWARD))
    alone.finish()
    behind.finish()
    assert model.overlapped == 1
    model.start(np.array([1, 2]), ones, values).finish()
    assert model.overlapped == 1


def test_a_row_that_overflows_half_way_while_others_run_has_its_old_state(tmp_path):
    model = always_by_steps(
        open_on_device(tmp_path, growing(), memory=DeferredMemory(3), largest=2)
    )
    before = {"h0": np.zeros((3, 8), np.float32)}
    before["h0"][:, 3] = 2.0**-80
    model.write(np.array([2, 5, 6]), before)
    ones = np.zeros((4, 3, 3), np.float32)
    ones[:, :, 0] = 1.0
    run = model.start(np.array([2, 5, 6]), np.array([4, 1, 2]), {"x": ones})
    other = model.start(np.array([1, 3, 4]), np.array([2, 2, 1]), {"x": ones[:2]})
    assert run.finish()[1].tolist() == [True, False, False]
    assert not other.finish()[1].any()
    states = model.read(np.array([2, 5, 6, 1, 3, 4]))["h0"]
    assert states[0].tolist() == before["h0"][0].tolist()
    np.testing.assert_allclose(states[1:, 0], [1, 1e20, 1e20, 1e20, 1], rtol=1e-6)


def test_copies_that_nobody_waits_for_are_not_freed_under_way(tmp_path):
    model = open_on_device(tmp_path, cell("lstm"), memory=DeferredMemory(4))
    for _ in range(8):
        model.copy(np.array([1, 2]))
    gc.collect()
    model.memory.wait_for_all()
    model.copy(np.array([1, 2])).get()
    gc.collect()
    kept = model.pool._out._idle[2]
    assert len(kept) < 12, "what was needed once is not kept"


class Failing(DeferredMemory):
    """It refuses one of the next launches, when it is told to: the device has no room."""

    left = -1

    def launch(self, run):
        self.left -= 1
        if self.left == 0:
            raise RuntimeError("out of memory")
        super().launch(run)


@pytest.mark.parametrize("launch", [1, 2])
@pytest.mark.parametrize("way", ["copy", "write"])
def test_rows_whose_copy_fails_half_way_are_not_freed_under_way(tmp_path, monkeypatch, way, launch):
    monkeypatch.setattr("carousel_server.runtime.ondevice.devicepool.LARGEST", 4)
    memory = Failing(5)
    model = open_on_device(tmp_path, cell("lstm"), slots=12, memory=memory)
    slots, rows = np.arange(1, 12), {s.name: np.ones((11, 8)) for s in model.spec.states}
    memory.left = launch
    with pytest.raises(RuntimeError, match="out of memory"):
        model.copy(slots) if way == "copy" else model.write(slots, rows)
    gc.collect()
    memory.wait_for_all()
    model.write(slots, rows)
    assert (model.read(slots)["h0"] == 1).all(), "it goes on"


def test_what_is_staged_for_a_capture_that_fails_is_not_freed_under_way(tmp_path):
    memory = Failing(7)
    bucket = open_on_device(tmp_path, cell("lstm"), memory=memory).steps.exchange(1)
    memory.left = 1
    with pytest.raises(RuntimeError, match="out of memory"):
        bucket.capture(lambda _: None)
    gc.collect()
    memory.wait_for_all()


@pytest.mark.parametrize("bound", ["_MOST_COPIES", "_MOST_BYTES"])
def test_copies_that_wait_for_the_store_leave_the_device(tmp_path, monkeypatch, bound):
    monkeypatch.setattr(f"carousel_server.runtime.ondevice.rowcopy.{bound}", 3)
    memory = DeferredMemory(6)
    model = open_on_device(tmp_path, cell("lstm"), memory=memory)
    copies = []
    for number in range(20):
        model.write(np.array([1]), {s.name: np.full((1, 8), number) for s in model.spec.states})
        copies.append(model.copy(np.array([1])))
    held = [copy for copy in copies if copy._parts]
    assert len(held) <= 3
    assert [copy.get()["h0"][0, 0] for copy in copies] == list(range(20))


class Full(DeferredMemory):
    """It ends at the next block where it is told to."""

    full = False

    def block(self, nbytes):
        if self.full:
            raise RuntimeError("Failed to allocate memory for requested buffer")
        return super().block(nbytes)


def test_where_there_is_no_room_rows_travel_one_after_the_other(tmp_path):
    memory = Full(8)
    model = open_on_device(tmp_path, cell("lstm"), slots=40, largest=4, memory=memory)
    slots, rows = np.array([1, 2]), {s.name: np.ones((2, 8)) for s in model.spec.states}
    model.write(slots, rows)
    memory.full = True
    for value in (2, 3):
        model.write(slots, {name: np.full((2, 8), value) for name in rows})
    with pytest.raises(RuntimeError, match="Failed to allocate"):
        model.write(np.arange(1, 31), {name: np.zeros((30, 8)) for name in rows})
    memory.full = False
    assert (model.read(slots)["h0"] == 3).all()
