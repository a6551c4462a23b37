"""Layers on top of each other, unrolled over time: what is a state, and what goes where."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from examples.anatomy.canvas import COLOURS, FAINT, Canvas

_C, _H, _X = COLOURS["c"], COLOURS["h"], COLOURS["x"]
_STEPS: Final = 4
#: Centres of the steps' columns, of the layers' rows and of the heads.
_COLUMNS: Final = tuple(4.4 + 3.4 * step for step in range(_STEPS))
_ROWS: Final = (3.0, 5.6)
_HEAD: Final = 7.7
_WIDTH, _HEIGHT = 1.9, 1.3
#: How far above and below a layer's middle c and h go to the next step.
_APART: Final = 0.3


def draw_stack(path: Path) -> None:
    """Draw two layers over four steps, cut where one message ends and the next begins."""
    sheet = Canvas(19.2, 10)
    for column, x in enumerate(_COLUMNS):
        _column(sheet, x, f"t+{column}" if column else "t")
    for row, y in enumerate(_ROWS):
        _carried(sheet, row, y)
    cut = (_COLUMNS[1] + _COLUMNS[2]) / 2
    sheet.wire([(cut, 1.1), (cut, 9.0)], FAINT, arrow=False, dashed=True)
    sheet.text((cut, 9.5), "between two messages, the server keeps h0, c0, h1, c1", colour=FAINT)
    sheet.save(path)


def _column(sheet: Canvas, x: float, step: str) -> None:
    """Draw what happens at one step: x, layer 0, layer 1, the head, y."""
    below = 0.9
    for row, y in enumerate(_ROWS):
        sheet.wire([(x, below), (x, y - _HEIGHT / 2)], _H if row else _X)
        sheet.box((x, y), f"layer {row}", COLOURS["f"], width=_WIDTH, height=_HEIGHT)
        below = y + _HEIGHT / 2
    sheet.wire([(x, below), (x, _HEAD - 0.3)], _H)
    sheet.box((x, _HEAD), "head", COLOURS["x"], width=_WIDTH, height=0.6)
    sheet.wire([(x, _HEAD + 0.3), (x, 8.75)], _X)
    sheet.text((x, 9.0), f"y of {step}", colour=_X)
    sheet.text((x, 0.55), f"x of {step}", colour=_X)


def _carried(sheet: Canvas, row: int, y: float) -> None:
    """Draw h and c of a layer on their way from step to step."""
    edges = [1.9, *(x + side * _WIDTH / 2 for x in _COLUMNS for side in (-1, 1)), 17.3]
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        sheet.wire([(begin, y + _APART), (end, y + _APART)], _C, width=2.6)
        sheet.wire([(begin, y - _APART), (end, y - _APART)], _H)
    for place, align in ((1.7, "right"), (17.5, "left")):
        sheet.text((place, y + _APART), f"c{row}", colour=_C, bold=True, align=align)
        sheet.text((place, y - _APART), f"h{row}", colour=_H, bold=True, align=align)
