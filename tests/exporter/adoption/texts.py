"""Graphs written as text, with random weights: small, and each for one thing that can happen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from carousel_exporter.adoption import AdoptionReport, Options, adopt
from carousel_exporter.runner import Runner

H = 6


def graph(
    text: str, weights: dict[str, np.ndarray] | None = None, *, opset: int = 17
) -> onnx.ModelProto:
    """Parse `name (inputs) => (outputs) { nodes }`; weights of floats become float32."""
    head = f'<ir_version: 8, opset_import: ["" : {opset}]>\n'
    model = onnx.parser.parse_model(head + text)
    for name, array in (weights or {}).items():
        narrow = np.asarray(array, np.float32 if array.dtype == np.float64 else array.dtype)
        model.graph.initializer.append(numpy_helper.from_array(narrow, name))
    return model


def random(*shape: int, seed: int = 0, scale: float = 0.5) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


def lstm_step(*, outputs: str = "y, hn, cn") -> onnx.ModelProto:
    """One step of an LSTM operator and a linear answer as wide as its state."""
    shapes = {"y": f"float[B,{H}] y", "hn": f"float[1,B,{H}] hn", "cn": f"float[1,B,{H}] cn"}
    declared = ", ".join(shapes[name] for name in outputs.split(", "))
    return graph(
        f"""lstm (float[B,3] x, float[1,B,{H}] h0, float[1,B,{H}] c0) => ({declared}) {{
            x1 = Unsqueeze(x, zero)
            Y, hn, cn = LSTM<hidden_size = {H}>(x1, W, R, b, , h0, c0)
            top = Squeeze(hn, zero)
            y = MatMul(top, V)
        }}""",
        {
            "zero": np.array([0]),
            "W": random(1, 4 * H, 3),
            "R": random(1, 4 * H, H, seed=1),
            "b": random(1, 8 * H, seed=2),
            "V": random(H, H, seed=3),
        },
    )


def gru_step() -> onnx.ModelProto:
    """Two GRU operators, one above the other, and an answer as wide as their states."""
    weights = {"zero": np.array([0]), "V": random(H, H, seed=9, scale=1.0)}
    for layer, width in ((1, 3), (2, H)):
        weights[f"W{layer}"] = random(1, 3 * H, width, seed=layer, scale=1.0)
        weights[f"R{layer}"] = random(1, 3 * H, H, seed=layer + 2, scale=1.0)
    return graph(
        f"""gru (float[B,3] x, float[1,B,{H}] p, float[1,B,{H}] q)
            => (float[B,{H}] y, float[1,B,{H}] r, float[1,B,{H}] s) {{
            x1 = Unsqueeze(x, zero)
            Y1, r = GRU<hidden_size = {H}>(x1, W1, R1, , , p)
            Y2, s = GRU<hidden_size = {H}>(r, W2, R2, , , q)
            top = Squeeze(s, zero)
            y = MatMul(top, V)
        }}""",
        weights,
    )


def adopted(
    model: onnx.ModelProto, folder: Path, options: Options | None = None
) -> tuple[AdoptionReport, Runner]:
    """Adopt a graph; return the report and the new file, ready to run."""
    path, out = folder / "theirs.onnx", folder / "model.onnx"
    onnx.save(model, path)
    report = adopt(path, out, options or Options())
    return report, Runner(out, report.manifest)


def pairs_of(report: AdoptionReport) -> dict[str, str]:
    return {pair.input: pair.output for pair in report.proposal.pairs}
