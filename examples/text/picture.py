"""The picture: a held-out passage, each character as dark as it was surprising."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from carousel_exporter.files import replacing
from examples.text.writing import Surprise

_COLUMNS: Final = 72
#: What is as dark as it gets, in bits.
_MOST: Final = 8.0
_BARS: Final = ("#c026d3", "#94a3b8")


def draw_picture(path: Path, seen: Surprise, bits: dict[str, float]) -> None:
    """Write the picture as a PNG; `bits` a character on the test part are by model."""
    rows = layout(seen.passage)
    figure = Figure(figsize=(10, 1.6 + 0.27 * (rows[-1][0] + 1)), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=(1, 0.25 * (rows[-1][0] + 1)))
    names = list(bits)
    above.barh(names, list(bits.values()), color=_BARS, height=0.6)
    for place, value in enumerate(bits.values()):
        above.text(value, place, f" {value:.2f}", va="center")
    above.set_title("Bits a character on the held-out end of the text")
    above.invert_yaxis()
    above.spines[["top", "right", "bottom"]].set_visible(False)
    above.set_xticks([])
    above.margins(x=0.1)
    colours, scale = colormaps["PuRd"], Normalize(0, _MOST)
    for place, (row, column) in enumerate(rows):
        value = seen.bits[place - 1] if place else 0.0
        shade = colours(scale(value))
        below.add_patch(Rectangle((column, row - 0.5), 1, 1, color=shade, linewidth=0))
        below.text(
            column + 0.5,
            row,
            seen.passage[place] if seen.passage[place] != "\n" else "",
            ha="center",
            va="center",
            family="monospace",
            fontsize=9,
            color="white" if value > 0.6 * _MOST else "black",
            parse_math=False,
        )
    below.set_xlim(0, _COLUMNS)
    below.set_ylim(rows[-1][0] + 0.6, -0.6)
    below.axis("off")
    bar = figure.colorbar(
        ScalarMappable(scale, colours), ax=below, shrink=0.5, aspect=24, fraction=0.03, extend="max"
    )
    bar.set_label("surprise (bits)")
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def layout(passage: str) -> list[tuple[int, int]]:
    """Return the row and column of each character, folded where a line is full."""
    places, row, column = [], 0, 0
    for character in passage:
        if column == _COLUMNS:
            row, column = row + 1, 0
        places.append((row, column))
        column += 1
        if character == "\n":
            row, column = row + 1, 0
    return places
