"""More sessions than slots: states leave the pool and come back as they were."""

from __future__ import annotations

import numpy as np
import pytest

from carousel_server.engine import controls
from carousel_server.engine.directory import Directory
from carousel_server.engine.lot import ParkingLot
from carousel_server.errors import NoRoom
from carousel_server.reading import Here
from carousel_server.spec import StateSpec
from tests.support.bench import Bench, chunk, handles
from tests.support.recurrence import RecurrenceRunner, solo


def small(**options) -> Bench:
    return Bench(RecurrenceRunner(slots=2), **options)


def test_all_sessions_step_whatever_room_there_is():
    bench = small()
    opened = bench.open(*"abcdefg")
    xs = [chunk(9, seed=row) for row in range(len(opened))]
    parts = []
    for begin, end in ((0, 1), (1, 4), (4, 9)):
        sent = {handle: x[begin:end] for handle, x in zip(opened, xs, strict=True)}
        parts.append(bench.send(sent))
    bench.drain()
    for row, x in enumerate(xs):
        answers = np.concatenate([message.outputs[row] for message in parts])
        np.testing.assert_array_equal(answers, solo(x))


def test_rows_of_many_messages_in_one_tick_do_not_take_each_others_slots():
    bench = small()
    a, b, c, d = bench.open(*"abcd")
    for pair in ((a, b), (c, d), (a, d), (b, c)):
        first, second = (bench.send({handle: chunk(1)}) for handle in pair)
        bench.turn()
        if not (first.done and second.done):
            bench.drain()
    last = [bench.send({handle: chunk(1)}) for handle in (a, b, c, d)]
    bench.drain()
    expected = solo(np.concatenate([chunk(1)] * 3))[-1:]
    for message in last:
        np.testing.assert_array_equal(message.outputs[0], expected)


def test_those_that_were_idle_longest_make_room():
    bench = small()
    a, b, c = bench.open("a", "b", "c")
    for handle in (a, b, a, c):
        bench.clock.now += 1
        bench.send({handle: chunk(1)})
        bench.drain()
    parked = {info.id: info.parked for info in bench.now(controls.Describe(["a", "b", "c"]))}
    assert parked == {"a": False, "b": True, "c": False}


def test_idle_sessions_are_parked_and_come_back():
    bench = small()
    a, b = bench.open("a", "b")
    xs = chunk(3)
    bench.send({a: xs[:1], b: xs[:1]})
    bench.drain()
    bench.clock.now += 10
    bench.send({b: xs[1:2]})
    bench.drain()
    assert bench.now(controls.Park(5.0)) == 1
    residency = bench.engine.sessions.residency
    assert (residency.slots.used, residency.lot.taken) == (1, 1)
    message = bench.send({a: xs[1:]}, first_step=[1])
    bench.drain()
    np.testing.assert_array_equal(message.outputs[0], solo(xs)[1:])
    assert (residency.slots.used, residency.lot.taken) == (2, 0)


def test_a_session_with_queued_rows_is_not_parked():
    bench = small(max_steps_per_tick=1)
    (a,) = bench.open("a")
    message = bench.send({a: chunk(4)})
    bench.turn()
    bench.clock.now += 100
    park = bench.call(controls.Park(5.0))
    bench.turn()
    assert park.result == 0
    bench.drain()
    np.testing.assert_array_equal(message.outputs[0], solo(chunk(4)))


def test_nothing_is_kept_of_sessions_that_ended_or_were_reset():
    bench = small()
    opened = bench.open(*"abcde")
    bench.send(dict.fromkeys(opened, chunk(2)))
    bench.drain()
    residency = bench.engine.sessions.residency
    assert residency.slots.used + residency.lot.taken == 5
    bench.now(controls.reset(handles(*opened[:2])))
    assert residency.slots.used + residency.lot.taken == 3
    bench.now(controls.close(handles(*opened[1:])))
    assert residency.slots.used + residency.lot.taken == 0
    message = bench.send({opened[0]: chunk(2)})
    bench.drain()
    np.testing.assert_array_equal(message.outputs[0], solo(chunk(2)))


def test_states_that_the_client_gave_wait_for_the_first_step():
    bench = small()
    given = np.array([7.0, 8.0, 9.0])
    opened = bench.open("a", "b", "c", states={"s": given})
    bench.clock.now += 10
    bench.now(controls.Park(5.0))
    message = bench.send(dict.fromkeys(opened, chunk(3)))
    bench.drain()
    for row, state in enumerate(given):
        np.testing.assert_array_equal(message.outputs[row], solo(chunk(3), state))


def test_parked_and_new_sessions_that_come_in_together():
    bench = Bench(RecurrenceRunner(slots=2, initial=9.0))
    a, b = bench.open("a", "b")
    bench.send({a: chunk(1), b: chunk(1)})
    bench.drain()
    bench.clock.now += 10
    bench.now(controls.Park(5.0))
    (c,) = bench.open("c")
    message = bench.send({c: chunk(3), b: chunk(3)[1:]})
    bench.drain()
    np.testing.assert_array_equal(message.outputs[0], solo(chunk(3), 9.0))
    np.testing.assert_array_equal(message.outputs[1], solo(chunk(3), 9.0)[1:])


def test_the_servers_sessions_are_bounded_and_not_its_slots():
    bench = small(directory=Directory(3))
    bench.open("a", "b", "c")
    refused = bench.call(controls.Open(["d"], {}))
    bench.turn()
    assert isinstance(refused.error, NoRoom)


def lot(dtype: str, *, half: bool) -> ParkingLot:
    spec = StateSpec("s", "s_out", np.dtype(dtype), (3,), np.zeros(3, dtype))
    return ParkingLot([spec], half=half)


@pytest.mark.parametrize("dtype", ["<f4", "<f8", "<i8"])
def test_rows_of_the_lot_are_nobody_elses(dtype):
    parking = lot(dtype, half=False)
    rng = np.random.default_rng(0)
    kept: dict[int, np.ndarray] = {}
    for _ in range(60):
        values = rng.integers(0, 1000, (int(rng.integers(1, 90)), 3)).astype(dtype)
        rows = parking.put(len(values), Here({"s": values}))
        assert not set(rows.tolist()) & {0, *kept}
        kept |= dict(zip(rows.tolist(), values, strict=True))
        gone = rng.permutation(list(kept))[: len(kept) // 3]
        parking.give(gone)
        for row in gone.tolist():
            del kept[row]
        assert parking.taken == len(kept)
        back = parking.get(np.array(list(kept)))["s"]
        np.testing.assert_array_equal(back, np.array(list(kept.values())))
        assert back.dtype == dtype


def test_half_the_memory_and_the_error_is_told():
    parking = lot("<f4", half=True)
    values = np.array([[0.5, 1 / 3, 1e9], [-1e9, 0, 1000.1]], np.float32)
    rows = parking.put(len(values), Here({"s": values}))
    back = parking.get(rows)["s"]
    assert back.dtype == np.float32
    np.testing.assert_allclose(back[0, :2], values[0, :2], rtol=1e-3)
    assert np.isfinite(back).all()
    error = np.abs(back - values) / np.maximum(1, np.abs(values))
    assert parking.worst_error == pytest.approx(error.max())
    assert parking.row_bytes == 6
    assert lot("<f8", half=True).row_bytes == 24, "only float32 is narrowed"


class Coming:
    """States that come when somebody waits for them."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.nbytes = values, values.nbytes
        self.done, self.asked = False, 0

    def get(self):
        self.asked += 1
        self.done = True
        return {"s": self.values}


def numbers(*values: float) -> np.ndarray:
    return np.array([[value] * 3 for value in values], np.float32)


def test_states_that_are_still_to_come_are_waited_for_by_who_wants_them():
    parking = lot("<f4", half=False)
    first, second = Coming(numbers(1, 2)), Coming(numbers(3))
    ones, threes = parking.put(2, first), parking.put(1, second)
    here = parking.put(1, Here({"s": numbers(4)}))
    assert parking.taken == 4
    assert parking.get(here)["s"].tolist() == numbers(4).tolist()
    assert (first.asked, second.asked) == (0, 0)
    assert parking.get(threes)["s"].tolist() == numbers(3).tolist()
    assert parking.get(ones)["s"].tolist() == numbers(1, 2).tolist()
    assert (first.asked, second.asked) == (1, 1)


def test_states_that_have_come_are_taken_over_with_the_next():
    parking = lot("<f4", half=False)
    first = Coming(numbers(1))
    rows = parking.put(1, first)
    first.done = True
    parking.put(1, Here({"s": numbers(2)}))
    assert first.asked == 1
    assert parking.get(rows)["s"].tolist() == numbers(1).tolist()


def test_what_comes_for_a_session_that_is_gone_is_nobody_elses():
    parking = lot("<f4", half=False)
    late = Coming(numbers(1, 2))
    parking.give(parking.put(2, late))
    again = parking.put(1, Here({"s": numbers(9)}))
    other = parking.put(1, Coming(numbers(8)))
    assert parking.get(again)["s"].tolist() == numbers(9).tolist()
    assert parking.get(other)["s"].tolist() == numbers(8).tolist()
