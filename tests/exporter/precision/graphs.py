"""Model files with recurrent layers of every kind, in the server's form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from carousel.v1 import manifest_pb2, tensor_pb2
from carousel_exporter.manifest import attach, load_model, read_manifest
from carousel_exporter.runner import Arrays, Runner

F, H, ANSWERS = 40, 32, 3
KINDS = {
    "lstm": ("LSTM", {}),
    "gru": ("GRU", {"linear_before_reset": 1}),
    "gru of ONNX": ("GRU", {"linear_before_reset": 0}),
    "rnn": ("RNN", {}),
    "relu": ("RNN", {"activations": ["Relu"]}),
}
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def make(kind: str, *, layers: int = 2, lengths: bool = True, seed: int = 0) -> onnx.ModelProto:
    """Layers of a kind and a MatMul on top: x (T, B, 40) to y (T, B, 3), states (B, 32)."""
    operator, attributes = KINDS[kind]
    rng = np.random.default_rng(seed)
    weights = {"zero": np.array([0]), "one": np.array([1]), "V": _random(rng, H, ANSWERS)}
    nodes, inputs, outputs, states = (
        [],
        [_value("x", "T", "B", F)],
        [_value("y", "T", "B", ANSWERS)],
        [],
    )
    inputs += [_value("lens", "B", kind=TensorProto.INT32)] if lengths else []
    top = "x"
    for n in range(layers):
        width, G = F if n == 0 else H, GATES[operator] * H
        weights |= {f"W{n}": _random(rng, 1, G, width), f"R{n}": _random(rng, 1, G, H)}
        weights |= {f"B{n}": _random(rng, 1, 2 * G)}
        own = [f"h{n}", f"c{n}"][: 1 + (operator == "LSTM")]
        nodes += [helper.make_node("Unsqueeze", [s, "zero"], [f"{s}_wide"]) for s in own]
        read = [top, f"W{n}", f"R{n}", f"B{n}", "lens" if lengths else ""]
        given = [f"Y{n}", *(f"{s}_new" for s in own)]
        read += [f"{s}_wide" for s in own]
        name = f"{kind} {n}"
        nodes.append(helper.make_node(operator, read, given, name, hidden_size=H, **attributes))
        nodes += [helper.make_node("Squeeze", [f"{s}_new", "zero"], [f"{s}_out"]) for s in own]
        top = f"top{n}"
        nodes.append(helper.make_node("Squeeze", [f"Y{n}", "one"], [top]))
        states += own
    nodes.append(helper.make_node("MatMul", [top, "V"], ["y"], "head"))
    inputs += [_value(s, "B", H) for s in states]
    outputs += [_value(f"{s}_out", "B", H) for s in states]
    constants = [numpy_helper.from_array(a, name) for name, a in weights.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    attach(model, _manifest(states, lengths=lengths), {})
    return model


def save(model: onnx.ModelProto, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def runner(path: Path) -> Runner:
    return Runner(path, read_manifest(load_model(path), path))


def sessions(rows: int, steps: int, *, width: int = F, seed: int = 1) -> list[Arrays]:
    rng = np.random.default_rng(seed)
    return [{"x": rng.normal(size=(steps, width)).astype(np.float32)} for _ in range(rows)]


def answers(path: Path, given: list[Arrays]) -> tuple[list[np.ndarray], list[Arrays]]:
    """Return each session's answers (T, 3) and last state, all run together from new states."""
    model = runner(path)
    found, states = model.advance(given, [model.new_state() for _ in given])
    return [answer["y"] for answer in found], states


def _manifest(states: list[str], *, lengths: bool) -> manifest_pb2.ModelManifest:
    def spec(name: str, width: int) -> manifest_pb2.TensorSpec:
        kind = tensor_pb2.DATA_TYPE_FLOAT32
        return manifest_pb2.TensorSpec(name=name, dtype=kind, shape=[width])

    kept = [
        manifest_pb2.StateSpec(
            name=s, output=f"{s}_out", dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=[H]
        )
        for s in states
    ]
    return manifest_pb2.ModelManifest(
        format=1,
        name="m",
        form=manifest_pb2.MODEL_FORM_SEQUENCE,
        inputs=[spec("x", F)],
        outputs=[spec("y", ANSWERS)],
        states=kept,
        sequence_lens="lens" if lengths else "",
    )


def _random(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.uniform(-0.3, 0.3, shape).astype(np.float32)


def _value(name: str, *dims: str | int, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, list(dims))
