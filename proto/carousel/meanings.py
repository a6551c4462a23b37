"""What the numbers of a tensor stand for: symbols, probabilities; and what must be true of both.

The server and the exporter refuse the same manifests, for the same reasons.
"""

from __future__ import annotations

from collections.abc import Sequence

from carousel.v1 import tensor_pb2
from carousel.v1.manifest_pb2 import TENSOR_CONTENT_UNSPECIFIED, TensorContent, TensorSpec

_FLOATS = frozenset(
    {
        tensor_pb2.DATA_TYPE_FLOAT16,
        tensor_pb2.DATA_TYPE_FLOAT32,
        tensor_pb2.DATA_TYPE_FLOAT64,
    }
)
_INTEGERS = frozenset(
    {
        tensor_pb2.DATA_TYPE_INT8,
        tensor_pb2.DATA_TYPE_INT16,
        tensor_pb2.DATA_TYPE_INT32,
        tensor_pb2.DATA_TYPE_INT64,
        tensor_pb2.DATA_TYPE_UINT8,
    }
)


def meaning_flaw(spec: TensorSpec) -> str | None:
    """Say what is wrong with what a tensor's numbers are said to stand for; None where nothing is.

    The answer goes on where "the manifest gives 'x' …" ends.
    """
    return _symbols_flaw(spec) or _content_flaw(spec)


def _symbols_flaw(spec: TensorSpec) -> str | None:
    count = len(spec.symbols)
    if not count:
        return None
    if spec.dtype not in _INTEGERS:
        return f"{count} symbols, and only integers stand for symbols"
    if not spec.HasField("minimum") or spec.minimum != 0:
        return f"{count} symbols, and no minimum of 0"
    if not spec.HasField("maximum") or spec.maximum != count - 1:
        maximum = spec.maximum if spec.HasField("maximum") else "none"
        return f"{count} symbols, which needs the maximum {count - 1}, not {maximum}"
    return _repeated(spec.symbols, "the symbol")


def _content_flaw(spec: TensorSpec) -> str | None:
    if spec.content == TENSOR_CONTENT_UNSPECIFIED:
        return None
    if spec.content not in TensorContent.values():
        return f"the content {spec.content}, which this version does not know"
    if spec.dtype not in _FLOATS:
        return "probabilities that are not floats"
    width = spec.shape[-1] if spec.shape else 0
    if not width or len(spec.columns) != width:
        return f"probabilities of {width} classes, and the names of {len(spec.columns)} (columns)"
    if "" in spec.columns:
        return "a class without a name"
    return _repeated(spec.columns, "the class")


def _repeated(names: Sequence[str], what: str) -> str | None:
    """Name the first of `names` that is there twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return f"{what} {name!r} twice"
        seen.add(name)
    return None
