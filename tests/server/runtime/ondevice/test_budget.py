"""Pools that are too large, and what would fit."""

from __future__ import annotations

import numpy as np
import pytest

from carousel_server.errors import DeviceError
from carousel_server.runtime.ondevice.budget import check_pool
from carousel_server.runtime.ondevice.memory import Room
from carousel_server.spec import StateSpec

STATES = [StateSpec(n, f"{n}_out", np.dtype("<f4"), (128,), np.zeros(128, "f4")) for n in "hc"]


def check(slots, *, pool_bytes, room=None):
    check_pool(STATES, slots, pool_bytes=pool_bytes, room=room, device="cuda:0")


def test_what_fits_passes():
    check(1023, pool_bytes=1024 * 1024)
    check(1023, pool_bytes=0.5, room=Room(2 * 1024 * 1024, 10**9))
    check(10**9, pool_bytes=0.5), "a part of nobody knows what"


@pytest.mark.parametrize(
    ("pool_bytes", "room"), [(1024 * 1024, None), (0.5, Room(2 * 1024 * 1024, 10**9))]
)
def test_what_does_not_fit_is_told_what_would(pool_bytes, room):
    with pytest.raises(DeviceError, match=r"--slots 1023 would fit") as caught:
        check(1024, pool_bytes=pool_bytes, room=room)
    assert "1024 bytes a session" in str(caught.value)
    check(1023, pool_bytes=pool_bytes, room=room)


def test_where_nothing_fits():
    with pytest.raises(DeviceError, match="not one slot would fit"):
        check(1, pool_bytes=100)
