"""`carousel-export inspect`: what a model file holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from carousel.v1 import manifest_pb2, tensor_pb2
from carousel.wire import NUMPY_DTYPES
from carousel_exporter.commands.tables import table
from carousel_exporter.inspection import Inspection, state_bytes
from carousel_exporter.inspection import inspect as read
from carousel_exporter.wording import counted, steps

#: Classes that are named where there are no more of them.
CLASSES_SHOWN: Final = 20
_CONTENTS: Final = {
    manifest_pb2.TENSOR_CONTENT_PROBABILITIES: "probabilities",
    manifest_pb2.TENSOR_CONTENT_LOG_PROBABILITIES: "log-probabilities",
}


def inspect(
    model: Annotated[Path, typer.Argument(help="A model file.")],
) -> None:
    """Show a model file: its manifest, inputs, outputs and states, its size and what a step costs.

    For example:

        carousel-export inspect models/co2/1/model.onnx
    """
    found = read(model)
    console = Console(emoji=False)
    for part in (_summary(found), _tensors(found), _states(found), _provenance(found)):
        console.print(part)


def _summary(found: Inspection) -> Table:
    manifest = found.manifest
    result = table(manifest.name or "(no name)", "", "", header=False)
    form = {
        manifest_pb2.MODEL_FORM_SEQUENCE: "sequence: the graph loops over time",
        manifest_pb2.MODEL_FORM_STEP: "step: the server loops over time",
    }.get(manifest.form, "not stated")
    operators = ", ".join(f"{count} {name}" for name, count in found.operators.items())
    rows = {
        "description": manifest.description,
        "form": form,
        "rows a run": str(manifest.max_batch or "any number"),
        "horizon": steps(manifest.horizon) if manifest.horizon else "",
        "lengths input": manifest.sequence_lens,
        "parameters": f"{found.parameters:,}",
        "file": f"{found.file_bytes:,} bytes",
        "state a session": f"{found.state_bytes:,} bytes",
        "cost of a step": _cost(found),
        "ONNX": f"opset {found.opset}, IR version {found.ir_version}",
        "operators": operators,
    }
    for name, value in rows.items():
        if value:
            result.add_row(name, escape(value))
    return result


def _cost(found: Inspection) -> str:
    if not found.multiply_adds:
        return ""  # nothing of what is counted is there
    return f"{found.multiply_adds:,} multiply-adds, {found.flops:,} FLOPs"


def _tensors(found: Inspection) -> Table:
    result = table("Inputs and outputs of a step", "", "name", "type", "shape", "columns", "unit")
    for kind, specs in (("in", found.manifest.inputs), ("out", found.manifest.outputs)):
        for spec in specs:
            result.add_row(
                kind,
                escape(spec.name),
                _dtype(spec.dtype),
                escape(json.dumps(list(spec.shape))),
                escape(_columns(spec) + _bounds(spec)),
                escape(spec.unit),
            )
    return result


def _states(found: Inspection) -> Table:
    result = table("States of a session", "name", "type", "shape", "bytes", "", numbers=("bytes",))
    for spec in found.manifest.states:
        result.add_row(
            escape(spec.name),
            _dtype(spec.dtype),
            escape(json.dumps(list(spec.shape))),
            f"{state_bytes(spec):,}",
            escape(spec.description),
        )
    return result


def _provenance(found: Inspection) -> Table:
    result = table("Provenance", "", "", header=False)
    for name, value in sorted(found.manifest.provenance.items()):
        result.add_row(escape(name), escape(value))
    return result


def _dtype(dtype: tensor_pb2.DataType.ValueType) -> str:
    found = NUMPY_DTYPES.get(dtype)
    return np.dtype(found).name if found else "not stated"


def _columns(spec: manifest_pb2.TensorSpec) -> str:
    """Say what the elements are: named columns, or the classes that probabilities are of."""
    named = ", ".join(spec.columns)
    content = _CONTENTS.get(spec.content)
    if content is None:
        return named
    shown = named.isprintable() and len(spec.columns) <= CLASSES_SHOWN
    return f"{content} of {named if shown else counted(len(spec.columns), 'symbol')}"


def _bounds(spec: manifest_pb2.TensorSpec) -> str:
    if not (spec.HasField("minimum") or spec.HasField("maximum")):
        return ""
    low = spec.minimum if spec.HasField("minimum") else "…"
    high = spec.maximum if spec.HasField("maximum") else "…"
    symbols = f", {counted(len(spec.symbols), 'symbol')}" if spec.symbols else ""
    return f" {low} to {high}{symbols}"
