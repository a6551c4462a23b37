"""What becomes of a row. The values are those of `carousel.v1.RowStatus`; a test compares them."""

from __future__ import annotations

from enum import IntEnum


class RowStatus(IntEnum):
    """One byte in a status column."""

    OK = 0
    STALE_HANDLE = 1
    NOT_FOUND = 2
    INVALID = 3
    OUT_OF_ORDER = 4
    ALREADY_APPLIED = 5
    DUPLICATE = 6
    NUMERIC_FAULT = 7
    MODEL_ERROR = 8
    BUSY = 9
    DEADLINE = 10
    EXPIRED = 11
    MOVED = 12
