"""The networks: as many weights each, begun as the literature advises or as PyTorch does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch

from carousel_exporter.cells import CELLS, Cell
from carousel_exporter.initialisation import initialise, remember
from carousel_exporter.network import Architecture, RecurrentNetwork
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


def build(network: Network, *, lag: int, lstm_hidden: int, seed: int) -> RecurrentNetwork:
    """Return an untrained network of one layer, with about the weights of an LSTM so wide.

    A careful start is `initialise` of the exporter (orthogonal recurrent weights), and
    for gated cells biases that remember for about as long as the problem asks (`remember`).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        untrained = RecurrentNetwork(architecture(network, lstm_hidden=lstm_hidden))
        if network.careful:
            initialise(untrained)
            remember(untrained, lag)
    return untrained


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
