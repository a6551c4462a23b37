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
from carousel_exporter.checkpoint import CLASSIFY, TEXT
from carousel_exporter.errors import SettingsError, VerificationError
from carousel_exporter.files import replacing
from carousel_exporter.graph import BATCH, TIME, GraphBuilder
from carousel_exporter.layers import Layer, Weights, add_layer, out
from carousel_exporter.network import PREVIOUS, SEEN, Architecture
from carousel_exporter.source import Source
from carousel_exporter.verification import Report, verify
from carousel_exporter.wording import counted, steps

INPUT = "x"
LENGTHS = "sequence_lens"
#: The axis of operators that act along one: the classes' and the columns', of (T, B, O).
_AXES = {"Split": {"axis": 2}, "LogSoftmax": {"axis": 2}}


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
        report = verify(temporary, against=source.network)
        if not report.passed:
            raise VerificationError(
                f"{path} was not written, because its numbers differ from the network's: "
                f"{report.failure()}"
            )
    return report


def build_model(source: Source) -> onnx.ModelProto:
    """Return the ONNX model of a network, without a manifest."""
    a = source.network.architecture
    weights = {name: t.detach().numpy() for name, t in source.network.state_dict().items()}
    g = GraphBuilder()
    dtype = onnx.TensorProto.INT64 if a.vocabulary else onnx.TensorProto.FLOAT
    x = g.input(INPUT, [TIME, BATCH, *_input_shape(a)], dtype=dtype)
    lengths = g.input(LENGTHS, [BATCH], dtype=onnx.TensorProto.INT32)
    for name, width in a.parts.items():
        g.output(name, [TIME, BATCH, width])
    for state in states(a):
        g.input(state.name, [BATCH, *state.shape])
        g.output(state.output, [BATCH, *state.shape])
    signal = x
    if a.targets is not None:
        new = (out(PREVIOUS), out(SEEN))
        signal = g.differences(x, lengths, a.features, (PREVIOUS, SEEN), new)
    if a.vocabulary:
        table = g.constant("embedding", weights["embedding.weight"])  # (V, F)
        signal = g.node("Gather", [table, x], "embedded", axis=0)  # (T, B) → (T, B, F)
    top = _normalise(g, signal, weights)
    for layer in range(a.layers):
        top = add_layer(g, Layer(a, weights, layer), top, lengths)
        top = _normalise_layer(g, layer, top, weights)
    _answer(g, x, top, weights, a)
    return g.model("carousel_network", ("carousel-export", __version__))


def states(architecture: Architecture) -> list[manifest_pb2.StateSpec]:
    """Describe what a network carries from step to step."""
    return [
        manifest_pb2.StateSpec(
            name=name,
            output=out(name),
            dtype=tensor_pb2.DATA_TYPE_FLOAT32,
            shape=[size],
            description=_meaning(name),
        )
        for name, size in architecture.state_sizes().items()
    ]


def _meaning(state: str) -> str:
    if state == PREVIOUS:
        return "the last input, to take changes from"
    if state == SEEN:
        return "whether there was an input yet, 0 or 1"
    return f"{'hidden' if state[0] == 'h' else 'cell'} state of layer {state[1:]}"


def _input_shape(a: Architecture) -> list[int]:
    return [] if a.vocabulary else [a.features]


def describe(source: Source, labels: Labels) -> manifest_pb2.ModelManifest:
    """Return the manifest. Raises SettingsError where columns and sizes don't fit."""
    a = source.network.architecture
    if a.vocabulary and labels.columns:
        raise SettingsError("--columns names columns, and the input is one token id a step.")
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
        description=labels.description or _sentence(source, columns, answers, horizon),
        form=manifest_pb2.MODEL_FORM_SEQUENCE,
        # A unit stands for all columns: it is the answers', so the inputs have it where they are
        # the same columns.
        inputs=[_input(source, columns, unit if columns and set(columns) == set(answers) else "")],
        outputs=_outputs(source, answers, unit, horizon),
        states=states(a),
        sequence_lens=LENGTHS,
        horizon=horizon,
        provenance=source.provenance | versions,
    )


def _input(source: Source, columns: list[str], unit: str) -> manifest_pb2.TensorSpec:
    a = source.network.architecture
    if a.vocabulary:
        return manifest_pb2.TensorSpec(
            name=INPUT,
            dtype=tensor_pb2.DATA_TYPE_INT64,
            minimum=0,
            maximum=a.vocabulary - 1,
            symbols=source.symbols,
            description="one character" if source.task == TEXT else "one token id",
        )
    return manifest_pb2.TensorSpec(
        name=INPUT,
        dtype=tensor_pb2.DATA_TYPE_FLOAT32,
        shape=_input_shape(a),
        columns=columns,
        unit=unit,
        description="one observation",
    )


def _outputs(
    source: Source, answers: list[str], unit: str, horizon: int
) -> list[manifest_pb2.TensorSpec]:
    a = source.network.architecture
    specs, start = [], 0
    content = manifest_pb2.TENSOR_CONTENT_UNSPECIFIED
    if a.log_probabilities:
        content = manifest_pb2.TENSOR_CONTENT_LOG_PROBABILITIES
    for name, width in a.parts.items():
        specs.append(
            manifest_pb2.TensorSpec(
                name=name,
                dtype=tensor_pb2.DATA_TYPE_FLOAT32,
                shape=[width],
                columns=answers[start : start + width],
                unit=unit,
                description=_answers(source.task, horizon),
                content=content,
            )
        )
        start += width
    return specs


def _answers(task: str, horizon: int) -> str:
    """Say what an answer is, for people."""
    if task == TEXT:
        return "log-probability of each next character"
    if task == CLASSIFY:
        return "log-probability of each class"
    return f"forecast {steps(horizon)} ahead" if horizon else "answer to the step"


def label(manifest: manifest_pb2.ModelManifest, labels: Labels) -> None:
    """Put what a person says into a manifest that is there. Raises SettingsError as `describe`."""
    manifest.name = labels.name
    manifest.description = labels.description or manifest.description
    manifest.horizon = labels.horizon or manifest.horizon
    sides = (
        ("--columns", labels.columns, manifest.inputs),
        ("--answers", labels.answers, manifest.outputs),
    )
    for option, names, specs in sides:
        if not names:
            continue
        widths = [spec.shape[-1] if spec.shape else 0 for spec in specs]
        left = _columns(option, names, sum(widths))
        for spec, width in zip(specs, widths, strict=True):
            spec.columns[:] = left[:width]
            left = left[width:]
    for spec in manifest.outputs:
        spec.unit = labels.unit or spec.unit


def _sentence(source: Source, columns: Sequence[str], answers: Sequence[str], horizon: int) -> str:
    if source.task == TEXT:
        return f"Goes on with a text, a character at a time; it knows {len(answers)} of them."
    if source.task == CLASSIFY:
        return f"Tells {counted(len(answers), 'class')} apart from {', '.join(columns)}."
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


def _normalise_layer(g: GraphBuilder, layer: int, top: str, weights: Weights) -> str:
    """Add the normalisation of a layer's answer, (T, B, H), where there is one."""
    keys = [f"norms.{layer}.{kind}" for kind in ("weight", "bias")]
    if keys[0] not in weights:
        return top
    constants = [
        g.constant(f"layer{layer}.norm.{key.rpartition('.')[2]}", weights[key]) for key in keys
    ]
    return g.node("LayerNormalization", [top, *constants], f"layer{layer}.norm", axis=-1)


def _normalise(g: GraphBuilder, signal: str, weights: Weights) -> str:
    if _is_neutral(weights, "input"):
        return signal
    mean = g.constant("input_mean", weights["input_mean"])
    scale = g.constant("input_scale", weights["input_scale"])
    return g.node("Div", [g.node("Sub", [signal, mean], "centred"), scale], "normalised")


def _answer(g: GraphBuilder, x: str, top: str, weights: Weights, a: Architecture) -> None:
    """Add the head, (T, B, H) to (T, B, O), bring its answer to plain units, and cut it up."""
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
    if a.log_probabilities:
        operations.append(("LogSoftmax", ""))
    if len(a.parts) > 1:
        operations.append(("Split", g.constant("parts", list(a.parts.values()), np.int64)))
    for place, (operator, operand) in enumerate(operations[:-1]):
        inputs = [name for name in (top, operand) if name]
        top = g.node(operator, inputs, f"answer{place}", **_AXES.get(operator, {}))
    last, operand = operations[-1] if operations else ("Identity", "")
    taken = next((name for name in a.parts if g.has(name)), None)
    if taken is not None:
        raise SettingsError(
            f"A head can't be called {taken!r}, which is the name of something else in a model "
            "file: choose another with --map OLD=head.NAME."
        )
    inputs = [name for name in (top, operand) if name]
    g.nodes(last, inputs, list(a.parts), name=next(iter(a.parts)), **_AXES.get(last, {}))


def _is_neutral(weights: Weights, side: str) -> bool:
    """Tell whether a normalisation changes nothing."""
    return bool((weights[f"{side}_mean"] == 0).all() and (weights[f"{side}_scale"] == 1).all())
