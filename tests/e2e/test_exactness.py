"""Answers streamed through the real server equal PyTorch's whole-sequence answers."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from carousel_exporter.conversion import Labels, convert
from carousel_exporter.source import read_source
from tests.support import raw
from tests.support.raw import output, step_request
from tests.support.server import run_server

SIZES = list(product((1, 2, 3), (8, 64, 256), (1, 5, 16)))  # layers, hidden, features
SESSIONS, STEPS, OUTPUTS = 5, 30, 2


class Reference(nn.Module):
    """A network as others write it: an LSTM and a linear head."""

    def __init__(self, layers: int, hidden: int, features: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(features, hidden, layers)
        self.head = nn.Linear(hidden, OUTPUTS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (T, B, F) -> (T, B, O)
        return self.head(self.lstm(x)[0])


def reference(size: tuple[int, int, int]) -> Reference:
    torch.manual_seed(sum(size))
    return Reference(*size)


def name_of(size: tuple[int, int, int]) -> str:
    return "lstm-{}x{}-{}".format(*size)


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exactness")
    for size in SIZES:
        weights = folder / f"{name_of(size)}.pt"
        torch.save(reference(size).state_dict(), weights)
        path = folder / "models" / name_of(size) / "1" / "model.onnx"
        path.parent.mkdir(parents=True)
        convert(read_source(weights), path, Labels(name=name_of(size)))
    with (
        run_server(folder / "models", "--slots", "32", log=folder / "log") as server,
        raw.connect(server.address) as connected,
    ):
        yield connected


@pytest.fixture(params=SIZES, ids=name_of)
def case(request, client):
    """A model's name, inputs (N, T, F), and PyTorch's answers (N, T, O) for whole sequences."""
    x = np.random.default_rng(request.param).normal(size=(SESSIONS, STEPS, request.param[2]))
    x = x.astype(np.float32)
    with torch.no_grad():
        y = reference(request.param)(torch.from_numpy(x).transpose(0, 1)).transpose(0, 1)
    return name_of(request.param), x, y.numpy()


def assert_equal(answers: np.ndarray, expected: np.ndarray) -> None:
    worst = np.max(np.abs(answers - expected) / np.maximum(1, np.abs(expected)))
    assert worst <= 1e-5


def test_one_step_at_a_time(client, case):
    name, x, expected = case
    opened, stream = client.open(name, SESSIONS), client.stream()
    answers = [
        output(stream.one(step_request(opened, x[:, t], first_step=[t] * SESSIONS)))
        for t in range(STEPS)
    ]
    stream.end()
    assert_equal(np.stack(answers, axis=1), expected)


def test_in_random_chunks(client, case):
    name, x, expected = case
    opened, stream = client.open(name), client.stream()
    cuts = np.sort(np.random.default_rng(1).choice(np.arange(1, STEPS), 5, replace=False))
    answers = [
        output(stream.one(step_request(opened, chunk, lengths=[len(chunk)])))
        for chunk in np.split(x[0], cuts)
    ]
    stream.end()
    assert_equal(np.concatenate(answers), expected[0])


def test_in_ragged_groups(client, case):
    """Every message holds chunks of random lengths of a random choice of the sessions."""
    name, x, expected = case
    opened, stream = client.open(name, SESSIONS), client.stream()
    rng, at = np.random.default_rng(2), np.zeros(SESSIONS, int)
    answers = [[] for _ in range(SESSIONS)]
    while (at < STEPS).any():
        rows = rng.permutation(np.flatnonzero(at < STEPS))[: rng.integers(1, SESSIONS + 1)]
        lengths = np.minimum(rng.integers(1, 25, len(rows)), STEPS - at[rows])
        inputs = [x[r, at[r] : at[r] + n] for r, n in zip(rows, lengths, strict=True)]
        request = step_request(
            opened, np.concatenate(inputs), rows=rows, lengths=lengths, first_step=at[rows]
        )
        for part in stream.ask(request):
            answered = np.frombuffer(part.rows, "<u4") if part.rows else np.arange(len(rows))
            cuts = np.cumsum(np.frombuffer(part.lengths, "<u4"))[:-1]
            for row, values in zip(answered, np.split(output(part), cuts), strict=True):
                answers[rows[row]].append(values)
        at[rows] += lengths
    stream.end()
    assert_equal(np.stack([np.concatenate(values) for values in answers]), expected)
