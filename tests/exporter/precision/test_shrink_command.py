"""`carousel-export shrink`: proved, told, refused in a sentence."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from carousel_exporter.cli import main
from carousel_exporter.manifest import attach, load_model, read_manifest
from carousel_exporter.precision import comparing, measuring
from tests.exporter.builders import make_model, make_network, make_series, write_csv
from tests.exporter.precision.graphs import make, save


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Time and compare briefly: what is looked at here is not how fast it is."""
    monkeypatch.setattr(measuring, "_SECONDS", 0.0)
    monkeypatch.setattr(comparing, "STEPS", 60)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("NO_COLOR", "1")


def shrink(path, out, *flags):
    return main(["shrink", str(path), "--out", str(out), *flags])


def refused(capsys, path, out, *flags):
    assert shrink(path, out, *flags) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert "\n" not in error
    assert not out.exists()
    return error


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_a_smaller_file_and_a_table(tmp_path, capsys, precision):
    path, out = save(make("lstm"), tmp_path / "a.onnx"), tmp_path / "b.onnx"
    assert shrink(path, out, f"--{precision}") == 0
    told = capsys.readouterr().out
    assert out.stat().st_size < 0.8 * path.stat().st_size
    for words in ("file, bytes", "256 rows, 1 step", "of its spread", "random input", "equal each"):
        assert words in told
    provenance = read_manifest(load_model(out), out).provenance
    assert provenance["precision"] == precision
    assert provenance["shrunk_from"] == "a.onnx"
    assert len(provenance["shrunk_from_sha256"]) == 64


def test_json_on_data_of_ones_own(tmp_path, capsys):
    path = make_model(tmp_path / "m.onnx", make_network(hidden=32))
    model = load_model(path)
    manifest = read_manifest(model, path)
    manifest.inputs[0].columns[:] = ["a", "b"]
    attach(model, manifest, {})
    save(model, path)
    series = make_series()
    series = replace(series, values=series.values - series.values.mean(axis=0))
    data = write_csv(tmp_path / "data.csv", series)
    out = tmp_path / "out.onnx"
    assert shrink(path, out, "--int8", "--json", "--data", str(data)) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["within_bound"]
    assert found["inputs"] == f"{data}, one stream of 400 steps"
    assert [(s["rows"], s["steps"]) for s in found["speeds"]] == list(measuring.SHAPES)
    assert all(s["float32"] > 0 and s["new"] > 0 for s in found["speeds"])
    assert len(found["errors"][0]["parts"]) == 4
    assert found["file_bytes"] == [path.stat().st_size, out.stat().st_size]


def test_an_error_above_the_bound_is_refused_unless_accepted(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("carousel_exporter.precision.integers.WEIGHT_LEVELS", 1)
    path, out = save(make("lstm"), tmp_path / "a.onnx"), tmp_path / "b.onnx"
    error = refused(capsys, path, out, "--int8")
    assert "of its spread" in error
    assert "--accept-error" in error
    assert shrink(path, out, "--int8", "--accept-error") == 0
    assert "above: accepted" in capsys.readouterr().out
    assert out.exists()


def test_rows_that_change_one_another_are_refused(tmp_path, capsys, monkeypatch):
    """A scale for all rows, as common tools take it, does not pass."""
    quantiser = "carousel_exporter.precision.integers._Quantiser._largest"

    def of_all_rows(self, g, x):
        return g.op("ReduceMax", [x], keepdims=1)

    monkeypatch.setattr(quantiser, of_all_rows)
    path = save(make("relu"), tmp_path / "a.onnx")
    error = refused(capsys, path, tmp_path / "b.onnx", "--int8")
    assert "Nothing was written" in error


def test_nothing_to_make_smaller(tmp_path, capsys):
    path = make_model(tmp_path / "m.onnx", make_network(hidden=4))
    error = refused(capsys, path, tmp_path / "b.onnx", "--int8")
    assert "has nothing that --int8 can make smaller" in error
    assert "its matrix is only 4 by" in error


def test_a_file_that_was_shrunk_before(tmp_path, capsys):
    path, out = save(make("gru"), tmp_path / "a.onnx"), tmp_path / "b.onnx"
    assert shrink(path, out, "--float16") == 0
    capsys.readouterr()
    error = refused(capsys, out, tmp_path / "c.onnx", "--int8")
    assert "is in float16 already" in error


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), "--float16 or --int8, one of them"),
        (("--int8", "--float16"), "--float16 or --int8, one of them"),
        (("--int8", "--keep-states"), "--keep-states is for --float16"),
        (("--int8", "--data", "none.csv"), "names none"),
    ],
)
def test_flags_that_do_not_fit(tmp_path, capsys, flags, words):
    path = save(make("lstm"), tmp_path / "a.onnx")
    assert words in refused(capsys, path, tmp_path / "b.onnx", *flags)


def test_the_file_itself_is_not_overwritten(tmp_path, capsys):
    path = save(make("lstm"), tmp_path / "a.onnx")
    before = path.read_bytes()
    assert shrink(path, path, "--int8") == 1
    assert "give --out another name" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_errors_are_told_by_quarters():
    reference = np.linspace(-1, 1, 400, dtype=np.float32).reshape(100, 4, 1)
    found = reference.copy()
    found[75:] += 0.1
    error = comparing._error("y", reference, found)
    assert error.parts[:3] == (0, 0, 0)
    assert error.worst == pytest.approx(0.1 / reference.std(), rel=1e-4)


@pytest.mark.parametrize(("size", "told"), [(1.0, "scales: fixed"), (0.1, "scales: one a row")])
def test_a_small_h_gets_scales_of_its_own(tmp_path, capsys, size, told):
    """A fixed scale for -1 to 1 has few levels where h is a tenth of that."""
    model = make("lstm")
    for tensor in model.graph.initializer:
        if tensor.name[0] in "WRB":
            tensor.raw_data = (np.frombuffer(tensor.raw_data, np.float32) * size).tobytes()
    path = save(model, tmp_path / "a.onnx")
    assert shrink(path, tmp_path / "b.onnx", "--int8") == 0
    assert told in capsys.readouterr().out


def test_samples_of_inputs_without_columns(tmp_path, capsys):
    path, out = save(make("lstm"), tmp_path / "a.onnx"), tmp_path / "b.onnx"
    file = tmp_path / "x.npy"
    np.save(file, np.random.default_rng(0).normal(size=(50, 40)))
    assert shrink(path, out, "--int8", "--samples", f"x={file}") == 0
    assert "--samples, 50 steps in one stream" in capsys.readouterr().out
    out.unlink()
    np.save(file, np.zeros((50, 7)))
    error = refused(capsys, path, out, "--int8", "--samples", f"x={file}")
    assert "must have the shape [steps, 40], 4 steps at least, not [50, 7]" in error
    assert "every input, x, not z" in refused(capsys, path, out, "--int8", "--samples", f"z={file}")
