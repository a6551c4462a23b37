"""Models that others published, adopted and streamed: equal to ONNX Runtime driven by hand.

Their look-alikes go the same way, so that something is proved where the files are not at hand.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

import carousel_client as carousel
from carousel_exporter.adoption import AdoptionReport, Context, Options, Proposal, Size, adopt
from carousel_exporter.errors import ExporterError
from examples.common.metrics import fetch_figures
from examples.common.wav import read_wav
from examples.denoise.streaming import stream as denoise
from examples.voice.streaming import stream as detect
from tests.support import by_hand
from tests.support.published import Audio, look_alikes, published
from tests.support.server import RunningServer, run_server

SESSIONS, SECONDS_EACH = 100, 2
DETECTOR = Options(constants={"sr": 16000}, contexts=(Context("input", by_hand.CONTEXT),))
DETECTOR_FIXED = Options(contexts=(Context("input", by_hand.CONTEXT),))
#: All that is told where pairs are to be found: `sr` is no input of a stream.
RATE = Options(constants={"sr": 16000})
#: The look-alike runs with chunks of one size alone, and doesn't declare it.
RATE_AND_SIZE = replace(RATE, sizes=(Size("input", 1, by_hand.CONTEXT + by_hand.CHUNK),))
PAIRS = {
    "voice": {("state", "stateN")},
    "voice_fixed": {("state", "stateN")},
    "masking": {("input_3", "tf_op_layer_stack_2")},
    "mending": {("input_5", "tf_op_layer_stack_5")},
}


@dataclass(frozen=True)
class Served:
    """A server with the four models, and what adopting each came to."""

    server: RunningServer
    audio: Audio
    reports: dict[str, AdoptionReport]


@pytest.fixture(scope="module", params=["look-alikes", "published"])
def served(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    audio = published() if request.param == "published" else look_alikes(folder)
    todo = {
        "vad": (audio.voice, DETECTOR),
        "fixed": (audio.voice_fixed, DETECTOR_FIXED),
        "masking": (audio.masking, Options()),
        "mending": (audio.mending, Options()),
    }
    reports = {
        name: adopt(path, folder / "models" / name / "1" / "model.onnx", options)
        for name, (path, options) in todo.items()
    }
    with run_server(folder / "models", "--slots", "256", log=folder / "log") as server:
        yield Served(server, audio, reports)


def assert_equal(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    assert np.max(np.abs(found - expected) / np.maximum(1, np.abs(expected))) <= 1e-5


def whole_chunks(path: Path) -> np.ndarray:
    samples = read_wav(path)
    return samples[: len(samples) - len(samples) % by_hand.CHUNK]


def test_rows_may_share_runs_also_where_the_file_held_the_batch_at_1(served):
    found = {name: report.max_batch for name, report in served.reports.items()}
    assert found == {"vad": 0, "fixed": 0, "masking": 0, "mending": 0}


def test_branches_that_one_rate_never_takes_are_gone(served):
    report = served.reports["vad"]
    assert report.ifs_before > 0
    assert report.ifs_after == 0


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("audio", ["look-alikes", "published"])
def test_pairs_are_found_without_a_flag(tmp_path, audio, name):
    files = published() if audio == "published" else look_alikes(tmp_path)
    seen: list[Proposal] = []

    def decline(proposal: Proposal) -> bool:
        seen.append(proposal)
        return False

    out, options = tmp_path / "model.onnx", Options()
    if name == "voice":
        options = RATE if audio == "published" else RATE_AND_SIZE
    with pytest.raises(ExporterError, match="declined"):
        adopt(getattr(files, name), out, options, decline)
    (proposal,) = seen
    assert {(pair.input, pair.output) for pair in proposal.pairs} == PAIRS[name]
    assert not out.exists()


@pytest.mark.parametrize("audio", ["look-alikes", "published"])
def test_a_rate_that_was_not_told_is_asked_for(tmp_path, audio):
    files = published() if audio == "published" else look_alikes(tmp_path)
    with pytest.raises(ExporterError, match=r"'sr'.*16000.*--constant sr="):
        adopt(files.voice, tmp_path / "model.onnx", Options())
    assert not (tmp_path / "model.onnx").exists()


def test_a_recording_streamed_in_chunks_has_the_same_probabilities(served):
    samples = whole_chunks(served.audio.speech)
    expected = by_hand.detect(by_hand.open_session(served.audio.voice), samples)
    assert_equal(detect(served.server.address, samples), expected)


def test_a_hundred_recordings_at_once_share_runs_and_nothing_else(served):
    """Each session begins elsewhere in the recording, and is a different number of chunks long."""
    samples = whole_chunks(served.audio.speech)
    offsets = np.linspace(0, len(samples) - SECONDS_EACH * 16000, SESSIONS).astype(int)
    most = SECONDS_EACH * 16000 // by_hand.CHUNK
    lengths = most - np.arange(SESSIONS) % 7
    streams = [
        samples[begin : begin + n * by_hand.CHUNK].reshape(n, by_hand.CHUNK)
        for begin, n in zip(offsets, lengths, strict=True)
    ]
    before = fetch_figures(served.server.http, "vad")
    answers: list[list[np.ndarray]] = [[] for _ in streams]
    with (
        carousel.connect(served.server.address) as client,
        client.open_many("vad", SESSIONS) as group,
    ):
        for step in range(most):
            for row, answer in enumerate(group.step([s[step : step + 1] for s in streams])):
                answers[row].append(answer)
    after = fetch_figures(served.server.http, "vad")
    by_itself = by_hand.open_session(served.audio.voice)
    for stream, answer in zip(streams, answers, strict=True):
        expected = by_hand.detect(by_itself, stream.reshape(-1))
        assert_equal(np.concatenate(answer)[:, 0], expected)
    steps, ticks = after.steps - before.steps, after.ticks - before.ticks
    assert steps == lengths.sum()
    assert steps / ticks > SESSIONS / 2


def test_the_twin_of_fixed_sizes_answers_the_same_alone_and_beside_others(served):
    samples = whole_chunks(served.audio.speech)[: 100 * by_hand.CHUNK]
    by_itself = by_hand.open_session(served.audio.voice_fixed)
    streams = [samples[begin * by_hand.CHUNK :] for begin in range(20)]  # 81 to 100 chunks each
    expected = [by_hand.detect(by_itself, stream) for stream in streams]
    with (
        carousel.connect(served.server.address) as client,
        client.open("fixed") as session,
        client.open_many("fixed", len(streams)) as group,
    ):
        alone = session.step(streams[0].reshape(-1, by_hand.CHUNK))
        together = group.step([stream.reshape(-1, by_hand.CHUNK) for stream in streams])
    assert_equal(alone[:, 0], expected[0])
    for answer, wanted in zip(together, expected, strict=True):
        assert_equal(answer[:, 0], wanted)


@pytest.mark.parametrize(("name", "size"), [("masking", 257), ("mending", 512)])
def test_each_half_of_the_suppressor_answers_the_same_alone_and_beside_others(served, name, size):
    rows = np.abs(np.random.default_rng(0).normal(size=(20, 30, size))).astype(np.float32)
    by_itself = by_hand.open_session(getattr(served.audio, name))
    expected = np.stack([by_hand.step_through(by_itself, row) for row in rows])
    with (
        carousel.connect(served.server.address) as client,
        client.open(name) as session,
        client.open_many(name, len(rows)) as group,
    ):
        shaped = rows.reshape(*rows.shape[:2], *client.model(name).inputs[0].shape)
        alone = session.step(shaped[0])
        together = np.stack([group.step(shaped[:, step]) for step in range(30)], axis=1)
    assert_equal(alone.reshape(rows[0].shape), expected[0])
    assert_equal(together.reshape(rows.shape), expected)


def test_noise_is_suppressed_as_by_hand(served):
    samples = read_wav(served.audio.noisy)
    models = (served.audio.masking, served.audio.mending)
    expected = by_hand.suppress(*map(by_hand.open_session, models), samples)
    assert_equal(denoise(served.server.address, samples), expected)
