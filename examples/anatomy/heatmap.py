"""The gates of a character model over a sentence, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from matplotlib.figure import Figure
from torch import Tensor

from examples.anatomy.canvas import FAINT, INK, save
from examples.anatomy.gates import Gates

#: Units that are shown: of all, those whose gates and memory vary most.
UNITS: Final = 12
_LETTERS: Final = {" ": "\N{OPEN BOX}", "\n": "\N{RETURN SYMBOL}"}


def draw_heatmap(path: Path, sentence: str, gates: Gates) -> None:
    """Draw a column a character, a row a unit, and a panel for each gate and for the cell."""
    units = busiest(gates, UNITS)
    panels = (
        ("f: keep?", gates.f, "Blues", (0, 1)),
        ("i: write?", gates.i, "Greens", (0, 1)),
        ("g: write what?", gates.g, "PuOr_r", (-1, 1)),
        ("tanh(c): the memory", gates.c.tanh(), "PuOr_r", (-1, 1)),
        ("o: show?", gates.o, "Purples", (0, 1)),
        ("h: what is shown", gates.h, "PuOr_r", (-1, 1)),
    )
    figure = Figure(figsize=(0.2 * len(sentence) + 1.4, 11), layout="constrained")
    axes = figure.subplots(len(panels), 1)
    for panel, (title, values, colours, (low, high)) in zip(axes, panels, strict=True):
        image = panel.imshow(
            values[:, units].T,
            cmap=colours,
            vmin=low,
            vmax=high,
            aspect="auto",
            interpolation="none",
        )
        panel.set_ylabel(title, color=INK, fontsize=11)
        panel.set_yticks([])
        panel.set_xticks(range(len(sentence)), [_LETTERS.get(c, c) for c in sentence])
        panel.tick_params(length=0, labelsize=11, labelfontfamily="monospace")
        panel.set_xticks([x - 0.5 for x in range(1, len(sentence))], minor=True)
        panel.grid(which="minor", axis="x", color="white", linewidth=0.6)
        panel.tick_params(which="minor", length=0)
        panel.spines[:].set_visible(False)
        figure.colorbar(image, ax=panel, pad=0.01, fraction=0.02).outline.set_visible(False)
    axes[0].set_title(
        f"{len(units)} of {gates.c.shape[1]} units, a row each, while a sentence is read",
        color=FAINT,
        fontsize=12,
    )
    save(figure, path)


def busiest(gates: Gates, count: int) -> list[int]:
    """Return the units whose gates and memory, tanh(c), vary most, those with slow memories first.

    Slow is a memory whose changes from step to step are small beside its spread.
    """
    memory = gates.c.tanh()  # (T, H)
    variety = sum(part.std(dim=0) for part in (gates.i, gates.f, gates.o, memory))
    assert isinstance(variety, Tensor)
    pace = memory.diff(dim=0).abs().mean(dim=0) / memory.std(dim=0)
    chosen = variety.argsort(descending=True)[:count]
    return [int(unit) for unit in chosen[pace[chosen].argsort()]]
