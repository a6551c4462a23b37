"""One network three times: in PyTorch, as the ONNX graph of it, and as a model file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from google.protobuf import json_format
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from benchmarks.ondevice.cases import FEATURES, OUTPUTS, Network
from carousel import wire
from carousel.v1 import manifest_pb2, tensor_pb2

_OPSET = 17
# PyTorch's gates are i, f, g, o; ONNX's are i, o, f, g.
_GATES = (0, 3, 1, 2)


class Torch(torch.nn.Module):
    """The network in PyTorch: x (T, B, F), h and c (L, B, H) to y (T, B, 1), h and c."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = network
        self.lstm = torch.nn.LSTM(FEATURES, network.hidden, network.layers)
        self.head = torch.nn.Linear(network.hidden, OUTPUTS)

    def forward(
        self, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Advance by the steps of x."""
        y, (h, c) = self.lstm(x, (h, c))
        return self.head(y), h, c


def write(network: Torch, repository: Path, name: str = "lstm") -> Path:
    """Write the model file of a network into a repository; return its path."""
    path = repository / name / "1" / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_graph(network, name).SerializeToString())
    return path


def _graph(network: Torch, name: str) -> onnx.ModelProto:
    nodes: list[onnx.NodeProto] = []
    constants = {"axis0": np.array([0]), "axis1": np.array([1])}
    states: list[str] = []
    value, hidden = "x", network.network.hidden
    for layer in range(network.network.layers):
        h, c = f"h{layer}", f"c{layer}"
        states += [h, c]
        constants |= _weights(network.lstm, layer)
        nodes += [helper.make_node("Unsqueeze", [s, "axis0"], [f"{s}_3d"]) for s in (h, c)]
        inputs = [value, *(f"{w}{layer}" for w in "WRB"), "lengths", f"{h}_3d", f"{c}_3d"]
        outputs = [f"Y{layer}", f"{h}_new", f"{c}_new"]
        nodes.append(helper.make_node("LSTM", inputs, outputs, hidden_size=hidden))
        nodes += [helper.make_node("Squeeze", [f"{s}_new", "axis0"], [f"{s}_out"]) for s in (h, c)]
        value = f"y{layer}"
        nodes.append(helper.make_node("Squeeze", [f"Y{layer}", "axis1"], [value]))
    constants["head"] = network.head.weight.detach().numpy().T
    constants["bias"] = network.head.bias.detach().numpy()
    nodes.append(helper.make_node("MatMul", [value, "head"], ["answer"]))
    nodes.append(helper.make_node("Add", ["answer", "bias"], ["y"]))
    floats, info = TensorProto.FLOAT, helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        name,
        [
            info("x", floats, ["T", "B", FEATURES]),
            *(info(s, floats, ["B", hidden]) for s in states),
            info("lengths", TensorProto.INT32, ["B"]),
        ],
        [
            info("y", floats, ["T", "B", OUTPUTS]),
            *(info(f"{s}_out", floats, ["B", hidden]) for s in states),
        ],
        [numpy_helper.from_array(np.ascontiguousarray(v), k) for k, v in constants.items()],
    )
    opsets = [helper.make_opsetid("", _OPSET)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    manifest = _manifest(name, states, hidden)
    helper.set_model_props(made, {wire.MANIFEST_KEY: json_format.MessageToJson(manifest)})
    return made


def _weights(lstm: torch.nn.LSTM, layer: int) -> dict[str, NDArray[np.float32]]:
    def gates(kind: str) -> NDArray[np.float32]:
        weight = getattr(lstm, f"{kind}_l{layer}").detach().numpy()
        parts = np.split(weight, 4)
        return np.concatenate([parts[gate] for gate in _GATES])

    biases = np.concatenate([gates("bias_ih"), gates("bias_hh")])
    return {
        f"W{layer}": gates("weight_ih")[None],
        f"R{layer}": gates("weight_hh")[None],
        f"B{layer}": biases[None],
    }


def _manifest(name: str, states: list[str], hidden: int) -> manifest_pb2.ModelManifest:
    kind = tensor_pb2.DATA_TYPE_FLOAT32
    return manifest_pb2.ModelManifest(
        format=wire.MANIFEST_FORMAT,
        name=name,
        form=manifest_pb2.MODEL_FORM_SEQUENCE,
        inputs=[manifest_pb2.TensorSpec(name="x", dtype=kind, shape=[FEATURES])],
        outputs=[manifest_pb2.TensorSpec(name="y", dtype=kind, shape=[OUTPUTS])],
        states=[
            manifest_pb2.StateSpec(name=s, output=f"{s}_out", dtype=kind, shape=[hidden])
            for s in states
        ],
        sequence_lens="lengths",
    )
