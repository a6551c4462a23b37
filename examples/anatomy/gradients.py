"""How much of an answer's error reaches back to an input of long ago: measured, and drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.table import Table

from carousel_exporter.cells import CELLS
from carousel_exporter.initialisation import initialise, remember
from carousel_exporter.network import Architecture, RecurrentNetwork
from examples.anatomy.canvas import FAINT, INK, save
from examples.common.tables import make_table

#: Units of a layer, sequences that are averaged over, and steps that are looked back.
_HIDDEN, _SEQUENCES, STEPS = 64, 64, 200
#: The lower end of the picture: what is smaller than any rounding.
_FLOOR: Final = 1e-12


@dataclass(frozen=True)
class Start:
    """An untrained layer: a key of CELLS, and how its weights begin."""

    title: str
    cell: str
    colour: str
    initialised: bool = True
    chrono: bool = False
    dashed: bool = False


STARTS: Final = (
    Start("RNN, PyTorch's start", "rnn", "#ea580c", initialised=False, dashed=True),
    Start("LSTM, PyTorch's start", "lstm", "#c026d3", initialised=False, dashed=True),
    Start("RNN, orthogonal", "rnn", "#ea580c"),
    Start("LSTM, forget gates' bias 1", "lstm", "#7c3aed"),
    Start("GRU, chrono for 200 steps", "gru", "#0891b2", chrono=True),
    Start("LSTM, chrono for 200 steps", "lstm", "#c026d3", chrono=True),
)


def build(start: Start, *, seed: int = 0) -> RecurrentNetwork:
    """Return an untrained layer of F = 2 without a head."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = RecurrentNetwork(
            Architecture(2, _HIDDEN, 1, outputs=0, cell=CELLS[start.cell].name)
        )
        if start.initialised:
            initialise(network)
        if start.chrono:
            remember(network, STEPS)
    return network.double()


def measure(network: RecurrentNetwork, *, steps: int = STEPS, seed: int = 0) -> NDArray[np.float64]:
    """Return how strongly h at the last step depends on the input k steps before, (steps,).

    That is the norm of the gradient of one random combination of the last h's units with respect
    to x at step T - k, as a share of that at k = 0: the median over sequences of normal noise.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x = draw(steps, _SEQUENCES, network.architecture.features).requires_grad_()
    direction = draw(_SEQUENCES, network.architecture.hidden)
    h, _ = network(x)  # (T, B, H)
    (gradient,) = torch.autograd.grad((h[-1] * direction).sum(), x)
    norms = gradient.norm(dim=-1).flip(0)  # (T, B): row k is k steps back
    shares: NDArray[np.float64] = (norms / norms[0]).median(dim=1).values.numpy()
    return shares


def measure_all() -> dict[str, NDArray[np.float64]]:
    """Measure every start, by title."""
    return {start.title: measure(build(start)) for start in STARTS}


def gradient_table(measured: Mapping[str, NDArray[np.float64]]) -> Table:
    """Return what was measured at some distances."""
    distances = (10, 50, 100, STEPS - 1)
    table = make_table("steps back", right=[str(k) for k in distances], last=False)
    for title, shares in measured.items():
        table.add_row(title, *(f"{shares[k]:.0e}" for k in distances))
    return table


def draw_gradients(path: Path, measured: Mapping[str, NDArray[np.float64]]) -> None:
    """Draw what was measured, a line a start."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    panel = figure.subplots()
    for start in STARTS:
        shares = measured[start.title]
        panel.plot(
            shares,
            color=start.colour,
            linewidth=1.4 if start.dashed else 2,
            linestyle=(0, (4, 2)) if start.dashed else "-",
            label=start.title,
        )
    panel.set_title(
        f"What is left of the error, k steps back (untrained layers, {_HIDDEN} units)", color=INK
    )
    panel.set_ylabel("gradient's norm at the input k steps back,\nas a share of that at k = 0")
    panel.set_xlabel("k (steps)")
    panel.set_yscale("log")
    panel.set_ylim(_FLOOR, 10)
    panel.set_xlim(0, STEPS)
    panel.grid(alpha=0.25)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(frameon=False, fontsize=9, labelcolor=FAINT)
    save(figure, path)
