"""A real server on a GPU, beside one on the CPU: streaming, parking, and snapshots between them.

None of this has run yet: it is skipped where there is no GPU, and says so.
"""

from __future__ import annotations

import urllib.request

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

import carousel_client as carousel
from tests.support import models
from tests.support.gpu import needs_gpu
from tests.support.recurrent import cell
from tests.support.server import run_server

FLAGS = ("--slots", "512", "--state-dtype", "float32")


@pytest.fixture
def servers(tmp_path):
    """Return a server on the GPU and one on the CPU, with a slot for an eighth of the sessions."""
    folder = tmp_path / "models"
    models.put(folder, cell("lstm", layers=2, hidden=128, features=16), "lstm")
    with (
        run_server(folder, *FLAGS, "--device", "cuda", log=tmp_path / "gpu.log") as gpu,
        run_server(folder, *FLAGS, log=tmp_path / "cpu.log") as cpu,
        carousel.connect(gpu.address) as on_gpu,
        carousel.connect(cpu.address) as on_cpu,
    ):
        yield on_gpu, on_cpu


@needs_gpu
def test_4096_sessions_in_ragged_chunks_with_parking(servers):
    rng = np.random.default_rng(0)
    groups = [client.open_many("lstm", 4096) for client in servers]
    for _ in range(3):
        x = [rng.normal(size=(n, 16)).astype(np.float32) for n in rng.integers(1, 9, 4096)]
        came, wanted = (group.step(x) for group in groups)
        for one, other in zip(came, wanted, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)


@needs_gpu
def test_a_scrape_tells_of_the_gpu(tmp_path):
    models.put(tmp_path / "models", cell("lstm"), "lstm")
    flags = ("--device", "cuda", "--autotune")
    with (
        run_server(tmp_path / "models", *flags, log=tmp_path / "log") as server,
        carousel.connect(server.address) as client,
    ):
        client.open_many("lstm", 8).step(np.zeros((8, 3), np.float32))
        with urllib.request.urlopen(f"http://{server.http}/metrics", timeout=10) as page:
            families = text_string_to_metric_families(page.read().decode())
            told = {s.name: s.value for family in families for s in family.samples}
    for name in ("pool_bytes", "graph_captures_total", "graph_replays_total"):
        assert told[f"carousel_{name}"] > 0
    assert told["carousel_device_run_seconds_total"] > 0
    assert told["carousel_device_memory_bytes"] > 0


@needs_gpu
def test_a_snapshot_goes_on_at_the_other_server(servers):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(20, 16)).astype(np.float32)
    for here, there in (servers, servers[::-1]):
        with here.open("lstm") as session, here.open("lstm") as whole:
            wanted = whole.step(x)
            session.step(x[:10])
            with there.restore("lstm", session.snapshot()) as other:
                np.testing.assert_allclose(other.step(x[10:]), wanted[10:], atol=1e-4)
