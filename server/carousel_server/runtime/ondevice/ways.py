"""The ways in which a model's single step can be made: ONNX's operators, or taken apart."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from carousel_server.runtime.manifest import ModelFile
from carousel_server.runtime.ondevice.decomposed import decompose
from carousel_server.runtime.ondevice.stepform import control_flow, step_form
from carousel_server.spec import ModelSpec

OPERATORS = "operators"
DECOMPOSED = "decomposed"

# Shorter numbers are those of the products of operators that were taken apart.
_SHORT = ("float16", "bfloat16")


@dataclass(frozen=True, slots=True)
class Way:
    """A graph of one step a run."""

    name: str
    graph: onnx.ModelProto
    spec: ModelSpec


def ways_of(file: ModelFile, *, math: str) -> tuple[list[Way], str]:
    """Return the ways, the plainest first, and why there are none.

    With float16 or bfloat16 the operators stay the model's own only where none can be taken apart.
    """
    if flow := control_flow(file.graph):
        return [], f"its graph has control flow ({', '.join(flow)}), which can't be captured"
    form = step_form(file.graph, file.spec)
    plain = Way(OPERATORS, form.graph, form.spec)
    taken = decompose(form.graph, math=math)
    if not taken.taken:
        return [plain], ""
    apart = Way(DECOMPOSED, taken.graph, form.spec)
    return ([apart] if math in _SHORT else [plain, apart]), ""
