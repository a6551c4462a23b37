"""A sheet to draw circuits on: boxes that compute, nodes that join, wires with arrows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, Polygon

from carousel_exporter.files import replacing

INK: Final = "#1f2937"
FAINT: Final = "#64748b"
#: What each gate, and each state, is drawn in, here and in every picture.
COLOURS: Final = {
    "i": "#059669",
    "f": "#2563eb",
    "g": "#d97706",
    "o": "#7c3aed",
    "c": "#c026d3",
    "h": "#0f766e",
    "x": "#475569",
}
SIGMA: Final = "\N{GREEK SMALL LETTER SIGMA}"
MINUS: Final = "\N{MINUS SIGN}"
TIMES: Final = "\N{MULTIPLICATION SIGN}"
Point = tuple[float, float]


class Canvas:
    """A white sheet, `width` by `height` units; one unit is half an inch."""

    def __init__(self, width: float, height: float) -> None:
        self.figure = Figure(figsize=(width / 2, height / 2), facecolor="white")
        self._axes = self.figure.add_axes((0, 0, 1, 1))
        self._axes.set(xlim=(0, width), ylim=(0, height), aspect="equal")
        self._axes.axis("off")

    def frame(self, left: float, bottom: float, width: float, height: float, title: str) -> None:
        """Draw the outline of a layer, its title in the upper left corner."""
        self._rounded(left, bottom, width, height, edge="#cbd5e1", fill="#f8fafc", radius=0.3)
        self.text((left + 0.3, bottom + height - 0.4), title, size=11, align="left", bold=True)

    def box(
        self, centre: Point, text: str, colour: str, *, width: float = 1.56, height: float = 0.76
    ) -> None:
        """Draw a box that computes something."""
        left, bottom = centre[0] - width / 2, centre[1] - height / 2
        self._rounded(left, bottom, width, height, edge=colour, fill=colour, radius=0.14)
        self.text(centre, text, colour="white", size=11, bold=True)

    def node(self, centre: Point, text: str, *, colour: str = INK) -> None:
        """Draw a round node: a product, a sum, a squashing."""
        self._axes.add_patch(
            Circle(centre, 0.3, facecolor="white", edgecolor=colour, linewidth=1.6, zorder=4)
        )
        self.text(centre, text, size=11, colour=colour)

    def dot(self, centre: Point, colour: str) -> None:
        """Draw the dot where a wire branches."""
        self._axes.add_patch(Circle(centre, 0.075, color=colour, linewidth=0, zorder=3))

    def wire(
        self,
        points: Sequence[Point],
        colour: str = INK,
        *,
        arrow: bool = True,
        width: float = 1.6,
        dashed: bool = False,
    ) -> None:
        """Draw a wire along points; its arrow's tip lies on the last."""
        xs, ys = zip(*points, strict=True)
        style = (0, (3, 2)) if dashed else "-"
        self._axes.plot(
            xs,
            ys,
            color=colour,
            linewidth=width,
            linestyle=style,
            solid_joinstyle="round",
            zorder=2,
        )
        if arrow:
            self._tip(points[-2], points[-1], colour)

    def text(
        self,
        place: Point,
        text: str,
        *,
        colour: str = INK,
        size: float = 10,
        align: str = "center",
        bold: bool = False,
    ) -> None:
        """Write something, centred in height on a place."""
        self._axes.text(
            *place,
            text,
            color=colour,
            fontsize=size,
            ha=align,
            va="center_baseline",
            fontweight="bold" if bold else "normal",
            zorder=5,
        )

    def state(self, left: Point, text: str, colour: str) -> None:
        """Name a state above the left end of its wire."""
        self.text((left[0], left[1] + 0.4), text, colour=colour, align="left", bold=True)

    def save(self, path: Path) -> None:
        """Write the sheet as a PNG."""
        save(self.figure, path)

    def _rounded(
        self,
        left: float,
        bottom: float,
        width: float,
        height: float,
        *,
        edge: str,
        fill: str,
        radius: float,
    ) -> None:
        self._axes.add_patch(
            FancyBboxPatch(
                (left + radius, bottom + radius),
                width - 2 * radius,
                height - 2 * radius,
                boxstyle=f"round,pad={radius}",
                facecolor=fill,
                edgecolor=edge,
                linewidth=1.2,
                zorder=1 if fill.startswith("#f") else 3,
            )
        )

    def _tip(self, before: Point, end: Point, colour: str) -> None:
        dx, dy = (end[0] - before[0], end[1] - before[1])
        length = (dx**2 + dy**2) ** 0.5
        ux, uy = dx / length, dy / length
        back = (end[0] - 0.22 * ux, end[1] - 0.22 * uy)
        corners = [end, *((back[0] - s * uy, back[1] + s * ux) for s in (0.1, -0.1))]
        self._axes.add_patch(Polygon(corners, color=colour, linewidth=0, zorder=3))


def save(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG on white, so that it is legible on dark pages too."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130, facecolor="white")
