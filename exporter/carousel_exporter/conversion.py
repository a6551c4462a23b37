"""From a network to a model file in the canonical form: one graph that loops over time.

The graph is built node by node rather than traced, so that its names, its axes and its numbers are
ours: time-major inputs, a state for each h and c with the batch on axis 0, lengths for ragged
batches, and the normalisation inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from carousel.v1 import manifest_pb2, tensor_pb2
from carousel.wire import MANIFEST_FORMAT
from carousel_exporter import __version__, manifest
from carousel_exporter.errors import SettingsError, VerificationError
from carousel_exporter.files import replacing
from carousel_exporter.graph import BATCH, TIME, GraphBuilder, onnx_gates
from carousel_exporter.network import PREVIOUS, SEEN, Architecture, cell_name, hidden_name
from carousel_exporter.source import Source
from carousel_exporter.verification import Report, verify
from carousel_exporter.wording import counted, steps

INPUT = "x"
OUTPUT = "y"
LENGTHS = "sequence_lens"


@dataclass(frozen=True)
class Labels:
    """What a person says of a model; an empty one leaves what the source knows."""

    name: str
    description: str = ""
    columns: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    unit: str = ""
    horizon: int | None = None


def convert(source: Source, path: Path, labels: Labels) -> Report:
    """Write a model file, after its numbers were found equal to the network's, and say by how much.

    Raises VerificationError, with nothing written, where they are not.
    """
    model = build_model(source)
    manifest.attach(model, describe(source, labels), source.statistics)
    with replacing(path) as temporary:
        onnx.save(model, temporary)
        report = verify(temporary, against=source.forecaster)
        if not report.passed:
            raise VerificationError(
                f"{path} was not written, because its numbers differ from the network's: "
                f"{report.failure()}"
            )
    return report


def build_model(source: Source) -> onnx.ModelProto:
    """Return the ONNX model of a network, without a manifest."""
    a = source.forecaster.architecture
    weights = {name: t.detach().numpy() for name, t in source.forecaster.state_dict().items()}
    g = GraphBuilder()
    x = g.input(INPUT, [TIME, BATCH, a.features])
    lengths = g.input(LENGTHS, [BATCH], dtype=onnx.TensorProto.INT32)
    g.output(OUTPUT, [TIME, BATCH, a.width])
    for state in states(a):
        g.input(state.name, [BATCH, *state.shape])
        g.output(state.output, [BATCH, *state.shape])
    signal = x
    if a.targets is not None:
        new = (out(PREVIOUS), out(SEEN))
        signal = g.differences(x, lengths, a.features, (PREVIOUS, SEEN), new)
    top = _normalise(g, signal, weights)
    for layer in range(a.layers):
        h, c = hidden_name(layer), cell_name(layer)
        names = (f"layer{layer}", out(h), out(c))
        top = g.lstm(top, (h, c), lengths, _layer_weights(weights, layer), names)
    _answer(g, x, top, weights, a)
    return g.model("carousel_forecaster", ("carousel-export", __version__))


def states(architecture: Architecture) -> list[manifest_pb2.StateSpec]:
    """Describe what a network carries from step to step."""
    described: list[tuple[str, int, str]] = []
    if architecture.targets is not None:
        described += [
            (PREVIOUS, architecture.features, "the last input, to take changes from"),
            (SEEN, 1, "whether there was an input yet, 0 or 1"),
        ]
    for layer in range(architecture.layers):
        described += [
            (hidden_name(layer), architecture.hidden, f"hidden state of layer {layer}"),
            (cell_name(layer), architecture.hidden, f"cell state of layer {layer}"),
        ]
    return [
        manifest_pb2.StateSpec(
            name=name,
            output=out(name),
            dtype=tensor_pb2.DATA_TYPE_FLOAT32,
            shape=[size],
            description=description,
        )
        for name, size, description in described
    ]


def out(state: str) -> str:
    """Return the name of the output that holds a state after the run."""
    return f"{state}_out"


def describe(source: Source, labels: Labels) -> manifest_pb2.ModelManifest:
    """Return the manifest. Raises SettingsError where columns and sizes don't fit."""
    a = source.forecaster.architecture
    columns = _columns("--columns", labels.columns or source.columns, a.features)
    answers = _columns("--answers", labels.answers or source.answers, a.width)
    horizon = source.horizon if labels.horizon is None else labels.horizon
    if source.horizon not in {0, horizon}:
        raise SettingsError(
            f"The network was trained to look {steps(source.horizon)} ahead: --horizon {horizon} "
            "would be untrue."
        )
    unit = labels.unit or source.unit
    versions = {
        "carousel-export": __version__,
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
    }
    return manifest_pb2.ModelManifest(
        format=MANIFEST_FORMAT,
        name=labels.name,
        description=labels.description or _sentence(columns, answers, horizon),
        form=manifest_pb2.MODEL_FORM_SEQUENCE,
        inputs=[
            manifest_pb2.TensorSpec(
                name=INPUT,
                dtype=tensor_pb2.DATA_TYPE_FLOAT32,
                shape=[a.features],
                columns=columns,
                # A unit stands for all columns: it is the answers', so the inputs have it where
                # they are the same columns.
                unit=unit if set(columns) == set(answers) else "",
                description="one observation",
            )
        ],
        outputs=[
            manifest_pb2.TensorSpec(
                name=OUTPUT,
                dtype=tensor_pb2.DATA_TYPE_FLOAT32,
                shape=[a.width],
                columns=answers,
                unit=unit,
                description=f"forecast {steps(horizon)} ahead" if horizon else "answer to the step",
            )
        ],
        states=states(a),
        sequence_lens=LENGTHS,
        horizon=horizon,
        provenance=source.provenance | versions,
    )


def _sentence(columns: Sequence[str], answers: Sequence[str], horizon: int) -> str:
    if not (horizon and answers):
        return ""
    return f"Forecasts {', '.join(answers)} {steps(horizon)} ahead from {', '.join(columns)}."


def _columns(option: str, names: Sequence[str], size: int) -> list[str]:
    if names and len(names) != size:
        raise SettingsError(f"{option} must name {counted(size, 'column')}, not {len(names)}.")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise SettingsError(f"{option} names {twice!r} twice; give each column a name of its own.")
    return list(names)


def _layer_weights(
    weights: dict[str, np.ndarray], layer: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return W (4H, F), R (4H, H) and the biases Wb and Rb end to end (8H,), in ONNX's order."""
    W, R = (onnx_gates(weights[f"lstm.weight_{kind}_l{layer}"]) for kind in ("ih", "hh"))
    if f"lstm.bias_ih_l{layer}" not in weights:
        return W, R, None
    biases = [onnx_gates(weights[f"lstm.bias_{kind}_l{layer}"]) for kind in ("ih", "hh")]
    return W, R, np.concatenate(biases)


def _normalise(g: GraphBuilder, signal: str, weights: dict[str, np.ndarray]) -> str:
    if _is_neutral(weights, "input"):
        return signal
    mean = g.constant("input_mean", weights["input_mean"])
    scale = g.constant("input_scale", weights["input_scale"])
    return g.node("Div", [g.node("Sub", [signal, mean], "centred"), scale], "normalised")


def _answer(
    g: GraphBuilder, x: str, top: str, weights: dict[str, np.ndarray], a: Architecture
) -> None:
    """Add the head, (T, B, H) to (T, B, O), and bring its answer back to plain units."""
    operations: list[tuple[str, str]] = []
    if a.outputs:
        operations.append(("MatMul", g.constant("head.W", weights["head.weight"].T)))
    if a.outputs and a.head_bias:
        operations.append(("Add", g.constant("head.b", weights["head.bias"])))
    if not _is_neutral(weights, "output"):
        operations.append(("Mul", g.constant("output_scale", weights["output_scale"])))
        operations.append(("Add", g.constant("output_mean", weights["output_mean"])))
    if a.targets is not None:
        places = g.constant("targets", a.targets, np.int64)
        now = g.node("Gather", [x, places], "target_now", axis=2)  # (T, B, O)
        operations.append(("Add", now))
    for place, (operator, operand) in enumerate(operations[:-1]):
        top = g.node(operator, [top, operand], f"answer{place}")
    last = operations[-1] if operations else ("Identity", "")
    g.node(last[0], [name for name in (top, last[1]) if name], OUTPUT)


def _is_neutral(weights: dict[str, np.ndarray], side: str) -> bool:
    """Tell whether a normalisation changes nothing."""
    return bool((weights[f"{side}_mean"] == 0).all() and (weights[f"{side}_scale"] == 1).all())
