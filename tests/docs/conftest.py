"""A server with a model that the examples can use as they stand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import models
from tests.support.server import RunningServer, run_server


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with `sum`, one number wide, and `co2`, a small LSTM of one feature."""
    folder = tmp_path_factory.mktemp("docs")
    models.put(folder / "models", models.running_sum(1), "sum")
    models.put(folder / "models", models.lstm(features=1), "co2")
    with run_server(folder / "models", "--slots", "2000", log=folder / "log") as running:
        yield running
