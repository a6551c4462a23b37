"""On which device each node of a graph ended up, and whether that is where it belongs.

ONNX Runtime places what a provider has no kernel for on the CPU, and says nothing. A step would
then cross the bus, some of them at each node, so a model for a GPU is refused where that happened.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import onnx
import onnxruntime as ort

from carousel_server.runtime.device import Device
from carousel_server.runtime.ondevice.stepform import CONTROL_FLOW, RECURRENT

#: Asks ONNX Runtime to remember where it put what; there since version 1.24.
RECORD = "session.record_ep_graph_assignment_info"

_CPU = "CPUExecutionProvider"

# CUDA's recurrent kernels are registered for opsets up to this one.
_NEWEST_OPSET = 21

# They read shapes, which are on the host anyway; what is computed from them alone stays there too.
_SHAPES = frozenset({"Shape", "Size"})


@dataclass(frozen=True, slots=True)
class Placed:
    """A node, and the provider that runs it."""

    name: str
    kind: str
    provider: str


@dataclass(frozen=True, slots=True)
class Stray:
    """A node that runs on the CPU though the model is for a GPU, and a likely reason."""

    node: Placed
    reason: str


def name_nodes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with a name for every node, so that ONNX Runtime can speak of it."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    seen: set[str] = set()
    for number, node in enumerate(made.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}_{number}"
        seen.add(node.name)
    return made


def placed(session: ort.InferenceSession) -> list[Placed]:
    """Return where each node of a session is; the session was made with `RECORD`.

    Raises:
        NotImplementedError: this ONNX Runtime can't tell.

    """
    ask = getattr(session, "get_provider_graph_assignment_info", None)
    if ask is None:
        raise NotImplementedError(
            f"this ONNX Runtime ({ort.__version__}) can't tell where nodes are; 1.24 or later can"
        )
    return [
        Placed(node.name, node.op_type, part.ep_name) for part in ask() for node in part.get_nodes()
    ]


def missing_provider(session: ort.InferenceSession, device: Device) -> str | None:
    """Return what is wrong where a session goes without the provider that was wanted."""
    wanted, *_ = device.providers()
    name = wanted if isinstance(wanted, str) else wanted[0]
    if name in session.get_providers():
        return None
    return (
        f"ONNX Runtime could not load its {name}: it needs the CUDA and cuDNN libraries that this "
        f"version ({ort.__version__}) was built for, where the loader finds them"
    )


def strays(nodes: Iterable[Placed], model: onnx.ModelProto) -> list[Stray]:
    """Return the nodes on the CPU that work on values; `model` is the graph that was loaded.

    Arithmetic on shapes belongs on the CPU: ONNX Runtime puts it there on purpose.
    """
    shapes = _shape_arithmetic(model.graph)
    opset = max((entry.version for entry in model.opset_import if not entry.domain), default=0)
    return [
        Stray(node, _reason(node.kind, opset))
        for node in nodes
        if node.provider == _CPU and node.name not in shapes and node.kind not in _SHAPES
    ]


def table(found: Sequence[Stray]) -> str:
    """Return a line a node, in columns, ready to be printed."""
    rows = [("node", "operator", "why")]
    rows += [(stray.node.name, stray.node.kind, stray.reason) for stray in found]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return "\n".join(
        f"  {name:<{widths[0]}}  {kind:<{widths[1]}}  {why}" for name, kind, why in rows
    )


def counts(nodes: Iterable[Placed]) -> Mapping[str, int]:
    """Return how many nodes each provider has."""
    found: dict[str, int] = {}
    for node in nodes:
        found[node.provider] = found.get(node.provider, 0) + 1
    return found


def _reason(kind: str, opset: int) -> str:
    if kind in CONTROL_FLOW:
        return "control flow: what it decides by is read on the CPU"
    if kind in RECURRENT and opset > _NEWEST_OPSET:
        return f"opset {opset}: CUDA has this operator up to {_NEWEST_OPSET}; export it lower"
    if kind.startswith("Memcpy"):
        return "a copy, beside a node on the CPU"
    return "CUDA has no kernel for it with these types"


def _shape_arithmetic(graph: onnx.GraphProto) -> set[str]:
    """Return the names of the nodes whose values come from shapes and constants alone."""
    fixed = {tensor.name for tensor in graph.initializer}
    derived: set[str] = set()
    found = set()
    for node in graph.node:  # in an order in which values come before they are read
        known = all(not name or name in fixed or name in derived for name in node.input)
        from_shape = any(name in derived for name in node.input)
        if node.op_type in _SHAPES or (known and from_shape):
            derived.update(node.output)
            found.add(node.name)
        elif known:
            fixed.update(node.output)
    return found
