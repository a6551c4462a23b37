"""The network that is trained and exported: normalisation, recurrent layers, a linear head, as one.

It takes and gives plain units, and its state is named and laid out as in the model file, so it is
the reference that a model file is proved against. docs/lstm.md has the equations.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from carousel.v1.manifest_pb2 import ModelManifest
from carousel_exporter.cells import CELLS, LSTM, Cell
from carousel_exporter.recurrence import run_layers

#: Name of the answer where the heads have none of their own.
ANSWER = "y"
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
    and None in levels mode. `dropout` acts between layers, in training only. `cell` is a key of
    CELLS, `nonlinearity` one of NONLINEARITIES (only a plain RNN has a choice). `projection` is
    the length of an LSTM's h where that is projected (nn.LSTM's proj_size), and 0 where it isn't.
    `vocabulary` is above 0 where the input is a token id below it, and an embedding of F numbers
    stands in front. `heads` are names and widths of the parts of the answer, in order; empty where
    it is one. `log_probabilities` tells that the answer is the natural logarithms of the
    probabilities of O classes. `recurrent_dropout` acts on the hidden state on its way to the next
    step, in training only. With `layer_norm` each layer's answer is normalised over its units (Ba
    et al. 2016) on its way up; what goes to the next step is not.
    """

    features: int
    hidden: int
    layers: int
    outputs: int
    targets: tuple[int, ...] | None = None
    dropout: float = 0.0
    bias: bool = True
    head_bias: bool = True
    cell: str = LSTM.name
    nonlinearity: str = "tanh"
    projection: int = 0
    vocabulary: int = 0
    heads: tuple[tuple[str, int], ...] = ()
    log_probabilities: bool = False
    recurrent_dropout: float = 0.0
    layer_norm: bool = False

    @property
    def kind(self) -> Cell:
        """The kind of the recurrent layers."""
        return CELLS[self.cell]

    @property
    def top(self) -> int:
        """The length of a layer's h, which is also its answer."""
        return self.projection or self.hidden

    @property
    def width(self) -> int:
        """The length of an answer's last axis, of all parts together."""
        return self.outputs or self.top

    @property
    def parts(self) -> dict[str, int]:
        """Names and widths of the outputs that the answer is cut into, in order."""
        return dict(self.heads) or {ANSWER: self.width}

    @property
    def weights(self) -> int:
        """How many numbers are learnt, but for those of normalised layers."""
        below = [self.features] + [self.top] * (self.layers - 1 > 0)
        rows = self.kind.gates * self.hidden
        first, more = (rows * (size + self.top + 2) for size in (below[0], below[-1]))
        around = self.vocabulary * self.features + self.outputs * (self.top + 1)
        return first + (self.layers - 1) * more + around

    def state_sizes(self) -> dict[str, int]:
        """Return the length of each state of a session, by name."""
        sizes = {PREVIOUS: self.features, SEEN: 1} if self.targets is not None else {}
        for layer in range(self.layers):
            sizes[hidden_name(layer)] = self.top
            if self.kind.has_cell_state:
                sizes[cell_name(layer)] = self.hidden
        return sizes


class RecurrentNetwork(nn.Module):
    """Maps plain-units inputs (T, B, F) to plain-units answers (T, B, O), carrying a state.

    With an embedding the inputs are token ids, (T, B).
    """

    input_mean: Tensor
    input_scale: Tensor
    output_mean: Tensor
    output_scale: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = a = architecture
        self.embedding = nn.Embedding(a.vocabulary, a.features) if a.vocabulary else None
        self.add_module(a.cell, _layers(a))
        norms = [nn.LayerNorm(a.top) for _ in range(a.layers)] if a.layer_norm else []
        self.norms = nn.ModuleList(norms) if norms else None
        self.head = nn.Linear(a.top, a.outputs, bias=a.head_bias) if a.outputs else None
        self.register_buffer("input_mean", torch.zeros(a.features))
        self.register_buffer("input_scale", torch.ones(a.features))
        self.register_buffer("output_mean", torch.zeros(a.width))
        self.register_buffer("output_scale", torch.ones(a.width))

    @property
    def recurrent(self) -> nn.RNNBase:
        """The recurrent layers; their keys begin with the cell's name."""
        module = self.get_submodule(self.architecture.cell)
        assert isinstance(module, nn.RNNBase)
        return module

    def initial_state(self, batch: int) -> State:
        """Return the state of `batch` new sessions: zeros, batch on axis 0."""
        sizes = self.architecture.state_sizes()
        return {name: self.input_mean.new_zeros(batch, size) for name, size in sizes.items()}

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Answer every step of x, (T, B, F) to (T, B, O) in plain units, and return the state."""
        answer, state = self.normalised(x, state)
        if self.architecture.log_probabilities:
            return answer.log_softmax(dim=-1), state
        y = answer * self.output_scale + self.output_mean  # (T, B, O)
        if self.architecture.targets is not None:
            y = x[..., list(self.architecture.targets)] + y
        return y, state

    def normalised(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Do as `forward` does, but answer in the units of the loss: (T, B, O), mean 0, scale 1.

        Where the answer is log-probabilities, this one is logits.
        """
        old = self.initial_state(x.shape[1]) if state is None else state
        signal, new = self._differences(x, old) if self._in_changes else (x, {})
        if self.embedding is not None:
            signal = self.embedding(x)  # (T, B) → (T, B, F)
        z = (signal - self.input_mean) / self.input_scale  # (T, B, F)
        top, carried = self._run_layers(z, old)  # (T, B, H)
        return (top if self.head is None else self.head(top)), new | carried

    def _run_layers(self, z: Tensor, old: State) -> tuple[Tensor, State]:
        a = self.architecture
        kinds = [hidden_name, cell_name][: 1 + a.kind.has_cell_state]
        layers = range(a.layers)
        states = [
            torch.stack([old[kind(layer)] for layer in layers]) for kind in kinds
        ]  # (L, B, …)
        if self.norms is not None or (self.training and a.recurrent_dropout):
            top, carried = run_layers(
                self.recurrent,
                z,
                states,
                norms=self.norms,
                recurrent_dropout=a.recurrent_dropout,
            )
        else:
            top, carried = self._run_module(z, states)
        new = {
            kind(layer): state[layer]
            for kind, state in zip(kinds, carried, strict=True)
            for layer in layers
        }
        return top, new

    def _run_module(self, z: Tensor, states: list[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        if len(states) == 1:
            top, h = self.recurrent(z, states[0])
            return top, (h,)
        with warnings.catch_warnings():
            # PyTorch tells which of its kernels it takes for projections; they all are right.
            warnings.filterwarnings("ignore", "LSTM with projections")
            top, carried = self.recurrent(z, tuple(states))
        return top, carried

    def misfit(self, manifest: ModelManifest) -> str:
        """Say how a model file's inputs and outputs differ from this network's; empty if not."""
        a = self.architecture
        own = [[] if a.vocabulary else [a.features]], [[size] for size in a.parts.values()]
        theirs = tuple(
            [list(t.shape) for t in kind] for kind in (manifest.inputs, manifest.outputs)
        )
        if own != theirs:
            return (
                f"the network maps {_words(own[0])} to {_words(own[1])}, and the model file "
                f"{_words(theirs[0])} to {_words(theirs[1])}"
            )
        names = [spec.name for spec in manifest.outputs]
        if names != [*a.parts]:
            return (
                f"the network answers {', '.join(a.parts)}, and the model file {', '.join(names)}"
            )
        return ""

    @torch.inference_mode()
    def advance(
        self, chunk: dict[str, np.ndarray], state: dict[str, np.ndarray] | None
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Run a chunk of one session, as numpy arrays: inputs and answers (T, …), states (…)."""
        (x,) = chunk.values()
        dtype = None if self.architecture.vocabulary else self.input_mean.dtype
        tensor = self.input_mean.new_tensor
        old = {n: tensor(value[None]) for n, value in state.items()} if state else None
        y, new = self(torch.tensor(x[:, None], dtype=dtype), old)
        parts = self.architecture.parts
        answers = zip(parts, torch.split(y[:, 0], list(parts.values()), dim=-1), strict=True)
        return (
            {name: part.numpy() for name, part in answers},
            {name: value[0].numpy() for name, value in new.items()},
        )

    def in_double(self) -> RecurrentNetwork:
        """Return the same network in double precision."""
        return copy.deepcopy(self).double()

    @property
    def _in_changes(self) -> bool:
        return self.architecture.targets is not None

    @staticmethod
    def _differences(x: Tensor, state: State) -> tuple[Tensor, State]:
        """Return the change from step to step, (T, B, F); a session's first step has none: 0."""
        first = torch.where(state[SEEN] > 0, state[PREVIOUS], x[0])  # (B, F)
        before = torch.cat([first[None], x[:-1]])  # (T, B, F)
        return x - before, {PREVIOUS: x[-1], SEEN: torch.ones_like(state[SEEN])}


def _layers(a: Architecture) -> nn.RNNBase:
    sizes = (a.features, a.hidden, a.layers)
    dropout = a.dropout if a.layers > 1 else 0.0
    if a.cell == "gru":
        return nn.GRU(*sizes, bias=a.bias, dropout=dropout)
    if a.cell == "rnn":
        return nn.RNN(*sizes, a.nonlinearity, bias=a.bias, dropout=dropout)
    return nn.LSTM(*sizes, bias=a.bias, dropout=dropout, proj_size=a.projection)


def _words(shapes: list[list[int]]) -> str:
    return ", ".join(map(str, shapes))
