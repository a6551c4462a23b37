"""Files in float16 and int8, from a real server: as exact as float32, parked, saved, forked.

What a session gets must not depend on its neighbours, on how it was cut into chunks, or on what
happened to it meanwhile; so all of them are compared with a run of the file alone.
"""

from __future__ import annotations

import numpy as np
import pytest

import carousel_client as carousel
from carousel_exporter.manifest import load_model, read_manifest
from carousel_exporter.precision import Precision, Request, comparing, measuring, shrink
from carousel_exporter.runner import Runner
from tests.exporter.precision.graphs import make, save, sessions
from tests.support.server import run_server

STEPS, ROWS = 40, 6
CUTS = (1, 7, 1, 15, 16)
PRECISIONS = {"half": Precision.FLOAT16, "eight": Precision.INT8}
MODELS = [f"{kind}-{kept}" for kind in ("lstm", "gru", "rnn") for kept in PRECISIONS]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server with few slots, so that sessions are parked, and the files it serves."""
    folder = tmp_path_factory.mktemp("shrunk")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "_SECONDS", 0.0)
        patch.setattr(comparing, "STEPS", 60)
        for name in MODELS:
            kind, kept = name.split("-")
            path = save(make(kind), folder / f"{kind}.onnx")
            out = folder / "models" / name / "1" / "model.onnx"
            shrink(path, out, Request(PRECISIONS[kept]))
    log = folder / "log"
    with run_server(folder / "models", "--slots", "4", log=log) as server:
        yield server.address, folder / "models"


def alone(models, name):
    """Return what each session is to answer, (T, O), run by itself in one chunk."""
    path = models / name / "1" / "model.onnx"
    runner = Runner(path, read_manifest(load_model(path), path))
    given = sessions(ROWS, STEPS)
    return [runner.advance([s], [runner.new_state()])[0][0]["y"] for s in given]


def assert_equal(found, expected):
    assert np.max(np.abs(found - expected) / np.maximum(1, np.abs(expected))) <= 1e-5


@pytest.mark.parametrize("name", MODELS)
def test_more_sessions_than_slots_in_chunks(served, name):
    """Parked by turns, cut otherwise, in messages of many: the answers are those of a run alone."""
    address, models = served
    given = np.stack([s["x"] for s in sessions(ROWS, STEPS)])  # (N, T, F)
    found, start = [], 0
    with carousel.connect(address) as client, client.open_many(name, ROWS) as group:
        for length in CUTS:
            found.append(np.stack(list(group.step(given[:, start : start + length]))))
            start += length
    answers = np.concatenate(found, axis=1)
    for row, expected in enumerate(alone(models, name)):
        assert_equal(answers[row], expected)


@pytest.mark.parametrize("name", MODELS)
def test_snapshots_forks_and_states(served, name):
    address, models = served
    x = sessions(1, STEPS)[0]["x"]
    expected = alone(models, name)[0]
    kind = np.float16 if name.endswith("half") else np.float32
    with carousel.connect(address) as client:
        with client.open(name) as session:
            session.step(x[:20])
            saved = session.snapshot()
            twin = session.fork_one()
            states = session.get_state()
            assert {array.dtype for array in states.values()} == {np.dtype(kind)}
            assert any(array.any() for array in states.values())
            assert_equal(session.step(x[20:]), expected[20:])
        with twin:
            assert_equal(twin.step(x[20:]), expected[20:])
        with client.restore(name, saved) as again:
            assert_equal(again.step(x[20:]), expected[20:])


@pytest.mark.parametrize("name", ["lstm-half", "lstm-eight"])
def test_a_session_goes_on_at_another_server(served, tmp_path, name):
    """From a checkpoint in the store, with the inputs since then replayed in other chunks."""
    _, models = served
    shared = ("--store", f"file:{tmp_path / 'store'}", "--lease-seconds", "1")
    shared += ("--checkpoint-every-steps", "7")
    x, expected = sessions(1, STEPS)[0]["x"], alone(models, name)[0]
    with (
        run_server(models, *shared, log=tmp_path / "log1") as one,
        run_server(models, *shared, log=tmp_path / "log2") as two,
        carousel.connect([one.address, two.address]) as client,
    ):
        session = client.open(name)
        found = [session.step(x[step : step + 1]) for step in range(18)]
        one.process.kill()
        found.append(session.step(x[18:]))
        assert session.applied == STEPS
    assert_equal(np.concatenate(found), expected)
