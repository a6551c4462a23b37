"""How a graph whose states are known is driven: its form, its context, axes of one step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from carousel_exporter.adoption import proof
from carousel_exporter.adoption.axes import Axes
from carousel_exporter.adoption.finding import Finding
from carousel_exporter.adoption.graphs import reachable
from carousel_exporter.adoption.machine import Tail, Wiring
from carousel_exporter.adoption.options import Context
from carousel_exporter.errors import SettingsError


def final_wiring(found: Finding, contexts: Sequence[Context]) -> Wiring:
    """Return how the original is driven as it will be served.

    `free_time` says whether it will be served as a graph that loops over time: where every input
    and every output that isn't constant has a time axis, and no context comes between.
    """
    lengths = (found.lengths.name, found.lengths.dtype) if found.lengths else None
    wiring = proof.wire(found.layout, found.successors, lengths)
    reached = reachable(found.model.graph, [*wiring.inputs, *wiring.states])
    timed = [axes.time is not None for axes in wiring.inputs.values()]
    timed += [axes.time is not None for name, axes in wiring.outputs.items() if name in reached]
    free_time = found.layout.steps and all(timed) and bool(wiring.outputs) and not contexts
    if not found.layout.steps:
        wiring = _without_single_steps(wiring)
    twice = next((c for k, c in enumerate(contexts) if c.input in _names(contexts[:k])), None)
    if twice is not None:
        raise SettingsError(f"The input {twice.input!r} is in two --context: give one.")
    tails = dict(_tail(wiring.inputs, context) for context in contexts)
    return replace(wiring, free_time=free_time, tails=tails)


def _names(contexts: Sequence[Context]) -> list[str]:
    return [context.input for context in contexts]


def _without_single_steps(wiring: Wiring) -> Wiring:
    """Take time axes of 1 away, from outputs only where an input had one."""
    inputs = {name: proof.single_step(axes) for name, axes in wiring.inputs.items()}
    if all(axes.time is None for axes in inputs.values()):
        return wiring
    outputs = {name: proof.single_step(axes) for name, axes in wiring.outputs.items()}
    return replace(wiring, inputs=inputs, outputs=outputs)


def _tail(inputs: Mapping[str, Axes], context: Context) -> tuple[str, Tail]:
    if context.input not in inputs:
        told = ", ".join(map(repr, inputs))
        raise SettingsError(
            f"--context names {context.input!r}, and the inputs that clients send are {told}."
        )
    axes = inputs[context.input]
    rank = len(axes.dims)
    axis = rank - 1 if context.axis is None else context.axis
    if not -rank <= axis < rank or axis % rank in (axes.batch, axes.time):
        raise SettingsError(
            f"--context {context}: axis {axis} of {context.input!r} holds no values of a step; "
            f"its shape is {list(axes.dims)}, rows are on axis {axes.batch}."
        )
    axis %= rank
    if axes.dims[axis] <= context.length:
        raise SettingsError(
            f"--context {context}: {context.input!r} has {axes.dims[axis]} values on axis {axis}, "
            "so none of them would be new."
        )
    place = [a for a in range(rank) if a not in (axes.batch, axes.time)].index(axis)
    return context.input, Tail(context.length, place)
