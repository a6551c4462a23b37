"""The weights that training begins with: such as learn well, and such as remember."""

from __future__ import annotations

import torch
from torch import nn

from carousel_exporter.network import RecurrentNetwork


@torch.no_grad()
def initialise(network: RecurrentNetwork) -> None:
    """Set the recurrent weights to values that learn well; draws from torch's generator.

    Recurrent weights: orthogonal for each gate (Saxe et al. 2014), so that gradients neither grow
    nor vanish at the start. Input weights: Glorot and Bengio 2010, for each gate. Biases 0, but
    1 for the gate that keeps the old state (an LSTM's forget gate: Gers et al. 2000; Jozefowicz
    et al. 2015; a GRU's update gate likewise), so that a layer remembers until it learns to
    forget. PyTorch adds two biases: one holds the 1, the other stays 0.
    """
    a = network.architecture
    for name, parameter in network.recurrent.named_parameters():
        if name.startswith("weight_hh"):
            for gate in parameter.chunk(a.kind.gates):
                nn.init.orthogonal_(gate)
        elif name.startswith("weight_ih"):
            for gate in parameter.chunk(a.kind.gates):
                nn.init.xavier_uniform_(gate)
        elif name.startswith("bias"):
            parameter.zero_()
            if name.startswith("bias_ih") and a.kind.biased_to_keep is not None:
                parameter.view(a.kind.gates, a.hidden)[a.kind.biased_to_keep] = 1.0


@torch.no_grad()
def remember(network: RecurrentNetwork, longest: int) -> None:
    """Spread what layers remember over 1 to `longest` steps; draws from torch's generator.

    Chrono initialisation, Tallec and Ollivier 2018 (https://arxiv.org/abs/1804.11188): with u drawn
    uniformly from 1 to `longest` - 1, the bias of the gate that keeps the old state is log u, and
    that of a gate of its own that lets the new in is -log u. Replaces the biases of `initialise`.
    """
    a = network.architecture
    keep, enter = a.kind.biased_to_keep, a.kind.biased_to_enter
    for name, parameter in network.recurrent.named_parameters():
        if not name.startswith("bias_ih") or keep is None:
            continue
        gates = parameter.view(a.kind.gates, a.hidden)
        spread = torch.empty(a.hidden).uniform_(1, longest - 1).log_()
        gates[keep] = spread
        if enter is not None:
            gates[enter] = -spread
