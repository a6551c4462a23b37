"""Inputs that always have one value: they become constants of the graph."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from carousel_exporter.adoption.evidence import likeness
from carousel_exporter.adoption.graphs import all_nodes, constants_of, reachable
from carousel_exporter.adoption.ports import Port
from carousel_exporter.errors import ModelFileError, SettingsError

Value = float | int | str | np.ndarray


def bind(model: onnx.ModelProto, arrays: Mapping[str, np.ndarray]) -> None:
    """Put arrays in the place of inputs, in the model itself."""
    graph = model.graph
    kept = [value for value in graph.input if value.name not in arrays]
    del graph.input[:]
    graph.input.extend(kept)
    graph.initializer.extend(numpy_helper.from_array(a, name) for name, a in arrays.items())


def to_array(port: Port, value: Value) -> np.ndarray:
    """Return a constant in an input's type and shape, open axes as 1. Raises SettingsError."""
    shape = tuple(1 if isinstance(dim, str) else dim for dim in port.dims)
    try:
        array = _parsed(value, port.dtype) if isinstance(value, str) else np.asarray(value)
        cast = array.astype(port.dtype)
        exact = np.array_equal(cast, array) or port.dtype.kind == "f"
        full = cast.reshape(shape) if cast.size > 1 else np.full(shape, cast.reshape(()))
    except (ValueError, OverflowError):
        exact, full = False, np.zeros(shape, port.dtype)
    if not exact:
        raise SettingsError(
            f"--constant {port.name}={value}: input {port.name!r} is {port.dtype} of the shape "
            f"{list(shape)}; give one value, or as many as it has, separated by commas."
        )
    return full.copy()


def _parsed(text: str, dtype: np.dtype[np.generic]) -> np.ndarray:
    words = [word.strip() for word in text.split(",")]
    if dtype.kind == "b":
        known = {"true": True, "1": True, "false": False, "0": False}
        if any(word.lower() not in known for word in words):
            raise ValueError(text)
        return np.array([known[word.lower()] for word in words])
    numbers = np.array([float(w) if dtype.kind == "f" else int(w) for w in words])
    return numbers if len(words) > 1 else numbers.reshape(())


def check_no_scalars(graph: onnx.GraphProto, ports: list[Port]) -> None:
    """Refuse a setting among the inputs: a single number that no row has of its own.

    Where the graph compares it with numbers, the sentence tells them.
    """
    if all(port.rank == 0 for port in ports):
        return
    for port in ports:
        if port.rank == 0:
            known = sorted(_compared_with(graph, port.name))
            told = f", which the graph compares with {', '.join(map(str, known))}" if known else ""
            example = known[0] if known else "VALUE"
            after = _scalar_after(graph, port.name)
            if after:
                raise ModelFileError(
                    f"Input {port.name!r} is a single {port.dtype}, and {after!r} seems to be its "
                    "next value; rows can't each have one: export it with an axis of rows, [B]."
                )
            raise ModelFileError(
                f"Input {port.name!r} is a single {port.dtype}{told}, and rows can't each have "
                f"one: say what it always is, with --constant {port.name}={example}."
            )


def _scalar_after(graph: onnx.GraphProto, name: str) -> str:
    """Return the output that is a single number too, computed from an input and named like it."""
    reached = reachable(graph, [name])
    return next(
        (
            value.name
            for value in graph.output
            if value.name in reached
            and value.type.tensor_type.HasField("shape")
            and not value.type.tensor_type.shape.dim
            and likeness(name, value.name)
        ),
        "",
    )


def _compared_with(graph: onnx.GraphProto, name: str) -> set[float | int]:
    constants = constants_of(graph)
    found: set[float | int] = set()
    for node in all_nodes(graph):
        if node.op_type in {"Equal", "Less", "Greater"} and name in node.input:
            others = [constants[other] for other in node.input if other in constants]
            found |= {other.item() for other in others if other.size == 1}
    return found
