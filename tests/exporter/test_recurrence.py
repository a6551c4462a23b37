"""Layers run one by one: as PyTorch's modules where nothing is dropped, and what dropping does."""

import dataclasses

import pytest
import torch

from carousel_exporter import conversion
from carousel_exporter.conversion import Labels
from carousel_exporter.initialisation import initialise, remember
from carousel_exporter.network import Architecture, RecurrentNetwork
from carousel_exporter.recurrence import run_layers
from carousel_exporter.source import Source

KINDS = ["lstm", "gru", "rnn"]
SIZES = Architecture(features=3, hidden=8, layers=2, outputs=2)


def make(**changed) -> RecurrentNetwork:
    torch.manual_seed(0)
    network = RecurrentNetwork(dataclasses.replace(SIZES, **changed))
    initialise(network)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "norms" in name or "bias" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return network


@pytest.mark.parametrize("cell", KINDS)
def test_one_by_one_is_all_at_once(cell):
    network = make(cell=cell).eval()
    x = torch.randn(7, 4, 3)
    states = [torch.randn(2, 4, 8) for _ in range(2 if cell == "lstm" else 1)]
    top, new = run_layers(network.recurrent, x, states, norms=None, recurrent_dropout=0.5)
    expected, carried = network.recurrent(x, tuple(states) if len(states) > 1 else states[0])
    torch.testing.assert_close(top, expected)
    for one, other in zip(new, carried if cell == "lstm" else (carried,), strict=True):
        torch.testing.assert_close(one, other)


def test_hidden_units_are_dropped_alike_at_every_step():
    """Against the equations of an LSTM, step by step, with the hidden state itself masked."""
    network = make(layers=1, recurrent_dropout=0.5).train()
    x = torch.randn(6, 2, 3)
    torch.manual_seed(5)
    found, state = network.normalised(x)
    torch.manual_seed(5)
    mask = torch.full((8,), 0.5).bernoulli() / 0.5
    assert 0 < (mask == 0).sum() < 8
    W, R, b, c = (getattr(network.recurrent, f"{n}_l0") for n in
                  ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))  # fmt: skip
    h, cell, answers = torch.zeros(2, 8), torch.zeros(2, 8), []
    for step in x:
        i, f, g, o = (step @ W.T + b + (h * mask) @ R.T + c).chunk(4, dim=1)
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        h = o.sigmoid() * cell.tanh()
        answers.append(h)
    torch.testing.assert_close(found, network.head(torch.stack(answers)))
    torch.testing.assert_close(state["h0"], h)
    torch.testing.assert_close(state["c0"], cell)


def test_nothing_is_dropped_outside_of_training():
    network = make(recurrent_dropout=0.9)
    x = torch.randn(5, 2, 3)
    plain = RecurrentNetwork(SIZES)
    plain.load_state_dict(network.state_dict())
    torch.testing.assert_close(network.eval()(x)[0], plain.eval()(x)[0])
    assert not torch.allclose(network.train()(x)[0], plain(x)[0])


@pytest.mark.parametrize("cell", KINDS)
def test_normalised_layers_are_exported_and_proved(cell, tmp_path):
    network = make(cell=cell, layer_norm=True, log_probabilities=True).eval()
    path = tmp_path / "m.onnx"
    classes = ("yes", "no")
    report = conversion.convert(Source(network, answers=classes), path, Labels("m"))
    assert report.passed
    assert report.checks[-1].name == "PyTorch"
    assert report.checks[-1].states is not None
    assert path.exists()


@pytest.mark.parametrize(("cell", "keep", "enter"), [("lstm", 1, 0), ("gru", 1, None)])
def test_chrono_biases_span_the_memory_asked_for(cell, keep, enter):
    network = make(cell=cell, hidden=200)
    initialise(network)
    remember(network, 100)
    for layer in range(2):
        bias = getattr(network.recurrent, f"bias_ih_l{layer}").view(-1, 200)
        spans = bias[keep].exp()
        assert 1 <= spans.min() < 5
        assert 90 < spans.max() <= 99.01
        assert 40 < spans.mean() < 60
        if enter is not None:
            torch.testing.assert_close(bias[enter], -bias[keep])
        others = [place for place in range(len(bias)) if place not in {keep, enter}]
        assert (bias[others] == 0).all()
        assert (getattr(network.recurrent, f"bias_hh_l{layer}") == 0).all()
