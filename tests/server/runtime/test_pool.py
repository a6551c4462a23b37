"""The pool's rows: written, read, and apart from each other."""

from __future__ import annotations

import numpy as np
import pytest

from carousel_server.runtime.device import Device
from carousel_server.runtime.pool import Pool
from carousel_server.spec import StateSpec


def spec(name: str, dtype: str, *shape: int) -> StateSpec:
    return StateSpec(name, f"{name}_out", np.dtype(dtype), shape, np.zeros(shape, dtype))


def test_rows_come_back_as_they_were_written():
    specs = [spec("a", "<f4", 3), spec("b", "<i8"), spec("c", "<f2", 2, 2), spec("d", "|b1", 1)]
    pool = Pool(specs, 9, Device("cpu"))
    slots = np.array([7, 2, 9])
    rng = np.random.default_rng(0)
    rows = {s.name: rng.integers(0, 2, (3, *s.shape)).astype(s.dtype) for s in specs}
    pool.write(slots, rows)
    for order in ([0, 1, 2], [2, 0], [1]):
        back = pool.read(slots[order])
        for name, value in rows.items():
            np.testing.assert_array_equal(back[name], value[order])
            assert back[name].dtype == value.dtype
    for value in pool.read(np.array([0, 1, 3, 8])).values():
        assert not value.any(), "other rows stay"


def test_states_of_one_shape_are_not_mixed_up():
    pool = Pool([spec("a", "<f4", 4), spec("b", "<f4", 4)], 3, Device("cpu"))
    broadcast = {name: np.broadcast_to(np.float32(k), (2, 4)) for name, k in (("a", 1), ("b", 2))}
    pool.write(np.array([1, 3]), broadcast)
    back = pool.read(np.array([1, 3]))
    assert (back["a"] == 1).all()
    assert (back["b"] == 2).all()


@pytest.mark.parametrize("name", ["slots", "a/rows", "carousel/slots"])
def test_a_state_may_have_any_name(name):
    pool = Pool([spec("a", "<f4", 2), spec(name, "<f4", 2)], 3, Device("cpu"))
    pool.write(np.array([2]), {"a": np.full((1, 2), 1.0, "f4"), name: np.full((1, 2), 2.0, "f4")})
    assert pool.read(np.array([2]))[name].tolist() == [[2, 2]]
