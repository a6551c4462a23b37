"""Whether there is a GPU, for tests that need one."""

from __future__ import annotations

import functools

import pytest

from carousel_server.errors import DeviceError
from carousel_server.runtime.device import choose_device


@functools.cache
def why_none() -> str:
    """Return why no GPU can be used; "" if one can."""
    try:
        choose_device("cuda")
    except DeviceError as error:
        return str(error)
    return ""


def needs_gpu(test):
    """Mark a test, or all of a class."""
    return pytest.mark.gpu(pytest.mark.skipif(bool(why_none()), reason=why_none())(test))
