"""The cells as circuits: an LSTM's, and those of a plain RNN and a GRU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from examples.anatomy.canvas import COLOURS, FAINT, MINUS, SIGMA, TIMES, Canvas

_C, _H, _X = COLOURS["c"], COLOURS["h"], COLOURS["x"]
#: Heights of the two wires that gates are fed from, and of the gates.
_H_BUS, _X_BUS, _GATES = 2.8, 2.15, 4.4
#: Half of a gate's height and of its width, and a node's radius.
_HALF, _WIDE, _R = 0.38, 0.78, 0.3


def draw_lstm(path: Path) -> None:
    """Draw one step of an LSTM."""
    sheet = Canvas(19.4, 10.6)
    sheet.frame(2.6, 1.4, 13.6, 8.4, "LSTM, one step")
    cell, middle = 8.2, 5.9  # heights of the cell state, and of the products that feed it
    places = {"f": 4.6, "i": 7.2, "g": 9.2, "o": 12.2}
    keep, add, out = places["f"], 8.2, 13.6
    _buses(sheet, left=0.5, x_at=3.4, h_to=[*places.values()], x_to=[*places.values()])
    for name, x in places.items():
        sheet.box((x, _GATES), f"{name}   {'tanh' if name == 'g' else SIGMA}", COLOURS[name])

    # The carousel: nothing on the way of c but a product and a sum.
    for begin, end in ((0.5, keep - _R), (keep + _R, add - _R), (add + _R, 18.6)):
        sheet.wire([(begin, cell), (end, cell)], _C, width=3)
    sheet.wire([(keep, _GATES + _HALF), (keep, cell - _R)], COLOURS["f"])
    sheet.node((keep, cell), TIMES, colour=_C)
    sheet.text((keep, cell + 0.6), "keep", colour=FAINT)
    for name, side in (("i", -_R), ("g", _R)):
        x = places[name]
        sheet.wire([(x, _GATES + _HALF), (x, middle), (add + side, middle)], COLOURS[name])
    sheet.node((add, middle), TIMES)
    sheet.wire([(add, middle + _R), (add, cell - _R)])
    sheet.node((add, cell), "+", colour=_C)
    sheet.text((add, cell + 0.6), "write", colour=FAINT)

    sheet.dot((out, cell), _C)
    sheet.wire([(out, cell), (out, 7.35)], _C)
    sheet.box((out, 7.0), "tanh", _C, width=1.2, height=0.6)
    sheet.wire([(out, 6.7), (out, middle + _R)], _C)
    x = places["o"]
    sheet.wire([(x, _GATES + _HALF), (x, middle), (out - _R, middle)], COLOURS["o"])
    sheet.node((out, middle), TIMES, colour=_H)
    sheet.text((out, middle - 0.6), "show", colour=FAINT)
    right = 15.1
    sheet.wire([(out + _R, middle), (right, middle), (right, _H_BUS), (18.6, _H_BUS)], _H)
    sheet.dot((right, middle), _H)
    sheet.wire([(right, middle), (right, 10.4)], _H)
    sheet.text((right - 0.3, 10.1), "to the layer above, or the head", align="right", colour=FAINT)
    for y, state, colour in ((cell, "c", _C), (_H_BUS, "h", _H)):
        sheet.state((0.5, y), f"{state}, step t-1", colour)
        sheet.state((16.5, y), f"{state}, step t", colour)
    sheet.save(path)


def draw_rnn_and_gru(path: Path) -> None:
    """Draw one step of a plain RNN and of a GRU, side by side."""
    sheet = Canvas(23, 9)
    _rnn(sheet)
    _gru(sheet)
    sheet.save(path)


def _rnn(sheet: Canvas) -> None:
    sheet.frame(2.4, 1.4, 4.0, 6.8, "plain RNN")
    place, right, top = 3.9, 5.5, 5.9
    _buses(sheet, left=0.3, x_at=3.1, h_to=[place], x_to=[place])
    sheet.box((place, _GATES), "tanh", COLOURS["g"])
    sheet.wire(
        [(place, _GATES + _HALF), (place, top), (right, top), (right, _H_BUS), (8.3, _H_BUS)], _H
    )
    sheet.dot((right, top), _H)
    sheet.wire([(right, top), (right, 8.8)], _H)
    sheet.state((0.3, _H_BUS), "h, step t-1", _H)
    sheet.state((6.65, _H_BUS), "h, step t", _H)


def _gru(sheet: Canvas) -> None:
    sheet.frame(11.6, 1.4, 8.9, 6.8, "GRU")
    keep, reset, product, new = 13.6, 15.3, 16.9, 18.6
    carried, middle, left = 6.9, 5.75, 12.1
    sheet.wire([(left, carried), (left, _H_BUS)], _H, arrow=False)
    sheet.dot((left, carried), _H)
    _buses(sheet, left=left, x_at=12.6, h_to=[keep, reset], x_to=[keep, reset])
    sheet.wire([(reset - 0.25, _H_BUS), (product, _H_BUS), (product, _GATES - _R)], _H)
    sheet.dot((reset - 0.25, _H_BUS), _H)
    sheet.wire([(reset + 0.25, _X_BUS), (new, _X_BUS), (new, _GATES - _HALF)], _X)
    sheet.dot((reset + 0.25, _X_BUS), _X)
    for name, x, colour in (
        (f"z   {SIGMA}", keep, "f"),
        (f"r   {SIGMA}", reset, "i"),
        ("n   tanh", new, "g"),
    ):
        sheet.box((x, _GATES), name, COLOURS[colour])
    sheet.wire([(reset + _WIDE, _GATES), (product - _R, _GATES)], COLOURS["i"])
    sheet.node((product, _GATES), TIMES)
    sheet.wire([(product + _R, _GATES), (new - _WIDE, _GATES)])

    for begin, end in ((9.5, keep - _R), (keep + _R, new - _R), (new + _R, 22.5)):
        sheet.wire([(begin, carried), (end, carried)], _H, width=3)
    sheet.wire([(keep, _GATES + _HALF), (keep, carried - _R)], COLOURS["f"])
    sheet.node((keep, carried), TIMES, colour=_H)
    sheet.dot((keep, middle), COLOURS["f"])
    sheet.wire([(keep, middle), (15.6, middle)], COLOURS["f"])
    sheet.node((15.9, middle), f"1{MINUS}", colour=COLOURS["f"])
    sheet.wire([(16.2, middle), (new - _R, middle)], COLOURS["f"])
    sheet.node((new, middle), TIMES)
    sheet.wire([(new, _GATES + _HALF), (new, middle - _R)], COLOURS["g"])
    sheet.wire([(new, middle + _R), (new, carried - _R)])
    sheet.node((new, carried), "+", colour=_H)
    sheet.dot((19.6, carried), _H)
    sheet.wire([(19.6, carried), (19.6, 8.8)], _H)
    sheet.text((keep, carried + 0.55), "keep", colour=FAINT)
    sheet.text((new, carried + 0.55), "write", colour=FAINT)
    sheet.text((product, _GATES + 0.55), "reset", colour=FAINT)
    sheet.state((9.5, carried), "h, step t-1", _H)
    sheet.state((20.75, carried), "h, step t", _H)


#: How far left and right of a gate's middle its two wires come in.
_APART: Final = 0.25


def _buses(
    sheet: Canvas, *, left: float, x_at: float, h_to: Sequence[float], x_to: Sequence[float]
) -> None:
    """Draw the wires of h and x, and from each a branch to the gates at these places."""
    sheet.wire([(x_at, 0.4), (x_at, _X_BUS)], _X, arrow=False)
    sheet.text((x_at + 0.3, 0.8), "x, step t", colour=_X, align="left", bold=True)
    for begin, bus, places, side, colour in (
        (left, _H_BUS, h_to, -_APART, _H),
        (x_at, _X_BUS, x_to, _APART, _X),
    ):
        sheet.wire([(begin, bus), (places[-1] + side, bus)], colour, arrow=False)
        for place in places:
            sheet.wire([(place + side, bus), (place + side, _GATES - _HALF)], colour)
            if place != places[-1]:
                sheet.dot((place + side, bus), colour)
