"""Small models with known answers, made with onnx alone: the server's tests need no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from google.protobuf import json_format
from onnx import TensorProto, helper, numpy_helper

from carousel import wire
from carousel.v1 import manifest_pb2, tensor_pb2

FLOAT = tensor_pb2.DATA_TYPE_FLOAT32
STEP = manifest_pb2.MODEL_FORM_STEP
SEQUENCE = manifest_pb2.MODEL_FORM_SEQUENCE

FLOAT16 = tensor_pb2.DATA_TYPE_FLOAT16
FLOAT64 = tensor_pb2.DATA_TYPE_FLOAT64
INT64 = tensor_pb2.DATA_TYPE_INT64

_ONNX_TYPES = {
    FLOAT: TensorProto.FLOAT,
    FLOAT16: TensorProto.FLOAT16,
    FLOAT64: TensorProto.DOUBLE,
    INT64: TensorProto.INT64,
}


def tensor(name: str, *shape: int, dtype: int = FLOAT, **more) -> manifest_pb2.TensorSpec:
    """Return a declaration of an input or output; `more` are other fields of it."""
    return manifest_pb2.TensorSpec(name=name, dtype=dtype, shape=shape, **more)


def state(
    name: str, *shape: int, dtype: int = FLOAT, initial: bytes = b""
) -> manifest_pb2.StateSpec:
    """Return a declaration of a state `name`, which comes out as `name_out`."""
    return manifest_pb2.StateSpec(
        name=name, output=f"{name}_out", dtype=dtype, shape=shape, initial=initial
    )


def model(
    nodes: Sequence[onnx.NodeProto],
    *,
    inputs: Sequence[manifest_pb2.TensorSpec],
    outputs: Sequence[manifest_pb2.TensorSpec],
    states: Sequence[manifest_pb2.StateSpec],
    form: int = STEP,
    sequence_lens: str = "",
    max_batch: int = 0,
    constants: dict[str, np.ndarray] | None = None,
    opset: int = 17,
) -> onnx.ModelProto:
    """Return a model file's content: the graph, and its manifest in the metadata."""
    lead = ["B"] if form == STEP else ["T", "B"]

    def infos(specs):
        return [
            helper.make_tensor_value_info(s.name, _ONNX_TYPES[s.dtype], [*lead, *s.shape])
            for s in specs
        ]

    graph_inputs = infos(inputs) + [
        helper.make_tensor_value_info(s.name, _ONNX_TYPES[s.dtype], ["B", *s.shape]) for s in states
    ]
    if sequence_lens:
        graph_inputs.append(helper.make_tensor_value_info(sequence_lens, TensorProto.INT32, ["B"]))
    graph_outputs = infos(outputs) + [
        helper.make_tensor_value_info(s.output, _ONNX_TYPES[s.dtype], ["B", *s.shape])
        for s in states
    ]
    graph = helper.make_graph(
        list(nodes),
        "test",
        graph_inputs,
        graph_outputs,
        [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    manifest = manifest_pb2.ModelManifest(
        format=1,
        name="test",
        form=form,
        inputs=inputs,
        outputs=outputs,
        states=states,
        sequence_lens=sequence_lens,
        max_batch=max_batch,
    )
    helper.set_model_props(made, {wire.MANIFEST_KEY: json_format.MessageToJson(manifest)})
    return made


def running_sum(width: int = 2, *, dtype: int = FLOAT, **options) -> onnx.ModelProto:
    """y = s + x; s becomes y. Step form: exact for small integers."""
    nodes = [
        helper.make_node("Add", ["x", "s"], ["s_out"]),
        helper.make_node("Identity", ["s_out"], ["y"]),
    ]
    return model(
        nodes,
        inputs=[tensor("x", width, dtype=dtype)],
        outputs=[tensor("y", width, dtype=dtype)],
        states=[state("s", width, dtype=dtype)],
        **options,
    )


def lstm(
    *,
    features: int = 3,
    hidden: int = 8,
    layers: int = 2,
    outputs: int = 1,
    seed: int = 0,
    opset: int = 17,
) -> onnx.ModelProto:
    """An LSTM with a linear head and random weights, in sequence form."""
    rng = np.random.default_rng(seed)
    nodes, states = [], []
    constants = {} if opset < 13 else {"axis0": np.array([0]), "axis1": np.array([1])}

    def weight(name, *shape):
        constants[name] = rng.normal(0, 0.3, shape).astype(np.float32)
        return name

    def reshape(kind, name, axis, result):
        # Until opset 12 the axes were an attribute.
        if opset < 13:
            return helper.make_node(kind, [name], [result], axes=[axis])
        return helper.make_node(kind, [name, f"axis{axis}"], [result])

    value = "x"
    for layer in range(layers):
        size = features if layer == 0 else hidden
        h, c, y = f"h{layer}", f"c{layer}", f"y{layer}"
        states += [state(h, hidden), state(c, hidden)]
        nodes += [reshape("Unsqueeze", s, 0, f"{s}_3d") for s in (h, c)]
        nodes.append(
            helper.make_node(
                "LSTM",
                [
                    value,
                    weight(f"W{layer}", 1, 4 * hidden, size),
                    weight(f"R{layer}", 1, 4 * hidden, hidden),
                    weight(f"B{layer}", 1, 8 * hidden),
                    "sequence_lens",
                    f"{h}_3d",
                    f"{c}_3d",
                ],
                [f"{y}_4d", f"{h}_new", f"{c}_new"],
                hidden_size=hidden,
            )
        )
        nodes.append(reshape("Squeeze", f"{y}_4d", 1, y))
        nodes += [reshape("Squeeze", f"{s}_new", 0, f"{s}_out") for s in (h, c)]
        value = y
    nodes.append(helper.make_node("MatMul", [value, weight("V", hidden, outputs)], ["y"]))
    return model(
        nodes,
        inputs=[tensor("x", features)],
        outputs=[tensor("y", outputs)],
        states=states,
        form=SEQUENCE,
        sequence_lens="sequence_lens",
        constants=constants,
        opset=opset,
    )


def language(
    symbols: str | Sequence[str] = "ab\n", *, hidden: int = 8, seed: int = 0, sharpness: float = 1.0
) -> onnx.ModelProto:
    """A language model with random weights: h = tanh(E[x] + h R), y = log_softmax(h V).

    `symbols` are its vocabulary. Probabilities differ the more, the greater `sharpness` is.
    """
    rng, size = np.random.default_rng(seed), len(symbols)
    constants = {
        "E": rng.normal(0, 1, (size, hidden)).astype(np.float32),
        "R": rng.normal(0, 0.8, (hidden, hidden)).astype(np.float32),
        "V": rng.normal(0, sharpness, (hidden, size)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Gather", ["E", "x"], ["embedded"], axis=0),
        helper.make_node("MatMul", ["h", "R"], ["carried"]),
        helper.make_node("Add", ["embedded", "carried"], ["both"]),
        helper.make_node("Tanh", ["both"], ["h_out"]),
        helper.make_node("MatMul", ["h_out", "V"], ["logits"]),
        helper.make_node("LogSoftmax", ["logits"], ["y"], axis=-1),
    ]
    text = tensor("x", dtype=INT64, minimum=0, maximum=size - 1, symbols=symbols)
    said = tensor("y", size, columns=symbols, content=manifest_pb2.TENSOR_CONTENT_LOG_PROBABILITIES)
    return model(
        nodes, inputs=[text], outputs=[said], states=[state("h", hidden)], constants=constants
    )


def classifier(classes: Sequence[str] = ("calm", "windy", "storm")) -> onnx.ModelProto:
    """A label for each step: s = s + x, y = softmax(s), with as many features as classes."""
    nodes = [
        helper.make_node("Add", ["x", "s"], ["s_out"]),
        helper.make_node("Softmax", ["s_out"], ["y"], axis=-1),
    ]
    content = manifest_pb2.TENSOR_CONTENT_PROBABILITIES
    return model(
        nodes,
        inputs=[tensor("x", len(classes))],
        outputs=[tensor("y", len(classes), columns=classes, content=content)],
        states=[state("s", len(classes))],
    )


def put(folder: Path, made: onnx.ModelProto, name: str = "test", version: str = "1") -> Path:
    """Write a model into a repository; return its path."""
    path = folder / name / version / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(made.SerializeToString())
    return path


def raises_above(limit: int) -> onnx.ModelProto:
    """y = s + x, but a run with an x beyond `limit` raises (an index out of range)."""
    nodes = [
        helper.make_node("Add", ["x", "s"], ["s_out"]),
        helper.make_node("Cast", ["x"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["zeros", "index"], ["zero"], axis=0),
        helper.make_node("Add", ["s_out", "zero"], ["y"]),
    ]
    return model(
        nodes,
        inputs=[tensor("x", 2)],
        outputs=[tensor("y", 2)],
        states=[state("s", 2)],
        constants={"zeros": np.zeros(limit + 1, np.float32)},
    )


def exploding() -> onnx.ModelProto:
    """y = x + 1e20 * s: beyond float32 at the third step after a 1."""
    nodes = [
        helper.make_node("Mul", ["s", "factor"], ["grown"]),
        helper.make_node("Add", ["x", "grown"], ["s_out"]),
        helper.make_node("Identity", ["s_out"], ["y"]),
    ]
    return model(
        nodes,
        inputs=[tensor("x", 2)],
        outputs=[tensor("y", 2)],
        states=[state("s", 2)],
        constants={"factor": np.float32(1e20)},
    )
