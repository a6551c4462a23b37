"""Reading an ONNX file that others wrote: what can't be trusted is refused in a sentence."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnx
from google.protobuf.message import DecodeError
from onnx import inliner

from carousel_exporter import filekinds
from carousel_exporter.adoption.graphs import all_nodes, own_outputs, subgraphs
from carousel_exporter.errors import ModelFileError
from carousel_exporter.wording import first_line

#: One protobuf message, and so one ONNX file with its weights inside, can't be larger.
MAX_BYTES: Final = 2**31 - 1
#: Operator sets that ONNX Runtime has kernels for; "" and "ai.onnx" are the same one.
KNOWN_DOMAINS: Final = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})


@dataclass(frozen=True)
class Original:
    """A file as it came, with weights inside and functions inlined; `opset` as it was written."""

    path: Path
    sha256: str
    model: onnx.ModelProto
    opset: int


def read(path: Path) -> Original:
    """Read an ONNX file, and the files beside it that hold its weights.

    Raises ModelFileError where it is none, isn't whole, reaches outside of its folder, is too
    large for one file, or needs operators that nobody has.
    """
    content = _content(path)
    try:
        model = onnx.ModelProto.FromString(content)
    except DecodeError as error:
        raise ModelFileError(filekinds.not_onnx(path)) from error
    if not model.graph.node or not model.opset_import:
        raise ModelFileError(
            f"{path} is not an ONNX file, or has no nodes: give the .onnx file itself."
        )
    _load_external(model, path, len(content))
    if model.functions:
        model = inliner.inline_local_functions(model)
    _check_operators(model, path)
    _check_whole(model, path)
    own_outputs(model)
    opset = max((o.version for o in model.opset_import if o.domain in {"", "ai.onnx"}), default=0)
    return Original(path, hashlib.sha256(content).hexdigest(), model, opset)


def _content(path: Path) -> bytes:
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise ModelFileError(f"{path} is no plain file: give the .onnx file itself.")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise _too_large(path, size)
        return path.read_bytes()
    except FileNotFoundError:
        raise ModelFileError(f"There is no file {path}.") from None
    except IsADirectoryError:
        raise ModelFileError(f"{path} is a folder: name the .onnx file in it.") from None
    except OSError as error:
        raise ModelFileError(f"{path} can't be read: {error.strerror or error}.") from error


def _too_large(path: Path, size: int) -> ModelFileError:
    return ModelFileError(
        f"{path} holds {size:,} bytes with its weights, and one ONNX file can hold "
        f"{MAX_BYTES:,}: quantise it, or store its weights in half precision, first."
    )


def _load_external(model: onnx.ModelProto, path: Path, size: int) -> None:
    """Bring weights that lie in other files into the model, from the model's own folder alone."""
    folder = path.parent.resolve()
    tensors = [t for t in _tensors(model.graph) if _is_external(t)]
    size += sum(_check_place(tensor, folder, path) for tensor in tensors)
    if size > MAX_BYTES:
        raise _too_large(path, size)
    for tensor in tensors:
        try:
            onnx.external_data_helper.load_external_data_for_tensor(tensor, str(folder))
        except Exception as error:  # onnx's checks have errors of their own
            raise ModelFileError(
                f"The weights {tensor.name!r} of {path} can't be read: {first_line(error)}."
            ) from error
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def _check_place(tensor: onnx.TensorProto, folder: Path, path: Path) -> int:
    """Return how many bytes of weights lie where a tensor says; refuse a place outside."""
    told = {entry.key: entry.value for entry in tensor.external_data}
    location = told.get("location", "")
    place = Path(location)
    target = (folder / place).resolve()
    if not location or place.is_absolute() or not target.is_relative_to(folder):
        raise ModelFileError(
            f"{path} wants its weights {tensor.name!r} from {location!r}, outside of its own "
            "folder, which is refused: put them beside it and save it with a plain file name."
        )
    if not target.is_file():
        raise ModelFileError(
            f"{path} keeps its weights {tensor.name!r} in {location!r}, and there is no such file "
            "beside it: copy it there."
        )
    begin, length = _whole(told.get("offset")), _whole(told.get("length"))
    there = target.stat().st_size
    needed = there - begin if length == 0 else length
    if begin < 0 or needed < 0 or begin + needed > there:
        raise ModelFileError(
            f"{path} keeps its weights {tensor.name!r} at bytes {begin} to {begin + needed} of "
            f"{location!r}, which has {there}: copy the whole file beside it."
        )
    return needed


def _whole(text: str | None) -> int:
    try:
        return int(text or 0)
    except ValueError:
        return -1


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor that a graph and its branches hold."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
        for inner in subgraphs(node):
            yield from _tensors(inner)


def _is_external(tensor: onnx.TensorProto) -> bool:
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)


def _check_operators(model: onnx.ModelProto, path: Path) -> None:
    foreign = sorted(
        {
            f"{node.domain}.{node.op_type}"
            for node in all_nodes(model.graph)
            if node.domain not in KNOWN_DOMAINS
        }
    )
    if foreign:
        raise ModelFileError(
            f"{path} needs operators that are in no standard set ({', '.join(foreign)}): export it "
            "again with standard ONNX operators alone."
        )


def _check_whole(model: onnx.ModelProto, path: Path) -> None:
    """Refuse a graph whose parts don't fit together, as one that was cut off while written."""
    try:
        onnx.checker.check_model(model)
    except Exception as error:  # its own class, and what protobuf raises for the largest
        raise ModelFileError(
            f"{path} is not a valid ONNX file: {first_line(error)}; export or download it again."
        ) from error
