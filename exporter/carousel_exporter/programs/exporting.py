"""From a program to an ONNX file as torch.onnx writes it: right in numbers, not yet in form."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, Final

import onnx
import torch
from torch.utils import _pytree

from carousel_exporter.adoption import StatePair
from carousel_exporter.errors import ModelFileError
from carousel_exporter.graph import OPSET
from carousel_exporter.programs.program import Kind, Program, quiet
from carousel_exporter.recognition import bidirectional
from carousel_exporter.wording import first_line

#: The lowest opset that the newer exporter writes well.
_NEWER_OPSET: Final = 18
_RECURRENT: Final = frozenset({"LSTM", "GRU", "RNN"})

Export = Callable[[Program, Path], None]


class ExportError(ModelFileError):
    """PyTorch can't write a program as ONNX."""


def exports(program: Program) -> Sequence[Export]:
    """Return the ways to export a program, the best first.

    The older exporter traces: it leaves the time axis open and writes our opset. The newer one is
    the only one for programs of torch.export, and knows more operators.
    """
    if program.kind is Kind.EXPORTED:
        return [export_newer]
    if program.kind is Kind.TORCHSCRIPT:
        return [export_older]
    return [export_older, export_newer]


def export_older(program: Program, path: Path) -> None:
    """Write an ONNX file by tracing, or from TorchScript. Raises ExportError."""
    with _exporting(program):
        torch.onnx.export(
            program.call,
            program.arguments[0],
            str(path),
            kwargs=program.arguments[1],
            dynamo=False,
            verbose=False,
            opset_version=OPSET,
            input_names=list(program.inputs),
            output_names=list(program.outputs),
            dynamic_axes={example.name: example.open_axes for example in program.examples},
        )


def export_newer(program: Program, path: Path) -> None:
    """Write an ONNX file by way of torch.export. Raises ExportError."""
    options: dict[str, Any] = {}
    if program.exported is None:
        dynamic = torch.export.Dim.DYNAMIC
        shapes = [dict.fromkeys(example.open_axes, dynamic) for example in program.examples]
        structure = _pytree.tree_structure(program.arguments)
        positional, named = _pytree.tree_unflatten(shapes, structure)
        options["dynamic_shapes"] = (*positional, *named.values())
    with _exporting(program):
        torch.onnx.export(
            program.call if program.exported is None else program.exported,
            program.arguments[0],
            str(path),
            kwargs=program.arguments[1],
            dynamo=True,
            opset_version=_NEWER_OPSET,
            input_names=list(program.inputs),
            output_names=list(program.outputs),
            external_data=False,
            verbose=False,
            **options,
        )


def mend(path: Path, states: Sequence[StatePair]) -> None:
    """Make an exported file say what the program does, and name its open axes.

    Raises ModelFileError where a layer is bidirectional.
    """
    model = onnx.load(path)
    for node in _nodes(model):
        if node.op_type in _RECURRENT:
            _refuse_bidirectional(node)
        if node.op_type == "GRU":
            _reset_after(node)
    _name_axes(model, states)
    onnx.save(model, path)


def _reset_after(node: onnx.NodeProto) -> None:
    """Have a GRU's reset gate act where PyTorch's does.

    PyTorch has no other GRU, and torch.onnx with dynamo=True has written the other one
    (https://github.com/pytorch/pytorch/issues/189225).
    """
    kept = [attribute for attribute in node.attribute if attribute.name != "linear_before_reset"]
    del node.attribute[:]
    node.attribute.extend([*kept, onnx.helper.make_attribute("linear_before_reset", 1)])


def _refuse_bidirectional(node: onnx.NodeProto) -> None:
    for attribute in node.attribute:
        if attribute.name == "direction" and attribute.s != b"forward":
            raise ModelFileError(bidirectional(node.name or node.op_type))


def _name_axes(model: onnx.ModelProto, states: Sequence[StatePair]) -> None:
    """Call the axis that the stated batch axes share B, and others nothing that misleads.

    torch.export calls axes s12 and the like.
    """
    batch = {pair.input: pair.batch_axis for pair in states if pair.batch_axis is not None}
    names: dict[str, str] = {}
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        axis = batch.get(value.name)
        if axis is not None and -len(dims) <= axis < len(dims) and dims[axis].dim_param:
            names[dims[axis].dim_param] = "B"
    for value in [*model.graph.input, *model.graph.output, *model.graph.value_info]:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param not in {"", "T", "B"}:
                dim.dim_param = names.get(dim.dim_param, f"axis_{dim.dim_param}")


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    pending = [*model.graph.node, *(node for f in model.functions for node in f.node)]
    while pending:
        node = pending.pop()
        yield node
        for attribute in node.attribute:
            pending.extend(attribute.g.node)
            pending.extend(inner for graph in attribute.graphs for inner in graph.node)


@contextmanager
def _exporting(program: Program) -> Iterator[None]:
    """Silence PyTorch's exporters, which print and log, and say in a sentence where one fails."""
    try:
        with quiet(), redirect_stdout(StringIO()), redirect_stderr(StringIO()), _mute_stderr():
            yield
    except Exception as error:  # torch.onnx has a tree of errors, and lets others through
        reason: BaseException = error
        while reason.__cause__ is not None:  # the outer ones say where to read on
            reason = reason.__cause__
        told = first_line(reason).partition("[Caused by")[0].strip()
        raise ExportError(
            f"PyTorch can't export {program.label}: {type(reason).__name__}: {told}"
        ) from error


@contextmanager
def _mute_stderr() -> Iterator[None]:
    """Send what C++ writes there nowhere: the older exporter shows whole graphs on a failure."""
    torch._C._jit_set_onnx_log_output_stream("stderr")
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
