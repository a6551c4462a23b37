"""The benchmark for GPUs: what it reckons with, and the whole of it, small, on the CPU provider."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import gpu
from benchmarks.ondevice import checks
from benchmarks.ondevice.budget import Budget, Forecast
from benchmarks.ondevice.cases import Case, Network, Rates, cases, networks
from benchmarks.ondevice.clock import LEAST_CALLS
from benchmarks.ondevice.contestants import open_ours
from benchmarks.ondevice.models import Torch, write
from benchmarks.ondevice.ticks import Contest, Times, set_up, time_network, time_ticks
from carousel_server.runtime.device import Device
from tests.docs.pages import ROOT
from tests.support.gpu import why_none


def test_the_floor_is_what_must_move_or_be_reckoned():
    case = Case(Network(128, 2), rows=10, steps=4)
    weights = 4 * 128 * (16 + 128) + 4 * 128 * (128 + 128) + 128
    states, values = 2 * 10 * 2 * 2 * 128 * 4, 10 * 4 * (16 + 1) * 4
    assert case.network.weights == weights
    assert case.moved("float32") == 4 * weights + states + values
    assert case.moved("bfloat16") == 2 * weights + states + values
    assert case.operations == 2 * 10 * 4 * weights
    moves, reckons = Rates(copy=1.0, matrix=1e30), Rates(copy=1e30, matrix=1.0)
    assert moves.floor(case, "float32") == case.moved("float32")
    assert reckons.floor(case, "float32") == case.operations


def test_weights_are_those_of_the_network():
    network = Network(32, 3)
    matrices = [p for name, p in Torch(network).named_parameters() if "bias" not in name]
    assert network.weights == sum(p.numel() for p in matrices)


def test_the_grid_is_the_one_that_was_asked_for():
    grid = list(networks(small=False))
    assert {n.hidden for n in grid} == {64, 128, 256, 512, 1024, 2048}
    assert {n.layers for n in grid} == {1, 2, 3, 4}
    assert len(grid) == len(set(grid)) == 6 * 4
    for network in grid:
        ticks = cases(network, small=False)
        assert (min(c.rows for c in ticks), max(c.rows for c in ticks)) == (1, 16_384)
        assert {c.steps for c in ticks} == {1, 8, 64}
        assert len(ticks) == len(set(ticks))
    assert grid[0] == Network(128, 2), "what matters most comes first"


def test_a_budget_is_spent_by_the_clock():
    now = [100.0]
    budget = Budget(60, clock=lambda: now[0])
    now[0] += 20
    assert (budget.spent, budget.left) == (20, 40)
    part, one = budget.part(0.5), budget.one_of(4)
    now[0] += 5
    assert (part.left, one.left) == (25, 5), "of the whole, and of what was left"
    now[0] += 25
    assert budget.part(0.5).left == 10, "no more than there is"
    now[0] += 100
    assert budget.left == 0


def test_a_forecast_is_the_lowest_bound_of_what_was_seen():
    forecast = Forecast()
    assert forecast.seconds((8, 1)) == 0
    forecast.add((4, 1), 1.0)
    assert forecast.seconds((8, 1)) == 2.0
    assert forecast.seconds((8, 3)) == 3.0, "by the larger ratio"
    assert forecast.seconds((1, 1)) == 1.0, "a smaller one takes no longer, and perhaps as long"
    forecast.add((8, 1), 1.5)
    assert forecast.seconds((16, 1)) == 3.0


def contest():
    return Contest(Device("cpu"), "float32", Rates(1e10, 1e11), each=0.001, small=True)


def test_every_tick_is_timed_or_named_as_left_out():
    """Whenever time runs out: this clock goes on whenever somebody looks at it."""
    shapes = networks(small=True)
    wanted = [case for network in shapes for case in cases(network, small=True)]
    outcomes = set()
    for seconds in (0, 3, 8, 15, 1000):
        ticking = itertools.count()
        times = time_ticks(contest(), shapes, Budget(seconds, clock=lambda t=ticking: next(t)))
        timed = [each.case for each in times.timed]
        assert sorted(timed + times.left_out) == sorted(wanted)
        assert timed == [case for case in wanted if case in timed], "in their order"
        outcomes.add(len(timed))
    assert min(outcomes) == 0
    assert max(outcomes) == len(wanted)
    assert len(outcomes) > 2, "some of them in between"


def test_what_would_take_too_long_is_not_begun():
    """A tick of a thousand times as many steps, where there is time for a hundred times."""
    small, large = Case(Network(16, 1), 1, 1), Case(Network(16, 1), 1, 1000)
    torch.set_num_threads(1)
    times = Times()
    with set_up(contest(), small.network, 1) as made:
        budget = Budget(1.0, clock=lambda: 0.0)
        time_network(contest(), made, [small], budget, times)
        one = sum(times.timed[0].seconds.values())
        budget = Budget(100 * LEAST_CALLS * one, clock=lambda: 0.0)
        time_network(contest(), made, [small, large], budget, times)
    assert [each.case for each in times.timed] == [small, small]
    assert times.left_out == [large]


def test_the_tests_for_gpus_need_no_exporter(monkeypatch):
    """It brings ONNX Runtime for the CPU, whose files are the same as the GPU's."""
    monkeypatch.chdir(ROOT)
    names = checks.gpu_tests()
    assert {"tests/e2e/test_gpu.py", "tests/server/runtime/ondevice/test_gpu.py"} <= set(names)
    code = "import sys, pytest; sys.modules['carousel_exporter'] = None; sys.exit(pytest.main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "-q", "--collect-only", "-m", "gpu", *names],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_a_command_that_takes_too_long_is_ended_with_its_children(tmp_path):
    """It begins a child, and both wait for ever."""
    child = tmp_path / "child"
    script = f"sleep 1000 & echo $! > {child}; wait"
    assert checks.status_within(["bash", "-c", "exit 3"], Budget(60)) == 3
    assert checks.status_within(["bash", "-c", script], Budget(3)) is None
    stat, until = Path(f"/proc/{child.read_text().strip()}/stat"), time.monotonic() + 10
    with suppress(FileNotFoundError):  # it has gone
        while stat.read_text().split()[2] != "Z":
            assert time.monotonic() < until, "it lives on"
            time.sleep(0.01)


@pytest.fixture
def small(tmp_path):
    torch.set_num_threads(1)
    network = Torch(Network(16, 2)).eval()
    path = write(network, tmp_path)
    return network, open_ours(path, Device("cpu"), math="float32", slots=12, largest=8)


def test_a_model_that_is_right_passes(small):
    network, model = small
    check = checks.against_torch(model, network, sessions=8, math="float32")
    assert check.passed
    assert 0 < check.worst < 1e-5


def test_a_model_that_is_wrong_does_not(small):
    network, model = small
    with torch.no_grad():
        network.lstm.weight_hh_l1 *= 1.05
    assert not checks.against_torch(model, network, sessions=8, math="float32").passed


def test_a_state_that_is_mixed_up_on_its_way_is_found(small, monkeypatch):
    network, model = small
    read = model.read
    monkeypatch.setattr(
        model, "read", lambda slots: {n: np.roll(v, 1, axis=0) for n, v in read(slots).items()}
    )
    assert not checks.against_torch(model, network, sessions=8, math="float32").passed


def test_all_of_it_on_the_cpu(tmp_path, capsys):
    assert gpu.main(["--device", "cpu", "--out", str(tmp_path)]) == 0
    numbers = json.loads((tmp_path / "gpu.json").read_text())
    assert [check["worst"] <= check["allowed"] for check in numbers["checks"]] == [True]
    assert len(numbers["ticks"]) == sum(len(cases(n, small=True)) for n in networks(small=True))
    assert numbers["left_out"] == {"ticks": [], "others": []}
    for tick in numbers["ticks"]:
        assert tick["seconds"].keys() == {"ours", "overlapped", "bare", "torch"}
        assert min(tick["seconds"].values()) > 0 < tick["floor"]
    assert [load["gateways"] for load in numbers["server"]] == [1, 2]
    assert min(load["steps_a_second"] for load in numbers["server"]) > 0
    assert numbers["fits"][0]["slots"] > 0
    out = capsys.readouterr().out
    assert "nothing here says anything of a GPU" in out
    assert "left out" not in out
    assert out.index("passed: 32 sessions") < out.index("microseconds of a tick")


def test_without_time_it_says_what_it_left_out(tmp_path, capsys):
    assert gpu.main(["--device", "cpu", "--minutes", "1e-6", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    for told in (
        "left out for time: H=64, layers 1, all ticks",
        "left out for time: H=32, layers 3, all ticks",
        "above says: the whole server, gateways 1\n",
        "above says: how many sessions fit, H=64, layers 1\n",
    ):
        assert told in out
    assert "--minutes gives more" in out
    numbers = json.loads((tmp_path / "gpu.json").read_text())
    assert (numbers["ticks"], numbers["server"], numbers["fits"]) == ([], [], [])
    assert len(numbers["left_out"]["ticks"]) == 6


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "inf", "soon"])
def test_minutes_are_above_0(minutes, capsys):
    with pytest.raises(SystemExit):
        gpu.main(["--device", "cpu", "--minutes", minutes])
    assert "--minutes" in capsys.readouterr().err


@pytest.mark.skipif(not why_none(), reason="there is a GPU, and a measurement takes minutes")
def test_without_a_gpu_it_says_so(tmp_path, capsys):
    assert gpu.main(["--out", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert out.startswith("nothing was measured: --device cuda was asked for, but")
    assert "carousel-server[gpu]" in out
    assert not (tmp_path / "gpu.json").exists()
