"""How much happens."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--full", action="store_true", help="rolling restarts with 200 sessions, three rounds"
    )
