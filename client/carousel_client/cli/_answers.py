r"""From answers to lines of text: CSV, or JSON.

An output that holds probabilities of classes is written as the most probable one's label and
probability; all columns beside them are the user's choice. In CSV, characters of labels and symbols
that don't print are written as in a program (`\n`), and so are backslashes: a step is one line.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import carousel_client as carousel


@dataclass(frozen=True)
class Style:
    """How answers are written: as JSON or CSV, with all probabilities or the highest alone.

    With `symbols` a line begins with the symbol that it is the answer to.
    """

    as_json: bool = False
    probabilities: bool = False
    symbols: bool = False


def header(model: carousel.ModelInfo, style: Style) -> str:
    """Return the line that names an answer's values, in order."""
    names = ["symbol"] if style.symbols else []
    for spec in model.outputs:
        if _is_label(spec):
            own = "" if len(model.outputs) == 1 else f"{spec.name}_"
            names += [f"{own}label", f"{own}probability"]
            names += map(_on_one_line, spec.columns) if style.probabilities else ()
        elif spec.columns:
            names += spec.columns
        elif spec.size == 1:
            names.append(spec.name)
        else:
            names += (f"{spec.name}_{i}" for i in range(spec.size))
    return _csv_line(names)


def answer_line(
    model: carousel.ModelInfo, answer: dict[str, Any], style: Style, symbol: str = ""
) -> str:
    """Return one step's answer, each output `[*output]`, as a line."""
    found = model.read(answer)
    if style.as_json:
        return json.dumps({name: _object(value, style) for name, value in found.items()})
    beside = [_on_one_line(symbol)] if style.symbols else []
    return _csv_line([*beside, *(v for spec in model.outputs for v in _cells(spec, found, style))])


def _is_label(spec: carousel.TensorInfo) -> bool:
    return bool(spec.content) and len(spec.shape) == 1


def _cells(spec: carousel.TensorInfo, found: dict[str, Any], style: Style) -> Iterator[Any]:
    value = found[spec.name]
    if not _is_label(spec):
        yield from np.asarray(value).ravel()
        return
    probabilities = value.probabilities
    yield _on_one_line(value.labels)
    yield probabilities.max()
    if style.probabilities:
        yield from probabilities


def _object(value: Any, style: Style) -> Any:
    if not isinstance(value, carousel.Classes) or value.array.ndim != 1:
        return _exact(value)
    probabilities = value.probabilities
    found = {"label": value.labels, "probability": _exact(probabilities.max())}
    if style.probabilities:
        pairs = zip(value.names, probabilities, strict=True)
        found["probabilities"] = {name: _exact(probability) for name, probability in pairs}
    return found


def _exact(value: Any) -> Any:
    """Return an array as lists of numbers with as few digits as its element type needs."""
    array = np.asarray(value)
    if array.ndim:
        return [_exact(part) for part in array]
    return float(str(array[()])) if array.dtype.kind == "f" else array.item()


def _on_one_line(name: str) -> str:
    if name.isprintable() and "\\" not in name:
        return name
    return "".join(c if c.isprintable() and c != "\\" else repr(c)[1:-1] for c in name)


def _csv_line(values: Iterable[Any]) -> str:
    return ",".join(_quoted(str(value)) for value in values)


def _quoted(value: str) -> str:
    return '"' + value.replace('"', '""') + '"' if set(value) & set(',"\n') else value
