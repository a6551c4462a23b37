"""Benchmarks' command lines run in this process here, and set up its log as they like."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """Have nothing logged to this test's captured output once it is over."""
    yield
    structlog.reset_defaults()
