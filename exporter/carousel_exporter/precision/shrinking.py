"""From a model file to a smaller one, written only after it was proved."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnx.version_converter
import onnxruntime

from carousel.v1 import manifest_pb2
from carousel_exporter import __version__
from carousel_exporter.adoption.batching import try_batches
from carousel_exporter.adoption.graphs import opset_of
from carousel_exporter.errors import (
    ExporterError,
    ModelFileError,
    SettingsError,
    VerificationError,
)
from carousel_exporter.files import check_other, check_writable, replacing
from carousel_exporter.graph import OPSET
from carousel_exporter.manifest import (
    attach,
    check_whole,
    load_model,
    read_manifest,
    read_statistics,
)
from carousel_exporter.precision import comparing, measuring
from carousel_exporter.precision.cells import WrittenStep
from carousel_exporter.precision.constants import gather_constants
from carousel_exporter.precision.half import halve
from carousel_exporter.precision.integers import quantise
from carousel_exporter.precision.report import Bound, Precision, Scales, ShrinkReport
from carousel_exporter.precision.unrolling import unroll
from carousel_exporter.runner import Arrays, Runner
from carousel_exporter.verification import verify
from carousel_exporter.wording import first_line

Say = Callable[[str], None]

#: Sessions and steps that are cut and batched in every way; a rounding that depends on either
#: shows within some hundreds of steps.
_ROWS, _STEPS = 7, 200
_PRECISION = "precision"
#: The first in which the axes of Squeeze, Unsqueeze and Split are inputs.
_OPSET = 13
#: So many reasons fit into a sentence.
_REASONS = 2


@dataclass(frozen=True)
class Request:
    """What is asked for; `keep_states` leaves states in float32, with `float16` alone."""

    precision: Precision
    keep_states: bool = False
    data: Path | None = None
    samples: Arrays = field(default_factory=dict)
    accept_error: bool = False
    seed: int = 0


@dataclass(frozen=True)
class _File:
    """A model file, read."""

    path: Path
    model: onnx.ModelProto
    manifest: manifest_pb2.ModelManifest

    @classmethod
    def read(cls, path: Path) -> _File:
        model = load_model(path)
        check_whole(model, path)
        return cls(path, model, read_manifest(model, path))


@dataclass(frozen=True)
class _Rewritten:
    """What changed, and why the rest did not."""

    changed: list[str]
    left: dict[str, str]


def shrink(path: Path, out: Path, request: Request, say: Say = lambda _: None) -> ShrinkReport:
    """Write a model file in lower precision to `out`, after its numbers were found good.

    Raises ExporterError, with nothing written, where nothing would become smaller, where rows of a
    run would change one another's answers, where it would matter how a sequence is cut, and where
    the error is above the bound and not accepted.
    """
    check_writable(out)
    check_other(out, path, "shrunk")
    original = _File.read(path)
    _check_untouched(original)
    with TemporaryDirectory() as folder:
        made = Path(folder) / "model.onnx"
        report = _best(original, made, request, say)
        if not report.within_bound and not request.accept_error:
            raise VerificationError(_too_far(out, report))
        content = made.read_bytes()
    with replacing(out) as temporary:
        temporary.write_bytes(content)
    return report


def _best(original: _File, made: Path, request: Request, say: Say) -> ShrinkReport:
    """Write the first way of rewriting that is exact enough to `made`, or else the last one."""
    ways = [Scales.FIXED, Scales.BY_ROW] if request.precision == Precision.INT8 else [Scales.NONE]
    for scales in ways:
        say("rewriting")
        rewritten = _write(original, made, request, scales)
        new = _File.read(made)
        report = _prove(original, new, request, rewritten, say)
        if report.within_bound:
            break
    say("measuring")
    pair = ((original.path, original.manifest), (made, new.manifest))
    rng = np.random.default_rng(request.seed)
    speeds = measuring.measure(*pair, read_statistics(original.model), rng)
    return replace(report, scales=scales, speeds=tuple(speeds))


def _write(original: _File, made: Path, request: Request, scales: Scales) -> _Rewritten:
    model, manifest = _raised(original), manifest_pb2.ModelManifest()
    gather_constants(model)
    manifest.CopyFrom(original.manifest)
    rewritten = _rewrite(model, manifest, request, scales)
    if not rewritten.changed:
        raise ExporterError(_nothing(original.path, request, rewritten))
    manifest.provenance.update(_provenance(original.path, request))
    attach(model, manifest, read_statistics(original.model))
    onnx.save(model, made)
    return rewritten


def _nothing(path: Path, request: Request, rewritten: _Rewritten) -> str:
    reasons = [f"{name}: {why}" for name, why in rewritten.left.items()][:_REASONS]
    told = f" ({'; '.join(reasons)})" if reasons else ""
    return f"{path} has nothing that --{request.precision} can make smaller{told}."


def _raised(original: _File) -> onnx.ModelProto:
    """Return a copy of the model, of an opset in which axes are inputs, as we write them."""
    if opset_of(original.model) < _OPSET:
        try:
            return onnx.version_converter.convert_version(original.model, OPSET)
        except Exception as error:  # the converter's have no base of their own
            raise ModelFileError(
                f"{original.path} has opset {opset_of(original.model)}, and can't be brought to "
                f"{OPSET}: {first_line(error)}."
            ) from error
    model = onnx.ModelProto()
    model.CopyFrom(original.model)
    return model


def _check_untouched(original: _File) -> None:
    kept = original.manifest.provenance.get(_PRECISION)
    if kept:
        raise SettingsError(
            f"{original.path} is in {kept} already: shrink the float32 file that it came from."
        )


def _rewrite(
    model: onnx.ModelProto,
    manifest: manifest_pb2.ModelManifest,
    request: Request,
    scales: Scales,
) -> _Rewritten:
    """Change a model and its manifest in place."""
    if request.precision == Precision.FLOAT16:
        halved = halve(model, manifest, keep_states=request.keep_states)
        changed = [*(f"weights {name}" for name in halved.weights)]
        return _Rewritten(changed + [f"state {name}" for name in halved.states], halved.left)
    if request.keep_states:
        raise SettingsError("--keep-states is for --float16: --int8 leaves states in float32.")
    fixed = scales == Scales.FIXED and _begins_within_1(manifest)
    unrolled = unroll(model, WrittenStep, trust_states=fixed)
    quantised = quantise(model, unrolled.bounded)
    return _Rewritten(quantised.products, unrolled.left | quantised.left)


def _begins_within_1(manifest: manifest_pb2.ModelManifest) -> bool:
    """Tell whether every state that a manifest carries lies between -1 and 1."""
    floats = (np.frombuffer(s.initial, "<f4") for s in manifest.states if len(s.initial) % 4 == 0)
    return all((np.abs(values) <= 1).all() for values in floats)


def _provenance(path: Path, request: Request) -> Mapping[str, str]:
    found = {
        _PRECISION: str(request.precision),
        "shrunk_from": path.name,
        "shrunk_from_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "shrunk_by": f"carousel-export {__version__}, onnxruntime {onnxruntime.__version__}",
    }
    return found | ({"states": "float32"} if request.keep_states else {})


def _prove(
    original: _File, made: _File, request: Request, rewritten: _Rewritten, say: Say
) -> ShrinkReport:
    """Run the new file in every way that must not matter, and beside the old one."""
    rng = np.random.default_rng(request.seed)
    statistics = read_statistics(original.model)
    before, after = Runner(original.path, original.manifest), Runner(made.path, made.manifest)
    manifest = original.manifest
    sessions, told = comparing.streams(manifest, statistics, request.data, request.samples, rng)
    say("cutting and batching")
    checks = verify(made.path, rows=_ROWS, steps=_STEPS, seed=request.seed)
    if not checks.passed:
        raise VerificationError(f"Nothing was written: {checks.failure()}")
    batching = "one row a run"
    if manifest.max_batch != 1:
        verdict = try_batches(
            after, statistics, sessions[0] if request.data or request.samples else {}, rng
        )
        batching = verdict.told
        if not verdict.works:
            raise VerificationError(
                f"Nothing was written, because rows would change one another: {batching}."
            )
    say("comparing")
    errors = comparing.compare(before, after, sessions)
    return ShrinkReport(
        precision=request.precision,
        changed=tuple(rewritten.changed),
        left=rewritten.left,
        file_bytes=(original.path.stat().st_size, made.path.stat().st_size),
        state_bytes=(
            measuring.state_bytes(manifest),
            measuring.state_bytes(made.manifest),
        ),
        errors=tuple(errors),
        inputs=told,
        bound=Bound.of(request.precision),
        scales=Scales.NONE,
        speeds=(),
        checks=checks,
        batching=batching,
    )


def _too_far(out: Path, report: ShrinkReport) -> str:
    worst = max(report.errors, key=lambda error: error.worst)
    return (
        f"{out} was not written: {worst.output!r} is off by {worst.worst:.2%} of its spread in the "
        f"worst quarter of the streams, and {report.bound.value:.0%} is taken without being asked; "
        "if that is good enough, say --accept-error."
    )
