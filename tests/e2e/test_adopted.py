"""Graphs that others might have made, adopted and streamed from one server."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import carousel_client as carousel
from carousel_exporter.adoption import Options, adopt
from tests.exporter.zoo.answers import answers, draw_inputs, same
from tests.exporter.zoo.build import build
from tests.exporter.zoo.recipe import RATE, Recipe
from tests.support.server import run_server

ROWS, STEPS = 4, 9
#: Where each row's chunks begin and end.
PLACES = np.array([[0, 1, 5, STEPS], [0, 2, 3, STEPS], [0, 4, 5, STEPS], [0, 1, 8, STEPS]])

MODELS = {
    "stacked": Recipe(layers=2, layout=("BLHK",), names="unrelated"),
    "tokens": Recipe(
        cell="gru",
        layers=3,
        layout=("BLH",),
        form="batch_first",
        inputs="tokens",
        extras=frozenset({"integer"}),
    ),
    "wide": Recipe(cell="plain_lstm", dtype="float64", layout=("BHK",), inputs="two"),
    "half": Recipe(cell="plain_gru", dtype="float16", layout=("1BH",)),
    "counting": Recipe(form="time_major", extras=frozenset({"counter"}), inputs="rate"),
    "alone": Recipe(layers=2, batch="says_any_mixes"),
    "newest": Recipe(cell="rnn_tanh", opset=22, layout=("HB",)),
}


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adopted")
    for name, recipe in MODELS.items():
        original = folder / f"{name}.onnx"
        onnx.save(build(recipe).model, original)
        constants = {"rate": RATE} if recipe.inputs == "rate" else {}
        out = folder / "models" / name / "1" / "model.onnx"
        adopt(original, out, Options(constants=constants))
    with run_server(folder / "models", "--slots", "64", log=folder / "log") as server:
        yield server.address


@pytest.mark.parametrize("name", MODELS)
def test_streamed_answers_are_those_of_the_original(address, name):
    """A group in one message, in chunks that differ from row to row."""
    animal = build(MODELS[name])
    sessions = draw_inputs(animal, rows=ROWS, steps=STEPS)
    found: dict[str, list[list[np.ndarray]]] = {o: [[] for _ in sessions] for o in animal.outputs}
    with carousel.connect(address) as client, client.open_many(name, ROWS) as group:
        model = client.model(name)
        for places in (PLACES[:, 0:2], PLACES[:, 1:3], PLACES[:, 2:4]):
            chunks = {
                spec.name: [
                    session[spec.name][begin:end].reshape(-1, *spec.shape)
                    for session, (begin, end) in zip(sessions, places, strict=True)
                ]
                for spec in model.inputs
            }
            answer = group.step(chunks)
            answer = answer if isinstance(answer, dict) else {animal.outputs[0]: answer}
            for output, rows in answer.items():
                for row, part in enumerate(rows):
                    found[output][row].append(part)
    for row, session in enumerate(sessions):
        expected, _ = answers(animal, [session])
        for output in animal.outputs:
            assert same(np.concatenate(found[output][row]), expected[output][0]), output
