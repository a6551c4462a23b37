"""Files that others made, adopted: of one step a run, of one row a run, of an old opset."""

import onnx
import pytest

from carousel_exporter.adoption import Options, adopt
from carousel_exporter.errors import ExporterError
from carousel_exporter.precision import Precision, Request, comparing, measuring, shrink
from tests.exporter.zoo.build import build
from tests.exporter.zoo.recipe import Recipe

RECIPES = {
    "one step a run": Recipe(cell="rnn_tanh", layout=("HB",)),
    "one row a run": Recipe(layers=2, batch="says_any_mixes"),
    "an old opset": Recipe(layers=2, opset=11),
}


@pytest.mark.parametrize("name", RECIPES)
def test_their_states_are_halved(tmp_path, monkeypatch, name):
    monkeypatch.setattr(measuring, "_SECONDS", 0.0)
    monkeypatch.setattr(comparing, "STEPS", 60)
    onnx.save(build(RECIPES[name]).model, tmp_path / "theirs.onnx")
    adopt(tmp_path / "theirs.onnx", tmp_path / "a.onnx", Options())
    report = shrink(tmp_path / "a.onnx", tmp_path / "b.onnx", Request(Precision.FLOAT16))
    before, after = report.state_bytes
    assert after == before / 2
    assert report.checks.passed
    assert 0 < report.errors[0].worst < 0.01
    with pytest.raises(ExporterError, match="nothing that --int8 can make smaller"):
        shrink(tmp_path / "a.onnx", tmp_path / "c.onnx", Request(Precision.INT8))
