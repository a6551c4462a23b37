import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from carousel_exporter.initialisation import initialise
from carousel_exporter.network import Architecture, RecurrentNetwork

from . import reference
from .builders import make_network


@pytest.mark.parametrize("targets", [None, (1,), (1, 0)])
@pytest.mark.parametrize("layers", [1, 2])
def test_the_network_is_the_equations(layers, targets):
    outputs = 1 if targets is None else len(targets)
    network = make_network(layers=layers, outputs=outputs, targets=targets)
    x = 300 + np.random.default_rng(0).normal(size=(30, 2)).cumsum(axis=0)
    with torch.inference_mode():
        y, _ = network(torch.tensor(x[:, None], dtype=torch.float32))
    expected = reference.forecast(network, x.astype(np.float32).astype(np.float64))
    np.testing.assert_allclose(y[:, 0], expected, rtol=1e-5, atol=1e-5)


def test_without_head_and_bias_the_answer_is_the_top_layers_h():
    network = make_network(outputs=0, bias=False)
    x = np.random.default_rng(0).normal(size=(9, 2))
    with torch.inference_mode():
        y, state = network(torch.tensor(x[:, None], dtype=torch.float32))
    np.testing.assert_allclose(y[:, 0], reference.forecast(network, x), rtol=1e-5, atol=1e-5)
    h = state["h0"] * network.output_scale + network.output_mean
    np.testing.assert_allclose(y[-1], h, rtol=1e-6)


@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(1, 6), min_size=1, max_size=6), in_changes=st.booleans())
def test_chunks_answer_as_the_whole_does(cuts, in_changes):
    network = make_network(targets=(0,) if in_changes else None)
    x = torch.randn(sum(cuts), 3, 2, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        whole, end = network(x)
        state, parts = None, []
        for chunk in torch.split(x, cuts):
            y, state = network(chunk, state)
            parts.append(y)
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-5, atol=1e-5)
    assert state.keys() == end.keys()
    for name in end:
        torch.testing.assert_close(state[name], end[name], rtol=1e-5, atol=1e-5)


def test_a_sessions_first_step_has_no_change():
    network = make_network(targets=(0,))
    x = torch.full((1, 2, 2), 300.0)
    signal, new = network._differences(x, network.initial_state(2))
    assert (signal == 0).all()
    assert (new["previous"] == 300).all()
    assert (new["seen"] == 1).all()
    signal, _ = network._differences(x + 1.5, new)
    assert (signal == 1.5).all()


@pytest.mark.parametrize("layers", [1, 3])
def test_the_cell_remembers_at_first(layers):
    network = RecurrentNetwork(Architecture(3, 16, layers, 1))
    initialise(network)
    weights = dict(network.lstm.named_parameters())
    for layer in range(layers):
        both = weights[f"bias_ih_l{layer}"] + weights[f"bias_hh_l{layer}"]
        i, f, g, o = both.detach().chunk(4)
        assert (f == 1).all()  # not 2: PyTorch adds two biases
        assert (i == 0).all()
        assert (g == 0).all()
        assert (o == 0).all()


def test_recurrent_weights_are_orthogonal_gate_by_gate():
    network = RecurrentNetwork(Architecture(3, 16, 2, 1))
    initialise(network)
    for name, weight in network.lstm.named_parameters():
        if name.startswith("weight_hh"):
            for gate in weight.detach().chunk(4):
                torch.testing.assert_close(gate @ gate.T, torch.eye(16), rtol=0, atol=1e-5)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("vocabulary", [0, 11])
def test_weights_are_counted_before_they_are_there(cell, layers, vocabulary):
    sizes = Architecture(3, 8, layers, 2, cell=cell, vocabulary=vocabulary)
    made = sum(parameter.numel() for parameter in RecurrentNetwork(sizes).parameters())
    assert sizes.weights == made
