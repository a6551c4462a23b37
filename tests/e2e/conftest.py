"""One server for all tests that do no harm to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import models, raw
from tests.support.server import RunningServer, run_server


@pytest.fixture(scope="package")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of small models, each with a fault of its own or none."""
    folder = tmp_path_factory.mktemp("repository")
    models.put(folder, models.running_sum(), "sum")
    models.put(folder, models.lstm(), "lstm")
    models.put(folder, models.raises_above(3), "raises")
    models.put(folder, models.exploding(), "exploding")
    return folder


@pytest.fixture(scope="package")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    """A server that is not stopped by tests."""
    log = tmp_path_factory.mktemp("server") / "log"
    with run_server(repository, "--slots", "2048", "--max-chunk", "20000", log=log) as running:
        yield running
        assert running.process.poll() is None, running.log_text()


@pytest.fixture
def client(server: RunningServer) -> raw.RawClient:
    """Stubs on a channel of its own."""
    with raw.connect(server.address) as connected:
        yield connected
