"""Recurrent layers run one by one: for dropout on the hidden state, and normalisation between.

PyTorch's modules run all their layers in one call, with nothing of ours in between. These functions
run the same kernels on the same weights, a layer at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

#: PyTorch's kernels by a module's `mode`; each takes (x, states, weights, has_biases, layers,
#: dropout, training, bidirectional, batch_first) and returns the answer and the new states.
_KERNELS: Final[dict[str, Callable[..., Any]]] = {
    "LSTM": torch.lstm,
    "GRU": torch.gru,
    "RNN_TANH": torch.rnn_tanh,
    "RNN_RELU": torch.rnn_relu,
}


def run_layers(
    module: nn.RNNBase,
    x: Tensor,
    states: Sequence[Tensor],
    *,
    norms: nn.ModuleList | None,
    recurrent_dropout: float,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run x (T, B, F) through a module's layers, one after the other, from states (L, B, …) each.

    A layer's answer passes through its one of `norms`, if there are, and the module's own dropout
    before it goes to the next. Returns the top's answer (T, B, H) and the new states.
    """
    collected = []
    drop = recurrent_dropout if module.training else 0.0
    for layer, own in enumerate(module.all_weights):
        weights = _drop_hidden(own, drop) if drop else own
        old = tuple(state[layer : layer + 1] for state in states)  # (1, B, …) each
        x, *new = _KERNELS[module.mode](
            x,
            old if len(old) > 1 else old[0],
            weights,
            module.bias,
            1,
            0.0,
            module.training,
            False,  # noqa: FBT003 - not bidirectional; the kernels take no names
            False,  # noqa: FBT003 - time-major
        )
        collected.append(new)
        if norms is not None:
            x = norms[layer](x)
        if layer + 1 < module.num_layers:
            x = nn.functional.dropout(x, module.dropout, module.training)
    return x, tuple(torch.cat(each) for each in zip(*collected, strict=True))


def _drop_hidden(weights: Sequence[Tensor], p: float) -> Sequence[Tensor]:
    """Drop units of the hidden state on their way to the next step, the same ones at every step.

    Variational dropout of Gal and Ghahramani 2016 (https://arxiv.org/abs/1512.05287): the mask of
    a unit stays what it is throughout the window. R (m * h) = (R diag(m)) h, so that a mask which
    all rows of the window share is put on the columns of R once, and the kernels need not know.
    """
    w_ih, w_hh, *others = weights
    mask = torch.full_like(w_hh[0], 1 - p).bernoulli() / (1 - p)  # (H,)
    return [w_ih, w_hh * mask, *others]
