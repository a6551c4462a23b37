import numpy as np
import onnx
import pytest

from carousel_exporter.driving import random_cuts
from carousel_exporter.equality import TOLERANCE, compare, difference
from carousel_exporter.errors import ModelFileError, SettingsError
from carousel_exporter.manifest import load_model, read_manifest
from carousel_exporter.samples import random_rows, real_rows
from carousel_exporter.verification import verify

from . import mutants
from .builders import make_model, make_network, make_series, write_csv


@pytest.fixture(scope="module")
def network():
    return make_network(features=2, hidden=8, targets=(0,))


@pytest.fixture
def model(network, tmp_path):
    return make_model(tmp_path / "m.onnx", network)


def failures(report):
    return {check.name for check in report.checks if not check.passed}


BATCHED = {"all rows in one batch", "ragged batches, random order"}
CUT = {"one step at a time", "random chunks"}


def test_a_right_file_passes(model, network):
    report = verify(model, against=network)
    assert report.passed
    assert not report.notes
    assert len(report.checks) == 5


@pytest.mark.parametrize(
    ("fault", "caught_by"),
    [
        (mutants.leak_rows, BATCHED),
        (mutants.ignore_lengths, {"ragged batches, random order"}),
        (mutants.keep_last_padded, {"ragged batches, random order"}),
        (mutants.swap_states, CUT),
        (mutants.forget_state, CUT),
        (mutants.spoil, BATCHED | CUT),
    ],
)
def test_each_fault_is_caught_without_pytorch(model, fault, caught_by):
    report = verify(mutants.mutate(model, fault))
    assert caught_by <= failures(report)
    assert not report.passed
    assert report.failure()


def test_permuted_gates_are_caught_against_pytorch_alone(model, network):
    mutant = mutants.mutate(model, mutants.permute_gates)
    assert verify(mutant).passed  # it is a sound network, but not the one that was trained
    assert failures(verify(mutant, against=network)) == {"PyTorch"}


def test_numbers_that_are_not_finite_fail_wherever_they_are(model):
    report = verify(mutants.mutate(model, mutants.spoil))
    assert all(check.outputs.value == float("inf") for check in report.checks)
    assert "'y'" in report.failure()


def test_two_wrong_answers_that_are_both_not_finite_are_not_equal():
    nan = np.float32([np.nan])
    assert difference("y", nan, nan, 1.0).excess == float("inf")
    inf = np.float32([np.inf])
    assert difference("y", inf, inf, 1.0).excess == float("inf")


@pytest.mark.parametrize(
    ("reference", "value", "passes"),
    [
        (np.float32([0]), np.float32([0.9e-5]), True),
        (np.float32([0]), np.float32([1.1e-5]), False),
        (np.float32([1000]), np.float32([1000.009]), True),
        (np.float32([1000]), np.float32([1000.02]), False),
        (np.int64([3]), np.int64([3]), True),
        (np.int64([3]), np.int64([4]), False),
        (np.float16([1]), np.float16([1.005]), True),
        (np.float64([1]), np.float64([1 + 1e-9]), False),
    ],
)
def test_equal_is_relative_above_one_and_exact_for_integers(reference, value, passes):
    assert (difference("y", reference, value, 1.0).excess <= 1) == passes


def test_a_step_of_a_chunk_counts_not_only_the_last():
    good, bad = np.zeros((4, 1), np.float32), np.zeros((4, 1), np.float32)
    bad[1] = 1
    check = compare("c", [({"y": good}, {})], [({"y": bad}, {})], {})
    assert not check.passed
    assert check.states is None


def test_the_step_form_is_run_from_its_manifest_alone(tmp_path):
    report = verify(mutants.step_model(tmp_path / "s.onnx"))
    assert report.passed
    assert any("one step a run" in note for note in report.notes)


def test_leaking_rows_are_caught_in_the_step_form(tmp_path):
    report = verify(mutants.step_model(tmp_path / "s.onnx", leaky=True))
    assert failures(report) == BATCHED


def test_max_batch_of_one_keeps_rows_apart(tmp_path):
    report = verify(mutants.step_model(tmp_path / "s.onnx", leaky=True, max_batch=1))
    assert report.passed
    assert {check.name for check in report.checks} == CUT
    assert any("max_batch is 1" in note for note in report.notes)


def test_a_graph_without_lengths_is_batched_by_length(tmp_path):
    report = verify(mutants.rigid_model(tmp_path / "r.onnx"))
    assert report.passed
    assert any("no sequence_lens" in note for note in report.notes)


def test_a_state_begins_as_the_manifest_says(tmp_path):
    path = mutants.step_model(tmp_path / "s.onnx")
    model = load_model(path)
    manifest = read_manifest(model, path)
    manifest.states[0].initial = b"\0\0"
    mutants.manifests.attach(model, manifest, {})
    onnx.save(model, path)
    with pytest.raises(ModelFileError, match=r"'sum' has 2 bytes, and .* takes 16"):
        verify(path)


def test_integers_are_drawn_between_their_bounds_and_reach_both(tmp_path):
    path = mutants.step_model(tmp_path / "s.onnx")
    manifest = read_manifest(load_model(path), path)
    rows = random_rows(manifest, {}, rows=4, steps=60, rng=np.random.default_rng(0))
    drawn = np.concatenate([row["token"] for row in rows])
    assert drawn.dtype == np.int64
    assert (drawn.min(), drawn.max()) == (3, 6)


def test_bounds_that_hold_nothing_are_refused(tmp_path):
    path = mutants.step_model(tmp_path / "s.onnx")
    manifest = read_manifest(load_model(path), path)
    manifest.inputs[0].maximum = 2
    with pytest.raises(ModelFileError, match="'token' declares values from 3 to 2"):
        random_rows(manifest, {}, rows=1, steps=1, rng=np.random.default_rng(0))


def test_usual_values_are_drawn_where_they_are_known(model):
    manifest = read_manifest(load_model(model), model)
    usual = {"mean": [300.0, 0.0], "scale": [10.0, 1e-3]}
    walk = usual | {"change_mean": [0.0, 0.0], "change_scale": [0.1, 1e-3]}
    rng = np.random.default_rng(0)
    plain = random_rows(manifest, {"x": usual}, rows=50, steps=20, rng=rng)
    levels = np.stack([row["x"] for row in plain])
    np.testing.assert_allclose(levels.mean(axis=(0, 1)), [300, 0], atol=1)
    np.testing.assert_allclose(levels.std(axis=(0, 1)), [10, 1e-3], rtol=0.1)
    walks = np.stack(
        [r["x"] for r in random_rows(manifest, {"x": walk}, rows=50, steps=20, rng=rng)]
    )
    np.testing.assert_allclose(np.diff(walks, axis=1).std(axis=(0, 1)), [0.1, 1e-3], rtol=0.1)


def test_real_inputs_are_pieces_of_the_file(tmp_path, model):
    manifest = read_manifest(load_model(model), model)
    series = make_series(60)
    path = write_csv(tmp_path / "s.csv", series)
    rng = np.random.default_rng(0)
    with pytest.raises(SettingsError, match="the manifest names none"):
        real_rows(path, manifest, rows=2, steps=10, rng=rng)
    manifest.inputs[0].columns.extend(["b", "a"])
    for row in real_rows(path, manifest, rows=5, steps=10, rng=rng):
        start = int(np.argmin(np.abs(series.values[:, 1] - row["x"][0, 0])))
        np.testing.assert_allclose(row["x"], series.values[start : start + 10, ::-1], atol=1e-5)
    with pytest.raises(SettingsError, match="has 60 steps, and 61 are needed"):
        real_rows(path, manifest, rows=1, steps=61, rng=rng)


def test_random_cuts_make_up_the_whole():
    rng = np.random.default_rng(0)
    for _ in range(50):
        cuts = random_cuts(17, rng)
        assert sum(cuts) == 17
        assert min(cuts) >= 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.states.pop(), "graph's inputs are"),
        (lambda m: setattr(m.outputs[0], "name", "z"), "names the output 'z'"),
        (lambda m: setattr(m, "format", 2), "has format 2"),
        (lambda m: m.ClearField("form"), "how the graph treats time"),
        (lambda m: m.ClearField("outputs"), "names no output"),
        (lambda m: m.ClearField("states"), "names no state"),
        (lambda m: m.inputs[0].ClearField("dtype"), "gives input 'x' no type"),
        (lambda m: m.inputs[0].symbols.append("a"), "gives input 'x' 1 symbols"),
        (lambda m: setattr(m.outputs[0], "content", 2), "gives output 'y' probabilities"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(model, change, words):
    content = load_model(model)
    manifest = read_manifest(content, model)
    change(manifest)
    mutants.manifests.attach(content, manifest, {})
    onnx.save(content, model)
    with pytest.raises(ModelFileError, match=words):
        verify(model)


def test_another_network_is_told_apart(model):
    with pytest.raises(ModelFileError, match="another network"):
        verify(model, against=make_network(features=3))


def test_a_single_row_proves_no_batching(model):
    with pytest.raises(SettingsError, match="2 rows"):
        verify(model, rows=1)


def test_single_precision_is_what_carousel_calls_equal():
    assert TOLERANCE[4] == 1e-5
