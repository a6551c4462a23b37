"""The benchmark for GPUs: what it reckons with, and the whole of it, small, on the CPU provider."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from benchmarks import gpu
from benchmarks.ondevice import checks
from benchmarks.ondevice.cases import Case, Network, Rates, cases, networks
from benchmarks.ondevice.contestants import open_ours
from benchmarks.ondevice.models import Torch, write
from carousel_server.runtime.device import Device
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
    assert {n.layers for n in grid} == {1, 2, 4}
    ticks = [case for network in grid for case in cases(network, small=False)]
    assert (min(c.rows for c in ticks), max(c.rows for c in ticks)) == (1, 16_384)
    assert {c.steps for c in ticks} == {1, 8, 64}
    assert grid[0] == Network(128, 2), "what matters most comes first"


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
    assert len(numbers["ticks"]) == len(list(cases(Network(64, 1), small=True)))
    for tick in numbers["ticks"]:
        assert tick["seconds"].keys() == {"ours", "bare", "torch"}
        assert min(tick["seconds"].values()) > 0 < tick["floor"]
    assert numbers["server"][0]["steps_a_second"] > 0
    assert numbers["fits"][0]["slots"] > 0
    out = capsys.readouterr().out
    assert "nothing here says anything of a GPU" in out
    assert out.index("passed: 32 sessions") < out.index("microseconds of a tick")


@pytest.mark.skipif(not why_none(), reason="there is a GPU, and a measurement takes minutes")
def test_without_a_gpu_it_says_so(tmp_path, capsys):
    assert gpu.main(["--out", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert out.startswith("nothing was measured: --device cuda was asked for, but")
    assert "carousel-server[gpu]" in out
    assert not (tmp_path / "gpu.json").exists()
