"""Converted networks of other kinds than a plain LSTM, through the real server, equal PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from carousel_exporter import programs
from carousel_exporter.adoption import Options
from carousel_exporter.conversion import Labels, convert
from carousel_exporter.source import read_source
from tests.exporter import programs as others
from tests.exporter.networks import WORDS, Stack, Tagger, assert_equal, run_torch, seeded
from tests.exporter.programs import Speller
from tests.support import raw
from tests.support.raw import output, statuses, step_request
from tests.support.server import run_server

SESSIONS, STEPS = 4, 30
HEADS = ["emb=embedding", "tag=head.tag", "score=head.score"]
PROGRAMS = Path(others.__file__)


@dataclass(frozen=True)
class Network:
    """A network, the renames that its keys need (None: it comes as a program), and its names."""

    make: Callable[[], nn.Module]
    renames: list[str] | None = None
    answers: tuple[str, ...] = ("y",)
    input: str = "x"
    tokens: bool = False


NETWORKS = {
    "gru": Network(lambda: seeded(Stack, "GRU"), ["fc=head"]),
    "projected": Network(lambda: seeded(Stack, "LSTM", proj_size=5), ["fc=head"]),
    "tagger": Network(lambda: seeded(Tagger), HEADS, ("tag", "score"), tokens=True),
    "Speller": Network(Speller, None, ("out0",), input="tokens", tokens=True),
}


def inputs(network: Network) -> np.ndarray:
    """Return what sessions are to send, (T, N) token ids or (T, N, F)."""
    rng = np.random.default_rng(0)
    if network.tokens:
        return rng.integers(0, WORDS, (STEPS, SESSIONS))
    return rng.normal(size=(STEPS, SESSIONS, 3)).astype(np.float32)


def in_pytorch(network: Network, x: np.ndarray) -> list[np.ndarray]:
    """Return the answers to whole sequences, (T, N, …)."""
    if network.make is not Speller:
        return run_torch(network.make(), x)
    zeros = torch.zeros(2, SESSIONS, 8)
    with torch.inference_mode():
        scores, _ = Speller().eval()(torch.from_numpy(x.T), (zeros, zeros))
    return [scores.numpy().transpose(1, 0, 2)]


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("converted")
    for name, network in NETWORKS.items():
        path = folder / "models" / name / "1" / "model.onnx"
        if network.renames is None:
            program = programs.load(f"{PROGRAMS}:{name}", examples=["examples"])
            programs.convert_program(program, path, Labels(name), Options(name=name))
            continue
        weights = folder / f"{name}.pt"
        torch.save(network.make().state_dict(), weights)
        convert(read_source(weights, network.renames), path, Labels(name))
    with (
        run_server(folder / "models", "--slots", "32", log=folder / "log") as server,
        raw.connect(server.address) as connected,
    ):
        yield connected


@pytest.mark.parametrize("name", NETWORKS)
def test_ragged_chunks_of_several_sessions_equal_pytorch(client, name):
    network = NETWORKS[name]
    x, answers = inputs(network), network.answers
    expected = in_pytorch(network, x)
    opened, stream = client.open(name, SESSIONS), client.stream()
    rng, at = np.random.default_rng(1), np.zeros(SESSIONS, int)
    found = {answer: [[] for _ in range(SESSIONS)] for answer in answers}
    while (at < STEPS).any():
        rows = rng.permutation(np.flatnonzero(at < STEPS))[: rng.integers(1, SESSIONS + 1)]
        lengths = np.minimum(rng.integers(1, 9, len(rows)), STEPS - at[rows])
        chunk = np.concatenate(
            [x[at[r] : at[r] + n, r] for r, n in zip(rows, lengths, strict=True)]
        )
        request = step_request(
            opened, 0, rows=rows, lengths=lengths, inputs=[raw.tensor(network.input, chunk)]
        )
        for part in stream.ask(request):
            places = np.frombuffer(part.rows, "<u4") if part.rows else np.arange(len(rows))
            cuts = np.cumsum(np.frombuffer(part.lengths, "<u4"))[:-1]
            for answer in answers:
                for place, values in zip(places, np.split(output(part, answer), cuts), strict=True):
                    found[answer][rows[place]].append(values)
        at[rows] += lengths
    stream.end()
    for answer, whole in zip(answers, expected, strict=False):
        assert_equal(np.stack([np.concatenate(v) for v in found[answer]], axis=1), whole)


@pytest.mark.parametrize("token", [-1, WORDS])
def test_a_token_outside_the_vocabulary_harms_no_other_row(client, token):
    opened = client.open("tagger", 2)
    good = WORDS - 1
    chunk = raw.tensor("x", np.array([token, good]))
    answer = client.step(step_request(opened, 0, inputs=[chunk]))
    assert statuses(answer) == ["INVALID", "OK"]
    tag, *_ = run_torch(seeded(Tagger), np.array([[good]]))
    assert_equal(output(answer, "tag"), tag[0])
