"""The network that is trained and exported: normalisation, LSTM layers, a linear head, all as one.

It takes and gives plain units, and its state is named and laid out as in the model file, so it is
the reference that a model file is proved against. docs/lstm.md has the equations.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

#: Names of the states that changes mode adds, and of layer k's.
PREVIOUS = "previous"
SEEN = "seen"

State = dict[str, Tensor]


def hidden_name(layer: int) -> str:
    """Return the name of a layer's hidden state."""
    return f"h{layer}"


def cell_name(layer: int) -> str:
    """Return the name of a layer's cell state."""
    return f"c{layer}"


@dataclass(frozen=True)
class Architecture:
    """The sizes of a network, and how it sees its inputs.

    `features` is F, `hidden` H. `outputs` is O, or 0 where there is no head and the answer is the
    top layer's h. `targets` are the places of the targets among the features in changes mode,
    and None in levels mode. `dropout` acts between layers, in training only.
    """

    features: int
    hidden: int
    layers: int
    outputs: int
    targets: tuple[int, ...] | None = None
    dropout: float = 0.0
    bias: bool = True
    head_bias: bool = True

    @property
    def width(self) -> int:
        """The length of an answer's last axis."""
        return self.outputs or self.hidden


class Forecaster(nn.Module):
    """Maps plain-units inputs (T, B, F) to plain-units answers (T, B, O), carrying a state."""

    input_mean: Tensor
    input_scale: Tensor
    output_mean: Tensor
    output_scale: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.lstm = nn.LSTM(
            architecture.features,
            architecture.hidden,
            architecture.layers,
            bias=architecture.bias,
            dropout=architecture.dropout if architecture.layers > 1 else 0.0,
        )
        self.head = (
            nn.Linear(architecture.hidden, architecture.outputs, bias=architecture.head_bias)
            if architecture.outputs
            else None
        )
        self.register_buffer("input_mean", torch.zeros(architecture.features))
        self.register_buffer("input_scale", torch.ones(architecture.features))
        self.register_buffer("output_mean", torch.zeros(architecture.width))
        self.register_buffer("output_scale", torch.ones(architecture.width))

    def initial_state(self, batch: int) -> State:
        """Return the state of `batch` new sessions: zeros, batch on axis 0."""
        a = self.architecture
        sizes = {PREVIOUS: a.features, SEEN: 1} if a.targets is not None else {}
        for layer in range(a.layers):
            sizes |= {hidden_name(layer): a.hidden, cell_name(layer): a.hidden}
        return {name: self.input_mean.new_zeros(batch, size) for name, size in sizes.items()}

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Answer every step of x, (T, B, F) to (T, B, O) in plain units, and return the state."""
        answer, state = self.normalised(x, state)
        y = answer * self.output_scale + self.output_mean  # (T, B, O)
        if self.architecture.targets is not None:
            y = x[..., list(self.architecture.targets)] + y
        return y, state

    def normalised(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Do as `forward` does, but answer in the units of the loss: (T, B, O), mean 0, scale 1."""
        old = self.initial_state(x.shape[1]) if state is None else state
        signal, new = self._differences(x, old) if self._in_changes else (x, {})
        z = (signal - self.input_mean) / self.input_scale  # (T, B, F)
        layers = range(self.architecture.layers)
        h = torch.stack([old[hidden_name(layer)] for layer in layers])  # (L, B, H)
        c = torch.stack([old[cell_name(layer)] for layer in layers])  # (L, B, H)
        top, (h, c) = self.lstm(z, (h, c))  # top: (T, B, H)
        for layer in layers:
            new |= {hidden_name(layer): h[layer], cell_name(layer): c[layer]}
        return (top if self.head is None else self.head(top)), new

    @property
    def _in_changes(self) -> bool:
        return self.architecture.targets is not None

    @staticmethod
    def _differences(x: Tensor, state: State) -> tuple[Tensor, State]:
        """Return the change from step to step, (T, B, F); a session's first step has none: 0."""
        first = torch.where(state[SEEN] > 0, state[PREVIOUS], x[0])  # (B, F)
        before = torch.cat([first[None], x[:-1]])  # (T, B, F)
        return x - before, {PREVIOUS: x[-1], SEEN: torch.ones_like(state[SEEN])}


@torch.no_grad()
def initialise(forecaster: Forecaster) -> None:
    """Set the LSTM's weights to values from which it learns well; draws from torch's generator.

    Recurrent weights: orthogonal for each gate (Saxe et al. 2014), so that gradients neither grow
    nor vanish at the start. Input weights: Glorot and Bengio 2010, for each gate. Biases 0, but
    the forget gate's 1 (Gers et al. 2000; Jozefowicz et al. 2015), so that the cell remembers
    until it learns to forget. PyTorch adds two biases: one holds the 1, the other stays 0.
    """
    hidden = forecaster.architecture.hidden
    for name, parameter in forecaster.lstm.named_parameters():
        if name.startswith("weight_hh"):
            for gate in parameter.chunk(4):
                nn.init.orthogonal_(gate)
        elif name.startswith("weight_ih"):
            for gate in parameter.chunk(4):
                nn.init.xavier_uniform_(gate)
        else:
            parameter.zero_()
            if name.startswith("bias_ih"):
                parameter[hidden : 2 * hidden] = 1.0  # gates are i, f, g, o
