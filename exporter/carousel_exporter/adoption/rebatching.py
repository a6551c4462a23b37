"""Making a graph batchable whose batch is fixed at 1: by its declared shapes, or by a few Reshapes.

Each form is only offered; whether its rows are right is for numbers to say.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import onnx
from onnx import numpy_helper

from carousel_exporter.adoption.axes import Axes, ones
from carousel_exporter.adoption.bounds import Values
from carousel_exporter.adoption.canonical import Canonical
from carousel_exporter.adoption.evidence import RECURRENT
from carousel_exporter.adoption.graphs import constants_of, fresh, remove_unused
from carousel_exporter.adoption.machine import Wiring
from carousel_exporter.adoption.surgery import Dtypes, canonicalise
from carousel_exporter.adoption.trials import Arrays, Trial, TrialError, exposing
from carousel_exporter.errors import ModelFileError

#: Rows of the run beside a run of one, and steps: numbers that are seldom a dimension by chance.
_ROWS: Final = 3
_STEPS: Final = 5
#: Readings that are tried; each costs some runs.
_MOST_READINGS: Final = 24


@dataclass(frozen=True)
class Form:
    """A canonical form on offer; `mended` says in words what was changed for batching."""

    wiring: Wiring
    canonical: Canonical
    mended: str = ""


def forms(
    model: onnx.ModelProto, wiring: Wiring, dtypes: Dtypes, values: Values, *, rows: bool
) -> Iterator[Form]:
    """Yield canonical forms: as the file is, then mended, then with other axes for the batch.

    `rows`: whether the file itself takes several rows, so that its axes are known.
    """
    for place, choice in enumerate([wiring] if rows else _readings(wiring)):
        canonical = canonicalise(model, choice, dtypes, time=choice.free_time)
        yield Form(choice, canonical, "" if rows or place == 0 else "batch axes read otherwise")
        for last in (False, True):
            mended = mend(canonical, values, dtypes, last=last)
            if mended is not None:
                yield Form(choice, mended, "constants with a batch of 1 were mended")


def _readings(wiring: Wiring) -> Iterator[Wiring]:
    """Yield the wiring, and others in which axes of 1 change their parts.

    Tensors of one kind and rank are read alike: states, those with a time axis of 1, others.
    """
    tensors = {"states": wiring.states, "inputs": wiring.inputs, "outputs": wiring.outputs}
    groups = {_group(kind, axes): 2 for kind, named in tensors.items() for axes in named.values()}
    groups |= {group: group[1] for group in groups if group[0] == "states"}
    seen: list[Wiring] = []
    for choice in itertools.product(*(range(count) for count in groups.values())):
        chosen = dict(zip(groups, choice, strict=True))
        read = {
            kind: {name: _reread(axes, chosen[_group(kind, axes)]) for name, axes in named.items()}
            for kind, named in tensors.items()
        }
        reading = replace(
            wiring, states=read["states"], inputs=read["inputs"], outputs=read["outputs"]
        )
        if reading not in seen:
            seen.append(reading)
            yield reading
        if len(seen) == _MOST_READINGS:
            return


def _group(kind: str, axes: Axes) -> tuple[str, int]:
    if kind == "states":
        return kind, len(axes.dims)
    return "rest" if axes.time is None else "steps", len(axes.dims)


def _reread(axes: Axes, choice: int) -> Axes:
    """Take another axis of size 1 for the batch; a time axis of 1 changes places with it."""
    free = ones(axes.dims, but=None)
    if axes.batch not in free or choice == 0:
        return axes
    order = [axes.batch, *(axis for axis in free if axis != axes.batch)]
    if axes.time in free:
        return replace(axes, batch=axes.time, time=axes.batch)
    return replace(axes, batch=order[choice]) if choice < len(order) and axes.time is None else axes


def mend(
    canonical: Canonical, values: Values, dtypes: Dtypes, *, last: bool = False
) -> Canonical | None:
    """Return a form whose Reshapes and first states leave the batch open; None for nothing done.

    Where a Reshape has several dimensions of 1 that may be the batch's, the first is taken, or the
    `last`.
    """
    model = onnx.ModelProto()
    model.CopyFrom(canonical.model)
    done = _drop_zero_states(model.graph)
    graph = model.graph
    for name in [n.output[0] for n in graph.node if n.op_type == "Reshape"]:
        node = next(n for n in graph.node if n.output[0] == name)
        constants = constants_of(graph)
        if len(node.input) < 2 or node.input[1] not in constants:
            continue
        target = _open_target(
            _Shapes(model, canonical, values, dtypes),
            node,
            constants[node.input[1]].tolist(),
            time=canonical.time,
            last=last,
        )
        if target is not None:
            shape = fresh(f"{name}.open", {t.name for t in graph.initializer})
            graph.initializer.append(numpy_helper.from_array(np.array(target, np.int64), shape))
            node.input[1] = shape
            kept = [a for a in node.attribute if a.name != "allowzero"]  # 0: as in the input
            del node.attribute[:]
            node.attribute.extend(kept)
            done = True
    if not done:
        return None
    remove_unused(model)
    return replace(canonical, model=model)


class _Shapes:
    """Shapes of inner values at one row and at several."""

    def __init__(
        self, model: onnx.ModelProto, canonical: Canonical, values: Values, dtypes: Dtypes
    ) -> None:
        self._model = model
        self._canonical = canonical
        self._values = values
        self._dtypes = dtypes

    def of(self, name: str, rows: int) -> tuple[int, ...] | None:
        """Return the shape of a value, None where the run fails."""
        part = exposing(self._model, [name])
        remove_unused(part)
        try:
            return Trial(part).run(self._feed(rows))[name].shape
        except (TrialError, ModelFileError):
            return None

    def _feed(self, rows: int) -> Arrays:
        c = self._canonical
        lead = (_STEPS, rows) if c.time else (rows,)
        feeds = {
            name: self._values.draw(name, self._dtypes[name], (*lead, *shape))
            for name, shape in c.inputs.items()
        }
        for state in c.states:
            dtype = self._dtypes[state.source]
            feeds[state.name] = self._values.draw(state.source, dtype, (rows, *state.shape))
        if c.lengths:
            feeds[c.lengths] = np.full(rows, _STEPS, np.int32)
        return feeds


def _open_target(
    shapes: _Shapes, node: onnx.NodeProto, target: Sequence[int], *, time: bool, last: bool
) -> list[int] | None:
    """Return a Reshape's target with its batch left open; None where it is, or none is there."""
    one, many = shapes.of(node.input[0], 1), shapes.of(node.input[0], _ROWS)
    result = shapes.of(node.output[0], 1)
    if one is None or many is None or result is None or one == many:
        return None
    batch = next(a for a, (m, n) in enumerate(zip(one, many, strict=True)) if m != n)
    places = [
        axis
        for axis, size in enumerate(result)
        if size == 1 and math.prod(result[:axis]) == math.prod(one[:batch])
    ]
    settled = _is_open(shapes.of(node.output[0], _ROWS), result) and not (last and len(places) > 1)
    if one[batch] != 1 or not places or settled:
        return None
    place = places[-1 if last else 0]
    opened = list(target)
    if place == batch:
        opened[place] = 0  # as in the input
    elif -1 not in opened:
        opened[place] = -1
    elif not time:  # then all other dimensions are fixed
        opened = [*result[:place], -1, *result[place + 1 :]]
    else:
        return None
    return opened


def _is_open(shape: tuple[int, ...] | None, of_one: tuple[int, ...]) -> bool:
    """Tell whether a shape has its rows on an axis of their own."""
    if shape is None:
        return False
    changed = [(m, n) for m, n in zip(of_one, shape, strict=True) if m != n]
    return changed == [(1, _ROWS)]


def _drop_zero_states(graph: onnx.GraphProto) -> bool:
    """Leave out first states of zeros, which have a batch of 1: operators begin there anyway."""
    constants = constants_of(graph)
    done = False
    for node in graph.node:
        for place in range(5, len(node.input)) if node.op_type in RECURRENT else ():
            if (
                place < 7
                and node.input[place] in constants
                and not constants[node.input[place]].any()
            ):
                node.input[place] = ""
                done = True
    return done
