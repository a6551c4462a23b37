"""Each task trained, converted, verified and served: strings in and out, as PyTorch answers."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import torch

import carousel_client as carousel
from carousel_exporter import checkpoint
from carousel_exporter.cli import main
from carousel_exporter.corpus import encode
from carousel_exporter.training import predict
from tests.e2e.test_text import carousel_command
from tests.exporter.builders import make_series, write_csv
from tests.exporter.labelled import write_gestures, write_text
from tests.support.server import run_server

SMALL = ["--hidden", "8", "--epochs", "3", "--lr", "0.01"]
PROMPT = "the cat sat on"


def prepare(folder: Path) -> dict[str, tuple[Path, list[str]]]:
    """Return each task's data, and how to train for it."""
    series = write_csv(folder / "s.csv", make_series(200))
    gestures = write_gestures(folder / "g.csv")
    text = write_text(folder / "t.txt")
    return {
        "forecast": (series, ["--target", "a", "--window", "16"]),
        "classify": (gestures, ["--sequence", "id", "--label", "kind", "--layer-norm"]),
        "text": (text, []),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a checkpoint and a model file for each task, verified on the data."""
    folder = tmp_path_factory.mktemp("trained")
    for task, (data, options) in prepare(folder).items():
        out, model = folder / f"{task}.pt", folder / "models" / task / "1" / "model.onnx"
        train = ["train", "--task", task, "--data", str(data), *options, *SMALL]
        assert main([*train, "--out", str(out)]) == 0
        assert main(["convert", str(out), "--out", str(model)]) == 0
        assert main(["verify", str(model), "--against", str(out), "--data", str(data)]) == 0
    return folder


@pytest.fixture(scope="module")
def server(folder):
    with run_server(folder / "models", log=folder / "log") as running:
        yield running


@pytest.fixture
def client(server):
    with carousel.connect(server.address) as connected:
        yield connected


def close(found, expected):
    found = np.asarray(found)
    assert found.shape == expected.shape
    np.testing.assert_array_less(np.abs(found - expected), 1e-5 * np.maximum(1, np.abs(expected)))


def in_pytorch(folder: Path, task: str, x: np.ndarray) -> np.ndarray:
    """Return the answers to one sequence, (T, …) to (T, O)."""
    network = checkpoint.load(folder / f"{task}.pt").network
    with torch.inference_mode():
        return network(torch.from_numpy(x[:, None]))[0][:, 0].numpy()


def test_a_forecaster_answers_in_plain_units(folder, client):
    x = make_series(60).values.astype(np.float32)  # (T, F)
    with client.open("forecast") as session:
        found = np.concatenate([session.step(x[:20]), *(session.step(row)[None] for row in x[20:])])
    network = checkpoint.load(folder / "forecast.pt").network
    close(found, predict(network, x[:, None])[:, 0])


def test_a_classifier_names_classes_at_every_step(folder, client):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(9, 2)).astype(np.float32)
    expected = in_pytorch(folder, "classify", x)
    with client.open("classify") as session:
        assert session.info.outputs[0].columns == ("fast", "flat", "slow")
        answers = np.stack([session.step(row) for row in x])
        close(answers, expected)
        named = session.info.read(answers)
    classes = np.array(session.info.outputs[0].columns)
    assert named.labels == classes[expected.argmax(axis=1)].tolist()


def test_a_classifier_at_the_command_line_prints_labels(folder, server):
    rows = list(csv.DictReader(io.StringIO((folder / "g.csv").read_text())))[:8]
    lines = "a,b\n" + "".join(f"{row['a']},{row['b']}\n" for row in rows)
    printed = carousel_command(server, "stream", "classify", stdin=lines)
    x = np.array([[row["a"], row["b"]] for row in rows], np.float32)
    expected = in_pytorch(folder, "classify", x)
    classes = ("fast", "flat", "slow")
    found = list(csv.DictReader(io.StringIO(printed)))
    assert [row["label"] for row in found] == [classes[place] for place in expected.argmax(axis=1)]
    close(np.log([float(row["probability"]) for row in found]), expected.max(axis=1))


def test_a_text_goes_in_as_a_string(folder, client):
    symbols = checkpoint.load(folder / "text.pt").symbols
    expected = in_pytorch(folder, "text", encode(PROMPT + "Ω", symbols))
    with client.open("text") as session:
        whole = session.step(PROMPT + "Ω")  # the last is unknown, and the vocabulary has a sign
    close(whole.log_probabilities, expected)
    assert whole.labels == [symbols[place] for place in expected.argmax(axis=1)]
    with client.open("text") as session:
        close(np.concatenate([session.step(c) for c in PROMPT]), expected[: len(PROMPT)])


def test_a_text_is_written_cold_as_pytorch_would(folder, client, server):
    symbols = checkpoint.load(folder / "text.pt").symbols
    written = PROMPT
    for _ in range(10):
        said = in_pytorch(folder, "text", encode(written, symbols))[-1].copy()
        said[0] = -np.inf  # the unknown character is never written
        written += symbols[int(said.argmax())]
    with client.open("text") as session:
        assert PROMPT + carousel.text.generate(session, PROMPT, 10, temperature=0) == written
    words = ["generate", "text", "--prompt", PROMPT, "--length", "10", "--temperature", "0"]
    assert carousel_command(server, *words) == f"{written}\n"
