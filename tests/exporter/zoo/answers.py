"""A graph driven by hand with ONNX Runtime: what must come out, whoever serves it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime as ort

from tests.exporter.zoo.build import Animal
from tests.exporter.zoo.recipe import RATE, TOKENS

Arrays = dict[str, np.ndarray]

#: What may differ, relative to max(1, |reference|), by the width of a float.
TOLERANCE = {2: 1e-2, 4: 1e-5, 8: 1e-13}


def draw_inputs(animal: Animal, *, rows: int, steps: int, seed: int = 0) -> list[Arrays]:
    """Draw what sessions send, an array (T, …) for each input that changes from step to step."""
    rng = np.random.default_rng(seed)
    shapes = {"x": (steps, animal.recipe.features), "u": (steps, 2)}

    def draw(name: str) -> np.ndarray:
        if name == "token":
            return rng.integers(0, TOKENS, steps)
        return rng.normal(size=shapes[name]).astype(animal.recipe.kind)

    return [{n: draw(n) for n in animal.inputs if n != "rate"} for _ in range(rows)]


def open_session(animal: Animal) -> ort.InferenceSession:
    """Load a graph without the sizes that it declares, which ONNX Runtime would insist on."""
    model = onnx.ModelProto()
    model.CopyFrom(animal.model)
    for value in [*model.graph.input, *model.graph.output]:
        for dim in value.type.tensor_type.shape.dim:
            dim.Clear()
    options = ort.SessionOptions()
    options.log_severity_level = 4  # shapes that lie are warned of, and there are some
    options.intra_op_num_threads = 1
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def answers(
    animal: Animal, sessions: Sequence[Arrays], *, steps_a_run: int = 1
) -> tuple[Arrays, Arrays]:
    """Run sessions of one length together; return answers (B, T, …) and last states (B, …)."""
    runtime, form, rows = open_session(animal), animal.recipe.form, len(sessions)
    together = {n: np.stack([each[n] for each in sessions]) for n in sessions[0]}  # (B, T, …)
    states = {state.name: state.zeros(rows) for state in animal.states}
    parts: dict[str, list[np.ndarray]] = {name: [] for name in animal.outputs}
    names = [*animal.outputs, *(state.output for state in animal.states)]
    length = next(iter(together.values())).shape[1]
    for start in range(0, length, steps_a_run):
        feeds = {
            name: _given(value[:, start : start + steps_a_run], form)
            for name, value in together.items()
        }
        if "rate" in animal.inputs:
            feeds["rate"] = np.array(RATE)
        if animal.takes_lengths:
            feeds["lengths"] = np.full(rows, min(steps_a_run, length - start), np.int32)
        found = dict(zip(names, runtime.run(names, feeds | states), strict=True))
        for name in animal.outputs:
            parts[name].append(_taken(found[name], form))
        states = {state.name: found[state.output] for state in animal.states}
    last = {
        state.name: np.moveaxis(states[state.name], state.batch_axis, 0) for state in animal.states
    }
    return {name: np.concatenate(values, axis=1) for name, values in parts.items()}, last


def same(found: np.ndarray, expected: np.ndarray) -> bool:
    """Tell whether arrays are equal; axes of size 1 may come and go behind the first."""
    if found.dtype != expected.dtype or len(found) != len(expected):
        return False
    a, b = (array.reshape(len(array), -1).astype(np.float64) for array in (found, expected))
    allowed = TOLERANCE[found.dtype.itemsize] if found.dtype.kind == "f" else 0.0
    return a.shape == b.shape and bool((np.abs(a - b) <= allowed * np.maximum(1, np.abs(b))).all())


def _given(chunk: np.ndarray, form: str) -> np.ndarray:
    """Bring a chunk (B, T, …) to the axes that a graph of this form wants."""
    if form == "step":
        assert chunk.shape[1] == 1
        return chunk[:, 0]
    return chunk if form == "batch_first" else np.swapaxes(chunk, 0, 1)


def _taken(output: np.ndarray, form: str) -> np.ndarray:
    """Bring an output of a graph to (B, T, …)."""
    if form == "step":
        return output[:, None]
    return output if form == "batch_first" else np.swapaxes(output, 0, 1)
