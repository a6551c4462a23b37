"""From a repository to models that have run: what is loaded, proved and refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from carousel_server.errors import ModelFileError
from carousel_server.loading import load_models
from carousel_server.runtime.device import Device
from carousel_server.settings import Settings
from carousel_server.trials import prove_shapes
from tests.support import guards, models
from tests.support.loaded import load, states


def loaded(folder: Path):
    return load_models(Settings(models=folder, slots=4, threads=1), Device("cpu"))


def fixed_to(rows: int, **options):
    """Return a model that can only run up to `rows` rows, whatever its shapes declare."""
    nodes = [
        helper.make_node("Shape", ["x"], ["dims"]),
        helper.make_node("Gather", ["dims", "axis"], ["count"]),
        helper.make_node("Sub", ["count", "one"], ["last"]),
        helper.make_node("Gather", ["zeros", "last"], ["zero"]),
        helper.make_node("Add", ["x", "s"], ["s_out"]),
        helper.make_node("Add", ["s_out", "zero"], ["y"]),
    ]
    return models.model(
        nodes,
        inputs=[models.tensor("x", 2)],
        outputs=[models.tensor("y", 2)],
        states=[models.state("s", 2)],
        constants={
            "zeros": np.zeros(rows, np.float32),
            "axis": np.array(0),
            "one": np.array(1),
        },
        **options,
    )


def test_every_version_is_loaded_oldest_first(tmp_path):
    for version in ("10", "9"):
        models.put(tmp_path, models.running_sum(), "sum", version)
    models.put(tmp_path, models.lstm(), "lstm")
    items = loaded(tmp_path)
    assert [(item.entry.name, item.entry.version) for item in items] == [
        ("lstm", "1"), ("sum", "9"), ("sum", "10"),
    ]  # fmt: skip
    assert all(item.seconds > 0 and item.inline_rows >= 0 for item in items)
    assert not states(items[0].model, 1, 2)["h0"].any(), "trial runs leave no trace"


def test_each_model_that_cant_be_served_has_its_sentence(tmp_path):
    models.put(tmp_path, models.running_sum(), "good")
    models.put(tmp_path, fixed_to(1), "lies")
    broken = models.put(tmp_path, models.running_sum(), "broken")
    broken.write_bytes(b"")
    with pytest.raises(ModelFileError) as caught:
        loaded(tmp_path)
    first, *others = str(caught.value).splitlines()
    assert first == f"{tmp_path}: not every model can be served"
    assert [line.split(":")[0].strip() for line in others] == [
        str(broken), str(tmp_path / "lies" / "1" / "model.onnx"),
    ]  # fmt: skip
    assert "it fails on a trial run" in others[1]


@pytest.mark.parametrize("form", [models.STEP, models.SEQUENCE])
def test_an_output_that_loses_its_batch_axis_is_found(tmp_path, form):
    models.put(tmp_path, guards.batchless(form=form))
    with pytest.raises(ModelFileError, match="it fails on a trial run"):
        loaded(tmp_path)


@pytest.mark.parametrize("rows", [1, 2])
def test_a_model_is_not_tried_beyond_its_max_batch(tmp_path, rows):
    prove_shapes(load(tmp_path, fixed_to(rows, max_batch=rows)))


def test_integer_inputs_are_tried_within_their_bounds(tmp_path):
    made = models.model(
        [
            helper.make_node("Add", ["k", "below"], ["index"]),
            helper.make_node("Gather", ["table", "index"], ["row"], axis=0),
            helper.make_node("Add", ["row", "s"], ["s_out"]),
            helper.make_node("Identity", ["s_out"], ["y"]),
        ],
        inputs=[models.tensor("k", dtype=models.INT64, maximum=-10)],
        outputs=[models.tensor("y", 2)],
        states=[models.state("s", 2)],
        constants={"table": np.zeros((5, 2), np.float32), "below": np.array(10)},
    )
    prove_shapes(load(tmp_path, made))
