"""Named places in sessions."""

from __future__ import annotations

import numpy as np
import pytest

from carousel_server.engine import controls, transfers
from carousel_server.engine.marks import Mark
from carousel_server.errors import NoRoom
from tests.support.bench import Bench, chunk, handles
from tests.support.recurrence import solo


def step(bench: Bench, handle: int, xs) -> np.ndarray:
    message = bench.send({handle: xs})
    bench.drain()
    return message.outputs[0]


def test_a_session_goes_on_from_its_mark_as_it_did():
    bench = Bench()
    (a,) = bench.open("a")
    xs = chunk(9)
    step(bench, a, xs[:4])
    marked = bench.now(transfers.mark(handles(a), "here")).value
    assert (marked.mark, marked.steps.tolist()) == ("here", [4])
    first = step(bench, a, xs[4:])
    rewound = bench.now(transfers.rewind_to_mark(handles(a), "here")).value
    assert rewound.found.tolist() == [True]
    assert rewound.gathered.steps.tolist() == [4]
    again = step(bench, a, xs[4:])
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(again, solo(xs)[4:])


def test_a_mark_is_moved_by_its_name():
    bench = Bench()
    (a,) = bench.open("a")
    for _ in range(2):
        step(bench, a, chunk(3))
        bench.now(transfers.mark(handles(a), "m"))
    step(bench, a, chunk(3))
    assert bench.now(transfers.rewind_to_mark(handles(a), "m")).value.gathered.steps.tolist() == [6]


def test_only_those_that_have_the_mark_go_back():
    bench = Bench()
    a, b = bench.open("a", "b")
    step(bench, a, chunk(2))
    bench.now(transfers.mark(handles(a), "m"))
    bench.send({a: chunk(1), b: chunk(5)})
    bench.drain()
    rewound = bench.now(transfers.rewind_to_mark(handles(b, a), "m")).value
    assert rewound.found.tolist() == [False, True]
    assert rewound.gathered.ids == ["a"]
    assert [info.applied for info in bench.now(controls.Describe(["a", "b"]))] == [2, 5]


def test_where_none_has_the_mark_nothing_happens():
    bench = Bench()
    (a,) = bench.open("a")
    step(bench, a, chunk(2))
    rewound = bench.now(transfers.rewind_to_mark(handles(a), "nope")).value
    assert rewound.found.tolist() == [False]
    assert rewound.gathered.ids == []
    assert bench.now(controls.Describe(["a"]))[0].applied == 2


def test_a_session_has_a_bounded_number_and_all_are_marked_or_none():
    bench = Bench()
    a, b = bench.open("a", "b")
    for number in range(16):
        bench.now(transfers.mark(handles(a), f"m{number}"))
    refused = bench.call(transfers.mark(handles(b, a), "one more"))
    bench.turn()
    assert isinstance(refused.error, NoRoom)
    assert bench.engine.sessions.marks.all(b & 0xFFFFFFFF) == {}
    bench.now(transfers.mark(handles(a, b), "m3"))  # it is moved
    assert len(bench.engine.sessions.marks.all(a & 0xFFFFFFFF)) == 16


def test_marks_end_with_their_session():
    bench = Bench()
    (a,) = bench.open("a")
    bench.now(transfers.mark(handles(a), "m"))
    bench.now(controls.close(handles(a)))
    (b,) = bench.open("b")
    assert b & 0xFFFFFFFF == a & 0xFFFFFFFF
    assert bench.now(transfers.rewind_to_mark(handles(b), "m")).value.found.tolist() == [False]


def test_marks_that_were_kept_elsewhere_are_put_back():
    bench = Bench()
    (a,) = bench.open("a")
    place = Mark(70, {"s": np.array(3.0)})
    bench.now(transfers.RestoreMarks([("a", "m", place), ("gone", "m", place)]))
    step(bench, a, chunk(2))
    bench.now(transfers.rewind_to_mark(handles(a), "m"))
    xs = chunk(3, seed=4)
    message = bench.send({a: xs}, first_step=[70])
    bench.drain()
    np.testing.assert_array_equal(message.outputs[0], solo(xs, 3.0))


def test_a_mark_does_not_change_with_the_pool():
    bench = Bench()
    (a,) = bench.open("a")
    step(bench, a, chunk(2))
    bench.now(transfers.mark(handles(a), "m"))
    before = bench.engine.sessions.marks.get(a & 0xFFFFFFFF, "m").states["s"].copy()
    step(bench, a, chunk(5))
    assert bench.engine.sessions.marks.get(a & 0xFFFFFFFF, "m").states["s"] == before


@pytest.mark.parametrize("steps", [0, 3])
def test_a_session_that_was_reset_can_still_go_to_its_marks(steps):
    bench = Bench()
    (a,) = bench.open("a")
    step(bench, a, chunk(3))
    bench.now(transfers.mark(handles(a), "m"))
    bench.now(controls.reset(handles(a)))
    if steps:
        step(bench, a, chunk(steps))
    assert bench.now(transfers.rewind_to_mark(handles(a), "m")).value.gathered.steps.tolist() == [3]
