"""Half precision: what is kept in 16 bits, and that it doesn't matter where a run ends."""

import numpy as np
import pytest

from carousel.v1 import tensor_pb2
from carousel_exporter.manifest import attach, load_model, read_manifest
from carousel_exporter.precision.half import halve
from carousel_exporter.verification import verify
from tests.exporter.builders import make_model, make_network
from tests.exporter.precision.graphs import KINDS, answers, make, runner, save, sessions

HALF = tensor_pb2.DATA_TYPE_FLOAT16


def halved(model, path, **options):
    manifest = read_manifest(model, path)
    result = halve(model, manifest, **options)
    attach(model, manifest, {})
    return save(model, path), result, manifest


@pytest.mark.parametrize("kind", KINDS)
def test_states_are_rounded_at_every_step_not_at_the_end_of_runs(tmp_path, kind):
    before, _ = answers(save(make(kind), tmp_path / "a.onnx"), sessions(4, 60))
    path, result, manifest = halved(make(kind), tmp_path / "b.onnx")
    assert {spec.dtype for spec in manifest.states} == {HALF}
    assert not result.left
    after, states = answers(path, sessions(4, 60))
    assert after[0].dtype == np.float32
    assert states[0]["h0"].dtype == np.float16
    assert 0 < np.abs(np.stack(after) - np.stack(before)).max() < 5e-3
    one = runner(path)
    stepped, state = [], one.new_state()
    for step in range(60):
        chunk = {"x": sessions(4, 60)[0]["x"][step : step + 1]}
        (answer,), (state,) = one.advance([chunk], [state])
        stepped.append(answer["y"])
    np.testing.assert_allclose(np.concatenate(stepped), after[0], rtol=0, atol=1e-6)
    report = verify(path, rows=7, steps=100)
    assert report.passed, report.failure()


def test_weights_alone(tmp_path):
    one = save(make("lstm"), tmp_path / "a.onnx")
    path, result, manifest = halved(make("lstm"), tmp_path / "b.onnx", keep_states=True)
    assert {spec.dtype for spec in manifest.states} == {tensor_pb2.DATA_TYPE_FLOAT32}
    assert not result.states
    assert path.stat().st_size < 0.55 * one.stat().st_size
    assert verify(path).passed


def test_a_state_that_holds_inputs_keeps_its_digits(tmp_path):
    """A network that sees changes carries the last input: 371.5 has no tenths in 16 bits."""
    path = make_model(tmp_path / "m.onnx", make_network(hidden=16, targets=(0,)))
    model = runner(path)
    _, result, manifest = halved(load_model(path), tmp_path / "half.onnx")
    kept = {s.name for s in manifest.states if s.dtype != HALF}
    assert kept == {"previous", "seen"} == set(result.left)
    assert {s.name for s in model.manifest.states} - kept == set(result.states)


def test_a_weight_beyond_half_precision_stays(tmp_path):
    model = make("gru")
    tensor = next(t for t in model.graph.initializer if t.name == "W0")
    array = np.frombuffer(tensor.raw_data, np.float32).copy()
    array[0] = 1e5
    tensor.raw_data = array.tobytes()
    _, result, _ = halved(model, tmp_path / "m.onnx")
    assert result.left == {"W0": "it holds a value beyond float16"}


def test_first_values_are_rounded_too(tmp_path):
    model = make("gru")
    manifest = read_manifest(model, tmp_path)
    manifest.states[0].initial = np.full(32, 0.1, np.float32).tobytes()
    attach(model, manifest, {})
    path, _, _ = halved(model, tmp_path / "m.onnx")
    assert (runner(path).new_state()["h0"] == np.float16(0.1)).all()
