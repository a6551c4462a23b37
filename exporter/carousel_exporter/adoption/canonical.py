"""What the canonical form of a graph is: its states, its inputs and outputs, step by step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx


@dataclass(frozen=True)
class State:
    """A state of the canonical graph: its input, its output, and one row's shape.

    `source` is the state's name in the original, or that of the input whose context it is.
    """

    name: str
    output: str
    shape: tuple[int, ...]
    source: str
    is_context: bool


@dataclass(frozen=True)
class Canonical:
    """A graph in canonical form. `time`: whether its tensors have a time axis."""

    model: onnx.ModelProto
    states: tuple[State, ...]
    inputs: Mapping[str, tuple[int, ...]]
    outputs: Mapping[str, tuple[int, ...]]
    lengths: str
    time: bool
