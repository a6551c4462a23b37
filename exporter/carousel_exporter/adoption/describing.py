"""The manifest of an adopted file, and the proposal in a person's terms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from carousel.v1 import manifest_pb2, tensor_pb2
from carousel.wire import DATA_TYPES, MANIFEST_FORMAT
from carousel_exporter import __version__
from carousel_exporter.adoption.axes import Axes
from carousel_exporter.adoption.bounds import Values
from carousel_exporter.adoption.canonical import Canonical
from carousel_exporter.adoption.finding import Finding
from carousel_exporter.adoption.machine import Wiring
from carousel_exporter.adoption.options import StatePair, command_line
from carousel_exporter.adoption.preparing import Case
from carousel_exporter.adoption.report import Pair, Proposal, TensorAxes
from carousel_exporter.errors import SettingsError
from carousel_exporter.graph import BATCH, TIME
from carousel_exporter.wording import tiny

Dtypes = Mapping[str, np.dtype[np.generic]]


def propose(
    case: Case, found: Finding, wiring: Wiring, manifest: manifest_pb2.ModelManifest, out: Path
) -> Proposal:
    """Say what every tensor of the original is taken for, and what clients send and get."""
    steps = {spec.name: tuple(spec.shape) for spec in (*manifest.inputs, *manifest.outputs)}
    # A graph without other answers answers with a state, under a name of its own.
    answers = {f"{o}_answer": (wiring.states[i], o) for i, o in wiring.successors.items()}
    outputs = {name: (axes, name) for name, axes in wiring.outputs.items()}
    outputs |= {name: answer for name, answer in answers.items() if name in steps}
    options = case.options
    pairs = tuple(
        Pair(
            pair.input,
            pair.output,
            found.dtypes[pair.input].name,
            wiring.states[pair.input].shape(1, 1),
            wiring.states[pair.input].batch,
            _evidence(found, pair.reasons),
        )
        for pair in found.pairs
    )
    states = [StatePair(pair.input, pair.output, pair.batch_axis) for pair in pairs]
    sizes = (*options.sizes, *found.layout.sizes)
    return Proposal(
        pairs,
        tuple(_axes(n, axes, found.dtypes[n], steps) for n, axes in wiring.inputs.items()),
        tuple(_axes(n, axes, case.output_dtypes[o], steps) for n, (axes, o) in outputs.items()),
        "sequence" if wiring.free_time else "step",
        not options.states or bool(found.layout.sizes),
        (*found.notes, *_rowless(wiring)),
        command_line(case.original.path, out, states=states, sizes=sizes, options=options),
    )


def describe(
    case: Case, canonical: Canonical, dtypes: Dtypes, initial: Mapping[str, np.ndarray]
) -> manifest_pb2.ModelManifest:
    """Return the manifest. `max_batch` is left at 0, for any number of rows."""
    original, options, values = case.original, case.options, case.finder.values
    form = manifest_pb2.MODEL_FORM_SEQUENCE if canonical.time else manifest_pb2.MODEL_FORM_STEP
    return manifest_pb2.ModelManifest(
        format=MANIFEST_FORMAT,
        name=options.name or original.path.stem,
        description=options.description,
        form=form,
        inputs=[_input(n, shape, dtypes[n], values) for n, shape in canonical.inputs.items()],
        outputs=[
            manifest_pb2.TensorSpec(name=n, dtype=_code(_output_dtype(canonical, n)), shape=shape)
            for n, shape in canonical.outputs.items()
        ],
        states=[
            manifest_pb2.StateSpec(
                name=state.name,
                output=state.output,
                dtype=_code(dtypes[state.source]),
                shape=state.shape,
                initial=initial[state.name].tobytes() if state.name in initial else b"",
                description=f"the end of the previous {state.source!r}" if state.is_context else "",
            )
            for state in canonical.states
        ],
        sequence_lens=canonical.lengths,
        provenance={
            "source": original.path.name,
            "source_sha256": original.sha256,
            "source_opset": str(original.opset),
            "source_producer": original.model.producer_name or "not stated",
            "carousel-export": __version__,
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
        },
    )


def initial_states(
    canonical: Canonical, wiring: Wiring, dtypes: Dtypes, given: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return the states (without B) that new sessions begin with, where others than zeros are.

    Arrays are given in the original's shape with one row, or without the batch axis. Raises
    SettingsError where one fits neither.
    """
    result = {}
    for name, array in given.items():
        state = next((s for s in canonical.states if name in {s.name, s.source}), None)
        if state is None:
            told = ", ".join(repr(s.source) for s in canonical.states)
            raise SettingsError(f"--init names {name!r}, and the states are {told}.")
        dtype = dtypes[state.source]
        axes = None if state.is_context else wiring.states[state.source]
        cast = array.astype(dtype.newbyteorder("<"))
        if axes is not None and array.shape == axes.shape(1, 1):
            cast = axes.canonical(cast)[0, 0]
        if cast.shape != state.shape:
            raise SettingsError(
                f"--init gives {name!r} the shape {list(array.shape)}, and a state of one row has "
                f"{list(state.shape)}."
            )
        if not np.isfinite(cast.astype(np.float64)).all():
            raise SettingsError(f"--init gives {name!r} values that are not finite.")
        result[state.name] = np.ascontiguousarray(cast)
    return result


def _rowless(wiring: Wiring) -> Iterator[str]:
    """Say of inputs without an axis of rows what that means."""
    for name, axes in wiring.inputs.items():
        if axes.batch is None:
            yield (
                f"no axis of {name!r} can count rows: a session holds all of it, and runs alone."
            )


def _evidence(found: Finding, reasons: Sequence[str]) -> tuple[str, ...]:
    if found.chunked is None:
        return tuple(reasons)
    fed, forgotten = found.chunked.fed_back, found.chunked.forgotten
    proved = (
        f"chunks equal the whole sequence: off by {tiny(fed.value)}, and by "
        f"{tiny(forgotten.value)} without feeding back"
    )
    return (proved, *reasons)


def _axes(
    name: str, axes: Axes, dtype: np.dtype[np.generic], steps: Mapping[str, tuple[int, ...]]
) -> TensorAxes:
    letters: dict[int | None, str] = {axes.time: TIME, axes.batch: BATCH}
    shape = tuple(letters.get(axis, size) for axis, size in enumerate(axes.dims))
    step = steps.get(name, axes.step)
    return TensorAxes(name, dtype.name, shape, axes.batch, axes.time, step)


def _input(
    name: str, shape: Sequence[int], dtype: np.dtype[np.generic], values: Values
) -> manifest_pb2.TensorSpec:
    spec = manifest_pb2.TensorSpec(name=name, dtype=_code(dtype), shape=shape)
    bounds = values.bounds(name) if dtype.kind in "iu" else None
    if bounds is not None:
        spec.minimum, spec.maximum = bounds
    return spec


def _output_dtype(canonical: Canonical, name: str) -> np.dtype[np.generic]:
    value = next(v for v in canonical.model.graph.output if v.name == name)
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))


def _code(dtype: np.dtype[np.generic]) -> tensor_pb2.DataType.ValueType:
    return DATA_TYPES[dtype.newbyteorder("<").str]
