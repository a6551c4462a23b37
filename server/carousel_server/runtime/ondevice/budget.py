"""How much of a device's memory a pool may take, and what would fit."""

from __future__ import annotations

from collections.abc import Sequence

from carousel_server.errors import DeviceError
from carousel_server.runtime.ondevice.memory import Room
from carousel_server.spec import StateSpec


def check_pool(
    states: Sequence[StateSpec], slots: int, *, pool_bytes: float, room: Room | None, device: str
) -> None:
    """Refuse a pool that is larger than it may be.

    Args:
        states: what each slot holds.
        slots: how many there are to be, slot 0 not counted.
        pool_bytes: bytes that it may take; up to 1, that part of what is free.
        room: what is free; None: nobody knows.
        device: what the device is called, for the message.

    Raises:
        DeviceError: it says how many slots would fit.

    """
    slot_bytes = sum(state.nbytes for state in states)
    share = pool_bytes <= 1
    if share and room is None:
        return
    limit = int(pool_bytes * room.free) if share and room is not None else int(pool_bytes)
    needed = (slots + 1) * slot_bytes
    if needed <= limit:
        return
    fit = max(limit // slot_bytes - 1, 0)
    allowed = f"{pool_bytes:.0%} of what is free" if share else "--pool-bytes"
    advice = f"--slots {fit} would fit" if fit else "not one slot would fit"
    raise DeviceError(
        f"a pool of {slots} slots takes {_bytes(needed)} on {device} ({slot_bytes} bytes a "
        f"session), and {allowed} is {_bytes(limit)}: {advice}"
    )


def _bytes(count: int) -> str:
    value = float(count)
    for unit in ("bytes", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.4g} {unit}"
        value /= 1024
    return f"{value:.4g} GiB"
