"""The networks: as many weights each, begun as the literature advises or as PyTorch does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from carousel_exporter.cells import CELLS, Cell
from carousel_exporter.network import Architecture, Forecaster, initialise
from examples.memory.problems import FEATURES


@dataclass(frozen=True)
class Network:
    """A kind of network: its cell, how its weights begin, and Adam's step size.

    `careful` ones begin as `build` says, others as PyTorch's layers do by themselves: every number
    drawn evenly from ±1/√H. The step size of a cell is the best of those that were tried for it.
    """

    name: str
    title: str
    cell: str
    careful: bool
    rate: float


NETWORKS: Final[Mapping[str, Network]] = {
    network.name: network
    for network in (
        Network("rnn", "RNN", "rnn", careful=True, rate=2e-3),
        Network("gru", "GRU", "gru", careful=True, rate=1e-2),
        Network("lstm", "LSTM", "lstm", careful=True, rate=1e-2),
        Network("rnn-plain", "RNN, PyTorch's start", "rnn", careful=False, rate=2e-3),
        Network("lstm-plain", "LSTM, PyTorch's start", "lstm", careful=False, rate=1e-2),
    )
}


def build(network: Network, *, lag: int, lstm_hidden: int, seed: int) -> Forecaster:
    """Return an untrained network of one layer, with about the weights of an LSTM so wide.

    A careful start is `carousel_exporter.network.initialise` (orthogonal recurrent weights), and
    for gated cells biases that remember for about as long as the problem asks: `remember_for`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        forecaster = Forecaster(architecture(network, lstm_hidden=lstm_hidden))
        if network.careful:
            initialise(forecaster)
            remember_for(forecaster, lag)
    return forecaster


def architecture(network: Network, *, lstm_hidden: int) -> Architecture:
    """Return a network's sizes."""
    hidden = matched_hidden(CELLS[network.cell], lstm_hidden)
    return Architecture(features=FEATURES, hidden=hidden, layers=1, outputs=1, cell=network.cell)


def matched_hidden(cell: Cell, lstm_hidden: int) -> int:
    """Return the H that gives a cell the number of weights nearest to such an LSTM's."""
    wanted = _recurrent_weights(CELLS["lstm"], lstm_hidden)
    widths = range(1, 4 * lstm_hidden + 4)
    return min(widths, key=lambda width: abs(_recurrent_weights(cell, width) - wanted))


def _recurrent_weights(cell: Cell, hidden: int) -> int:
    """Count W (gates·H, F), R (gates·H, H) and PyTorch's two biases (gates·H)."""
    return cell.gates * hidden * (FEATURES + hidden + 2)


@torch.no_grad()
def remember_for(forecaster: Forecaster, steps: int) -> None:
    """Set gates' biases by chrono initialisation (Tallec and Ollivier 2018).

    A gate that keeps 1 - 1/t of its state at each step remembers for about t steps, and its bias is
    log(t - 1). So an LSTM gets b_f = log U[1, steps - 1] and b_i = -b_f, and a GRU the same for z,
    which keeps h in PyTorch's equations. A plain RNN has no gate and stays as it is. Draws from
    torch's generator.
    """
    cell = forecaster.architecture.kind
    if cell.biased_to_keep is None:
        return
    ages = torch.empty(forecaster.architecture.hidden).uniform_(1, max(steps - 1, 2))
    biases = _by_gate(forecaster, "bias_ih_l0")
    biases[cell.biased_to_keep] = ages.log()
    if cell.has_cell_state:
        biases[0] = -ages.log()  # PyTorch's i


def _by_gate(forecaster: Forecaster, name: str) -> Tensor:
    """Return a bias of the recurrent layer as (gates, H); writing to it writes to the layer."""
    bias: Tensor = forecaster.recurrent.get_parameter(name)
    return bias.view(forecaster.architecture.kind.gates, forecaster.architecture.hidden)
