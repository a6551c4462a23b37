"""Networks that make rounding grow: right files pass, wrong ones don't.

Their weights are large and random. Each seed was searched for one that a comparison of whole
sequences alone refuses, though its file is right.
"""

import numpy as np
import onnx
import pytest
import torch

from carousel_exporter import conversion, manifest, rounding
from carousel_exporter.conversion import Labels
from carousel_exporter.equality import TOLERANCE, difference
from carousel_exporter.errors import VerificationError
from carousel_exporter.network import Architecture, RecurrentNetwork
from carousel_exporter.rounding import Noise, allowed, along, walk
from carousel_exporter.source import Source
from carousel_exporter.verification import verify

from . import mutants
from .builders import make_network

STEPWISE = "PyTorch, each step from equal states"
#: Cell, seed and gain of networks whose sequences part: at last by a little, or altogether.
UNSTABLE = [("gru", 3, 4), ("rnn", 4, 2), ("lstm", 4, 6), ("rnn", 3, 6)]


def make_unstable(cell, seed, gain, hidden=16):
    torch.manual_seed(seed)
    network = RecurrentNetwork(Architecture(2, hidden, 1, 1, cell=cell))
    with torch.no_grad():
        for parameter in network.recurrent.parameters():
            parameter.normal_(0, gain / np.sqrt(hidden))
    return network.eval()


def write(network, path):
    """Write a model file without proving it."""
    source = Source(network)
    model = conversion.build_model(source)
    manifest.attach(model, conversion.describe(source, Labels("m")), {})
    onnx.save(model, path)
    return path


def change_a_weight(model):
    """Make one recurrent weight a hundredth larger."""
    (tensor,) = [each for each in model.graph.initializer if each.name == "layer0.R"]
    array = onnx.numpy_helper.to_array(tensor).copy()
    array.flat[3] *= 1.01
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))


@pytest.mark.parametrize(("cell", "seed", "gain"), UNSTABLE)
def test_a_right_file_of_an_unstable_network_is_written(tmp_path, monkeypatch, cell, seed, gain):
    network = make_unstable(cell, seed, gain)
    report = conversion.convert(Source(network), tmp_path / "m.onnx", Labels("m"))
    assert report.passed
    assert [check.name for check in report.checks][-1] == STEPWISE
    assert any("The network is unstable" in note for note in report.notes)
    stepwise = report.checks[-1]
    assert stepwise.outputs.tolerance <= 2 * TOLERANCE[4]
    monkeypatch.setattr("carousel_exporter.verification.UNSTABLE", np.inf)
    with pytest.raises(VerificationError, match="its numbers differ"):
        conversion.convert(Source(network), tmp_path / "n.onnx", Labels("m"))


@pytest.mark.parametrize(("cell", "seed", "gain"), UNSTABLE)
def test_a_wrong_weight_of_an_unstable_network_is_refused(tmp_path, cell, seed, gain):
    network = make_unstable(cell, seed, gain)
    mutant = mutants.mutate(write(network, tmp_path / "m.onnx"), change_a_weight)
    report = verify(mutant, against=network)
    assert not report.passed
    assert STEPWISE in {check.name for check in report.checks if not check.passed}


@pytest.mark.parametrize(
    "fault",
    [
        mutants.leak_rows,
        mutants.ignore_lengths,
        mutants.swap_states,
        mutants.forget_state,
        mutants.permute_gates,
    ],
)
def test_every_fault_is_found_in_an_unstable_network(tmp_path, fault):
    network = make_unstable("lstm", 4, 6)
    mutant = mutants.mutate(write(network, tmp_path / "m.onnx"), fault)
    report = verify(mutant, against=network)
    assert not report.passed


@pytest.mark.parametrize(("cell", "seed", "gain"), UNSTABLE)
def test_a_file_alone_is_not_said_to_be_wrong(tmp_path, cell, seed, gain):
    """Where there is no network beside it, its own growth is measured on disturbed states."""
    path = write(make_unstable(cell, seed, gain), tmp_path / "m.onnx")
    assert verify(path).passed


def test_a_file_alone_is_refused_where_rows_leak(tmp_path):
    path = write(make_unstable("lstm", 3, 8), tmp_path / "m.onnx")
    assert not verify(mutants.mutate(path, mutants.leak_rows)).passed


def test_a_stable_network_is_held_to_what_carousel_calls_equal(tmp_path):
    network = make_network()
    path = write(network, tmp_path / "m.onnx")
    with torch.no_grad():
        network.head.weight.add_(3e-5)
    report = verify(path, against=network)
    assert not report.passed
    assert report.checks[-1].name == "PyTorch"
    assert report.checks[-1].outputs.tolerance == TOLERANCE[4]


def test_double_precision_is_the_same_network():
    network = make_network(targets=(0,))
    double = network.in_double()
    x = {"x": np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)}
    (one, after), (other, exact) = network.advance(x, None), double.advance(x, None)
    assert other["y"].dtype == exact["h0"].dtype == np.float64
    assert one["y"].dtype == after["h0"].dtype == np.float32
    np.testing.assert_allclose(one["y"], other["y"], rtol=1e-5, atol=1e-5)
    assert not np.array_equal(one["y"], other["y"])


def double_the_distance(chunk, state):
    """An unstable system of one number."""
    s = 2 * (np.float32([0.1]) if state is None else state["s"])
    return {"y": s[None]}, {"s": s}


def test_growth_is_measured_by_step_and_never_falls():
    session = {"x": np.zeros((20, 1), np.float32)}
    rng = np.random.default_rng(0)
    one = walk(double_the_distance, session)
    other = walk(double_the_distance, session, rng)
    noise = along([one], [other], {})
    assert noise.answers["y"].shape == (20,)
    assert (np.diff(noise.answers["y"]) >= 0).all()
    assert 0 < noise.largest < 1e-5
    assert np.array_equal(other[0].answer["y"], one[0].answer["y"])  # the first state is exact


def test_what_grew_late_excuses_nothing_early():
    reference, value = np.zeros((3, 1), np.float32), np.float32([[2e-4], [2e-4], [2e-4]])
    grown = np.array([0.0, 1e-6, 1e-5])
    found = difference("y", reference, value, 1.0, grown)
    assert found.tolerance == TOLERANCE[4]
    assert found.excess == pytest.approx(20, rel=1e-3)
    assert difference("y", reference[2:], value[2:], 1.0, grown[2:]).excess < 1


def test_sequences_that_have_parted_prove_nothing():
    late = rounding.PARTED / rounding.ALLOWANCE * 1.01
    assert allowed(1e-5, np.array([0.0, late])).tolist() == [1e-5, np.inf]
    noise = Noise({"y": np.array([1e-7, late]), "z": np.array([0.0, 0.0])}, {})
    assert noise.parted == 1
    assert noise.at_most(1e-3).parted is None
    assert Noise({"y": np.zeros(2)}, {}).parted is None
