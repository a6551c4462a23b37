"""An LSTM's gates, from PyTorch's own weights: nn.LSTM computes them and keeps them to itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from carousel_exporter.network import RecurrentNetwork


@dataclass(frozen=True)
class Gates:
    """The gates, the candidate and the states of a layer at every step, (T, H) each."""

    i: Tensor
    f: Tensor
    g: Tensor
    o: Tensor
    c: Tensor
    h: Tensor


@torch.inference_mode()
def run_layer(lstm: nn.LSTM, x: Tensor) -> Gates:
    """Run an LSTM's first layer over one sequence x, (T, F), from a new session's state."""
    w, r, b_x, b_h = (
        lstm.get_parameter(f"{name}_l0")
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )  # (4H, F), (4H, H), (4H,), (4H,)
    h = c = x.new_zeros(lstm.hidden_size)
    steps = []
    for x_t in x:
        i, f, g, o = (w @ x_t + r @ h + b_x + b_h).chunk(4)  # PyTorch's order
        i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
        c = f * c + i * g
        h = o * c.tanh()
        steps.append((i, f, g, o, c, h))
    return Gates(*(torch.stack(column) for column in zip(*steps, strict=True)))


def run_on_tokens(network: RecurrentNetwork, ids: Tensor) -> Gates:
    """Run the first layer of an LSTM with an embedding over token ids, (T,)."""
    embedding, lstm = network.embedding, network.recurrent
    assert embedding is not None
    assert isinstance(lstm, nn.LSTM)
    return run_layer(lstm, embedding(ids))
