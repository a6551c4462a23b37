"""Bringing a graph into the range of operator versions that the server's kernels cover."""

from __future__ import annotations

from typing import Final

import onnx
from onnx import version_converter

from carousel_exporter.adoption.graphs import opset_of
from carousel_exporter.errors import ModelFileError
from carousel_exporter.wording import first_line

#: The server takes 11 (the first with ScatterND) and newer; of CUDA's kernels some end at 21.
OLDEST: Final = 11
NEWEST: Final = 21
#: What older graphs are raised to: what the exporter writes itself.
RAISED: Final = 17
#: IR versions that old and new ONNX Runtimes read alike.
_OLDEST_IR: Final = 8
_NEWEST_IR: Final = 10


def in_range(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model of opset 11 to 21: the same one where it is, otherwise a converted copy.

    That the copy computes the same is for the caller to prove. Raises ModelFileError where it
    can't be converted.
    """
    version = opset_of(model)
    if version > NEWEST:
        model = _lowered(model, version)
    elif version < OLDEST:
        model = _converted(model, version, RAISED)
    else:
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        model = copy
    needed = onnx.helper.find_min_ir_version_for(model.opset_import, ignore_unknown=True)
    model.ir_version = min(max(model.ir_version, needed, _OLDEST_IR), max(needed, _NEWEST_IR))
    return model


def _lowered(model: onnx.ModelProto, version: int) -> onnx.ModelProto:
    """Lower the version as it stands where every operator is as it was, or convert."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for entry in copy.opset_import:
        if entry.domain in {"", "ai.onnx"}:
            entry.version = NEWEST
    copy.ir_version = min(copy.ir_version, _NEWEST_IR)
    try:
        onnx.checker.check_model(copy, full_check=True)
    except Exception:  # noqa: BLE001 - the checker's errors have several bases
        return _converted(model, version, NEWEST)
    return copy


def _converted(model: onnx.ModelProto, version: int, wanted: int) -> onnx.ModelProto:
    try:
        return version_converter.convert_version(model, wanted)
    except Exception as error:  # the converter raises what its C++ does
        raise ModelFileError(
            f"The file has opset {version}, {OLDEST} to {NEWEST} can be served, and converting it "
            f"to {wanted} failed: {first_line(error)}; export it again with opset 17."
        ) from error
