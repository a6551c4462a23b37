"""The whole server as on a GPU, on a device that puts off all it can: nobody can tell.

Sessions are more than there are slots for, so that they are parked and come back all the time, and
are copied out while others run.
"""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

import carousel_client as carousel
from tests.support import models
from tests.support.recurrent import cell
from tests.support.server import RunningServer, run_server
from tests.support.solo import solo_answers

CLIENTS, SESSIONS, ROUNDS = 4, 12, 10
FLAGS = ("--slots", "30", "--checkpoint-every-steps", "3")
MADE = cell("lstm", layers=2)


@pytest.fixture(params=[1, 2, 3], scope="module")
def server(request, tmp_path_factory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("device")
    models.put(folder / "models", MADE, "lstm")
    running = run_server(
        folder / "models",
        *FLAGS,
        *("--store", f"file:{folder / 'store'}"),
        log=folder / "log",
        module="tests.support.devicehost",
        DEFER=str(request.param),
    )
    with running as server:
        yield server
        assert server.process.poll() is None, server.log_text()


def converse(address: str, seed: int) -> None:
    """Step a group of sessions in ragged chunks, with a look at one of them now and then."""
    rng = np.random.default_rng(seed)
    with carousel.connect(address) as client:
        group = client.open_many("lstm", SESSIONS)
        sent: list[list[np.ndarray]] = [[] for _ in range(SESSIONS)]
        came: list[list[np.ndarray]] = [[] for _ in range(SESSIONS)]
        for number in range(ROUNDS):
            lengths = rng.integers(1, 1 + int(rng.choice([1, 1, 5])), SESSIONS)
            chunks = [rng.normal(size=(n, 3)).astype(np.float32) for n in lengths]
            for row, answer in enumerate(group.step(chunks)):
                sent[row].append(chunks[row])
                came[row].append(answer)
            if number % 3 == 0:
                check_a_copy(client, group.snapshot()[3], sent[3], rng)
        for chunks, answers in zip(sent, came, strict=True):
            wanted = solo_answers(MADE, np.concatenate(chunks))
            np.testing.assert_allclose(np.concatenate(answers), wanted, atol=1e-5)


def check_a_copy(client, snapshot, sent, rng) -> None:
    """A copy of a session goes on where that one stands."""
    more = rng.normal(size=(2, 3)).astype(np.float32)
    wanted = solo_answers(MADE, np.concatenate([*sent, more]))[-2:]
    with client.restore("lstm", snapshot) as copy:
        np.testing.assert_allclose(copy.step(more), wanted, atol=1e-5)


def test_clients_on_a_late_device(server):
    with ThreadPoolExecutor(CLIENTS) as pool:
        for done in [pool.submit(converse, server.address, seed) for seed in range(CLIENTS)]:
            done.result(60)
    for name in ("overlapped_runs", "parks", "restores"):
        assert told(server, f"carousel_{name}_total") > 0, name


def told(server, name) -> float:
    with urllib.request.urlopen(f"http://{server.http}/metrics", timeout=10) as page:
        families = text_string_to_metric_families(page.read().decode())
        return {s.name: s.value for family in families for s in family.samples}[name]
