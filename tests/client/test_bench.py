"""`carousel bench`: what it draws, how it counts, and what it leaves behind."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from google.rpc import code_pb2
from typer.testing import CliRunner

import carousel_client as carousel
from carousel_client.cli import app
from carousel_client.cli._load import Tally, bounds, draw
from tests.client.fake import status

SHORT = ["--sessions", "5", "--seconds", "0.1"]


@pytest.fixture
def run(fake):
    def run(*words):
        command = ["--address", fake.address, "bench", *words]
        return CliRunner().invoke(app, command, env={"COLUMNS": "200"})

    return run


def tensor(dtype, minimum=None, maximum=None):
    return carousel.TensorInfo(
        name="x", dtype=np.dtype(dtype), shape=(3,), minimum=minimum, maximum=maximum
    )


def model(*inputs):
    return carousel.ModelInfo(
        name="m",
        version="1",
        is_default=True,
        description="",
        inputs=inputs,
        outputs=inputs,
        states=(),
        state_bytes=0,
        horizon=0,
        sha256="",
    )


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (tensor("<i8", 3, 7), (3, 7)),
        (tensor("<i8", -5), (-5, 95)),
        (tensor("<i8", None, 4), (0, 4)),
        (tensor("<i8", None, -4), (-104, -4)),
        (tensor("<i8"), (0, 100)),
        (tensor("<i1", 100), (100, 127)),
        (tensor("<i1", None, -100), (-128, -100)),
    ],
)
def test_integers_are_drawn_where_the_model_allows(spec, expected):
    assert bounds(spec) == expected
    drawn = draw(model(spec), (1000,), np.random.default_rng(0))["x"]
    assert drawn.shape == (1000, 3)
    assert drawn.dtype == spec.dtype
    assert expected[0] <= drawn.min() <= drawn.max() <= expected[1]
    if expected[1] - expected[0] < 10:  # both ends are drawn
        assert set(drawn.ravel().tolist()) == set(range(expected[0], expected[1] + 1))


def test_floats_are_normal():
    drawn = draw(model(tensor("<f4")), (10_000,), np.random.default_rng(0))["x"]
    assert drawn.dtype == np.float32
    assert abs(drawn.mean()) < 0.02
    assert abs(drawn.std() - 1) < 0.02


def test_a_tally_counts_steps_over_the_time_from_first_to_last():
    tally = Tally()
    for number in range(100):  # two at a time, each of 10 ms
        tally.add(number // 2 * 0.01, number // 2 * 0.01 + 0.01)
    figures = tally.figures(steps=8)
    assert figures.calls_per_second == pytest.approx(200)
    assert figures.steps_per_second == pytest.approx(1600)
    assert figures.p50_ms == pytest.approx(10)
    tally.add(0.4, 0.5)
    assert tally.figures(1).p99_ms == pytest.approx(10)
    assert tally.figures(1).calls_per_second == pytest.approx(202)


@pytest.mark.parametrize("name", ["sum", "both", "scalar"])
@pytest.mark.parametrize("steps", [1, 4])
def test_both_modes_are_measured_and_leave_nothing(run, fake, name, steps):
    found = run(name, *SHORT, "--steps", str(steps), "--json")
    assert found.exit_code == 0, found.stderr
    told = json.loads(found.stdout)
    assert told["model"] == name
    assert told["load"] == {"sessions": 5, "steps": steps, "seconds": 0.1}
    assert told["rpc_p50_ms"] > 0
    assert list(told["modes"]) == ["sessions", "group"]
    for mode, rows in (("sessions", 1), ("group", 5)):
        figures = told["modes"][mode]
        assert figures["steps_per_second"] == pytest.approx(
            figures["calls_per_second"] * rows * steps
        )
        assert 0 < figures["p50_ms"] <= figures["p90_ms"] <= figures["p99_ms"]
    assert not fake.sessions


def test_the_server_saw_as_many_steps_as_are_told(run, fake):
    began = time.perf_counter()
    found = run("sum", *SHORT, "--mode", "group", "--json")
    seconds = time.perf_counter() - began
    told = json.loads(found.stdout)["modes"]
    assert list(told) == ["group"]
    rows = {len(request.handles) // 8 for request in fake.requests}
    assert rows == {5}
    # The warm-up is not counted, and there is more around it than the measurement.
    assert told["group"]["calls_per_second"] * 0.1 < len(fake.requests)
    assert told["group"]["calls_per_second"] * seconds > len(fake.requests)


def test_sessions_share_messages(run, fake):
    assert run("sum", *SHORT, "--mode", "sessions").exit_code == 0
    rows = [len(request.handles) // 8 for request in fake.requests]
    assert max(rows) > 1


def test_a_table_for_people(run):
    found = run("sum", *SHORT, "--version", "1")
    assert found.exit_code == 0
    assert "sum/1" in found.stdout
    for word in ("sessions", "group", "steps/s", "p50 ms", "p99 ms", "does nothing"):
        assert word in found.stdout


@pytest.mark.parametrize("mode", ["sessions", "group"])
def test_what_fails_is_one_sentence_and_leaves_nothing(run, fake, mode):
    found = run("nothing", *SHORT, "--mode", mode)
    assert found.exit_code == 1
    assert found.stderr.startswith("carousel: ")
    fake.switches.messages = [status(code_pb2.INVALID_ARGUMENT, "not like that")] * 3
    found = run("sum", *SHORT, "--mode", mode)
    assert found.exit_code == 1
    assert "not like that" in found.stderr
    assert len(found.stderr.splitlines()) == 1
    assert not fake.sessions


def test_when_one_cannot_be_opened_the_others_are_closed(run, fake):
    fake.switches.calls = {"Open": [status(code_pb2.INVALID_ARGUMENT, "not this one")]}
    found = run("sum", "--sessions", "200", "--mode", "sessions")
    assert found.exit_code == 1
    assert found.stderr == "carousel: not this one\n"
    assert not fake.sessions


def test_what_cannot_be_closed_is_told(run, fake):
    fake.switches.calls = {"Close": [status(code_pb2.INTERNAL, "not now")] * 2}
    found = run("sum", *SHORT, "--mode", "sessions")
    assert found.exit_code == 0
    assert "2 of 5 sessions may still be open" in found.stderr
    assert "not now" in found.stderr
    assert len(fake.sessions) == 2


@pytest.mark.parametrize("words", [["--sessions", "0"], ["--steps", "0"], ["--mode", "all"]])
def test_options_out_of_range_are_refused(run, words):
    assert run("sum", *words).exit_code == 2


def test_help_has_examples(run):
    found = run("--help")
    assert found.exit_code == 0
    assert "carousel bench co2" in found.stdout


@pytest.mark.parametrize("mode", ["sessions", "group"])
def test_ctrl_c_ends_quietly_and_closes_the_sessions(fake, mode):
    # A shell's `&` has programs ignore SIGINT, and these tests may be in the background.
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from carousel_client.cli import main; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, "bench", "sum", "--mode", mode, "--sessions", "5"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"CAROUSEL_ADDRESS": fake.address},
        text=True,
    )
    try:
        end = time.monotonic() + 10
        while len(fake.requests) < 20 and time.monotonic() < end:
            time.sleep(0.02)
        assert len(fake.sessions) == 5
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.communicate()
    assert not fake.sessions


def test_more_than_can_be_held_is_refused(run):
    found = run("sum", "--sessions", "1000", "--steps", "1000000")
    assert found.exit_code == 1
    assert found.stderr.startswith("carousel: 1,000 sessions with 1,000,000 steps at a time take ")
