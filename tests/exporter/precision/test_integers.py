"""Products in 8-bit integers: near float32, and never coupled from row to row."""

import logging

import numpy as np
import pytest
from onnxruntime.quantization import QuantType, quantize_dynamic

from carousel_exporter.adoption.batching import try_batches
from carousel_exporter.precision.cells import WrittenStep
from carousel_exporter.precision.integers import WEIGHT_LEVELS, quantise
from carousel_exporter.precision.unrolling import unroll
from carousel_exporter.verification import verify
from tests.exporter.precision.graphs import KINDS, F, H, answers, make, runner, save, sessions


def quantised(kind, path, **options):
    model = make(kind, **options)
    result = quantise(model, unroll(model, WrittenStep).bounded)
    return save(model, path), result


@pytest.mark.parametrize("kind", KINDS)
def test_near_float32_and_the_same_however_cut_and_batched(tmp_path, kind):
    before, _ = answers(save(make(kind), tmp_path / "a.onnx"), sessions(4, 60))
    path, result = quantised(kind, tmp_path / "b.onnx")
    assert result.products
    after, _ = answers(path, sessions(4, 60))
    off = np.abs(np.stack(after) - np.stack(before)).max()
    assert 1e-6 < off / np.std(before) < 0.1
    report = verify(path, rows=7, steps=100)
    assert report.passed, report.failure()


@pytest.mark.parametrize("kind", ["lstm", "relu"])
def test_a_loud_neighbour_changes_nothing(tmp_path, kind):
    """Bit for bit: with a common scale, a neighbour a thousand times as loud would drown a row."""
    path, _ = quantised(kind, tmp_path / "m.onnx")
    given = sessions(3, 20)
    alone, _ = answers(path, given[:1])
    loud = [given[0], {"x": given[1]["x"] * 1000}, {"x": given[2]["x"] * 1e-3}]
    beside, _ = answers(path, loud)
    np.testing.assert_array_equal(beside[0], alone[0])


def test_onnx_runtimes_own_tool_couples_rows(tmp_path, caplog):
    """Why it is not used: its operators take one scale from all rows, and the proof sees it."""
    caplog.set_level(logging.ERROR)
    own = save(make("lstm"), tmp_path / "a.onnx")
    theirs = tmp_path / "b.onnx"
    quantize_dynamic(own, theirs, weight_type=QuantType.QInt8)
    verdict = try_batches(runner(theirs), {}, {}, np.random.default_rng(0))
    assert not verdict.works
    path, _ = quantised("lstm", tmp_path / "c.onnx")
    assert try_batches(runner(path), {}, {}, np.random.default_rng(0)).works


def test_weights_leave_room_in_16_bits(tmp_path):
    """Two products of 255 and a weight are added in 16 bits by processors without VNNI."""
    model = make("lstm")
    quantise(model, unroll(model, WrittenStep).bounded)
    eights = [t for t in model.graph.initializer if t.data_type == 3]
    assert eights
    values = np.concatenate([np.frombuffer(t.raw_data, np.int8) for t in eights]).astype(int)
    assert np.abs(values).max() == WEIGHT_LEVELS
    assert np.iinfo(np.int16).max >= 2 * 255 * WEIGHT_LEVELS


def test_small_products_stay(tmp_path):
    _, result = quantised("lstm", tmp_path / "m.onnx")
    assert result.left == {"head": f"its matrix is only {H} by 3"}
    assert F >= 32


def test_a_row_of_zeros_and_one_that_is_not_finite(tmp_path):
    path, _ = quantised("relu", tmp_path / "m.onnx")
    given = sessions(3, 2)
    given[1]["x"][:] = 0
    given[2]["x"][1] = np.inf
    found, _ = answers(path, given)
    assert np.isfinite(found[0]).all()
    assert np.isfinite(found[1]).all()
    assert not np.isfinite(found[2][1]).any()
