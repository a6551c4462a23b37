"""Rows that can't be run, or that the model fails on, beside rows that are well."""

from __future__ import annotations

import math

import numpy as np
import pytest

from carousel_server.engine.status import RowStatus
from tests.support.bench import Bench, chunk
from tests.support.recurrence import CRASH, SPOIL, RecurrenceRunner, solo

OK = RowStatus.OK


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_invalid_and_harms_nobody(value):
    bench = Bench()
    a, b, c = bench.open("a", "b", "c")
    xs = chunk(3)
    wrong = xs.copy()
    wrong[1, 1] = value
    message = bench.send({a: xs, b: wrong, c: xs})
    bench.drain()
    assert message.status == {0: OK, 1: RowStatus.INVALID, 2: OK}
    assert message.errors[1] == (
        f"input 'x' is {value} at step 1 of the row; a finite number was expected"
    )
    assert (message.applied[1], message.lengths[1]) == (0, 0)
    again = bench.send({b: xs})
    bench.drain()
    np.testing.assert_array_equal(again.outputs[0], solo(xs))


def test_infinities_of_both_signs_are_found():
    bench = Bench()
    (a,) = bench.open("a")
    message = bench.send({a: [[math.inf, -math.inf]]})
    bench.drain()
    assert message.status[0] is RowStatus.INVALID


def test_numbers_so_large_that_their_sum_is_not_finite_are_valid():
    bench = Bench()
    a, b = bench.open("a", "b")
    message = bench.send({a: [[1e308, 0]], b: [[1e308, 0]]})
    bench.drain()
    assert message.status == {0: OK, 1: OK}


@pytest.mark.parametrize(("token", "status"), [(-1, 3), (0, 0), (9, 0), (10, 3)])
def test_an_integer_out_of_range_is_invalid(token, status):
    bench = Bench(RecurrenceRunner(tokens=True))
    a, b = bench.open("a", "b")
    message = bench.send({a: chunk(2), b: chunk(2)}, tokens=[5, token, 5, 5])
    bench.drain()
    assert message.status == {0: status, 1: OK}
    if status:
        assert message.errors[0] == (
            f"input 'k' is {token} at step 1 of the row; 0 to 9 was expected"
        )


def test_a_row_without_steps_is_invalid():
    bench = Bench()
    a, b, c = bench.open("a", "b", "c")
    xs = chunk(2)
    message = bench.send({a: [], b: xs, c: []})
    alone = bench.send({c: []})
    bench.drain()
    assert message.status == {0: RowStatus.INVALID, 1: OK, 2: RowStatus.INVALID}
    assert "no steps" in message.errors[0]
    assert alone.status[0] is RowStatus.INVALID
    np.testing.assert_array_equal(message.outputs[1], solo(xs))


@pytest.mark.parametrize(
    ("value", "status"), [(CRASH, RowStatus.MODEL_ERROR), (SPOIL, RowStatus.NUMERIC_FAULT)]
)
def test_only_the_culprits_fail_and_their_states_stay(value, status):
    bench = Bench()
    opened = bench.open(*"abcdefg")
    xs = chunk(4)
    bench.send(dict.fromkeys(opened, xs[:1]))
    bench.drain()
    wrong = xs[1:3].copy()
    wrong[1, 0] = value
    culprits = {1, 2, 6}
    message = bench.send(
        {handle: wrong if row in culprits else xs[1:3] for row, handle in enumerate(opened)}
    )
    bench.drain()
    for row in range(len(opened)):
        if row in culprits:
            assert message.status[row] is status
            assert message.errors[row].endswith("the session stays at step 1")
            assert (message.applied[row], message.lengths[row]) == (1, 0)
        else:
            np.testing.assert_array_equal(message.outputs[row], solo(xs)[1:3])
    again = bench.send({opened[row]: xs[1:] for row in culprits}, first_step=[1, 1, 1])
    bench.drain()
    for row in range(3):
        np.testing.assert_array_equal(again.outputs[row], solo(xs)[1:])


def test_a_fault_in_one_message_is_none_in_another_of_the_same_run():
    bench = Bench()
    a, b, c = bench.open("a", "b", "c")
    xs = chunk(1)
    one, two, three = (bench.send({h: x}) for h, x in ((a, xs), (b, [[CRASH, 0]]), (c, xs)))
    bench.drain()
    assert [one.status[0], two.status[0], three.status[0]] == [OK, RowStatus.MODEL_ERROR, OK]


def test_handles_that_are_nobodys_harm_no_neighbour():
    bench = Bench()
    a, b = bench.open("a", "b")
    xs = chunk(2)
    message = bench.send([(a, xs), (a + (5 << 32), xs), (12345, xs), (b, xs)])
    bench.drain()
    not_found = RowStatus.NOT_FOUND
    assert message.status == {0: OK, 1: not_found, 2: not_found, 3: OK}
    assert (message.applied[1], message.lengths[1]) == (0, 0)
    np.testing.assert_array_equal(message.outputs[3], solo(xs))


def test_reasons_are_given_for_the_first_few_rows_only():
    bench = Bench(RecurrenceRunner(slots=20))
    opened = bench.open(*(f"s{number}" for number in range(20)))
    message = bench.send(dict.fromkeys(opened, np.array([math.nan, 0])))
    bench.drain()
    assert sorted(message.errors) == list(range(8))
    assert set(message.status.values()) == {RowStatus.INVALID}
