"""Every graph of the zoo, adopted: nothing told but what no file says, everything found by itself.

What it must answer comes from ONNX Runtime on the original graph, driven by hand.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings

from carousel.v1 import manifest_pb2
from carousel_exporter.adoption import AdoptionReport, Options, adopt
from carousel_exporter.driving import random_cuts
from carousel_exporter.runner import Runner
from carousel_server.runtime.device import Device
from carousel_server.runtime.manifest import read_model
from carousel_server.runtime.model import LoadedModel
from tests.exporter.zoo.answers import Arrays, answers, draw_inputs, same
from tests.exporter.zoo.build import Animal, build
from tests.exporter.zoo.catalogue import CATALOGUE, recipes
from tests.exporter.zoo.recipe import RATE, TOKENS, Recipe

ROWS, STEPS = 3, 7
NEWEST_OPSET = 21


def options_of(recipe: Recipe) -> Options:
    return Options(constants={"rate": RATE} if recipe.inputs == "rate" else {})


Adopt = Callable[[Animal], tuple[AdoptionReport, Path]]


@pytest.fixture(scope="module")
def adopted(tmp_path_factory) -> Adopt:
    """Adopt an animal's file, once; return the report and where the new file is."""

    @cache
    def once(recipe: Recipe) -> tuple[AdoptionReport, Path]:
        folder = tmp_path_factory.mktemp("adopted")
        original, out = folder / "original.onnx", folder / "model.onnx"
        onnx.save(build(recipe).model, original)
        return adopt(original, out, options_of(recipe)), out

    return lambda animal: once(animal.recipe)


def expected_answers(animal: Animal, sessions: list[Arrays]) -> list[tuple[Arrays, Arrays]]:
    return [answers(animal, [session]) for session in sessions]


def check_run(runner: Runner, animal: Animal, sessions: list[Arrays], expected) -> None:
    """Run all sessions together in chunks of different lengths."""
    rng = np.random.default_rng(0)
    shapes = {spec.name: spec.shape for spec in runner.manifest.inputs}
    states = [runner.new_state() for _ in sessions]
    parts: list[list[Arrays]] = [[] for _ in sessions]
    cuts = [random_cuts(STEPS, rng) for _ in sessions]
    at = [0] * len(sessions)
    while rows := [row for row, left in enumerate(cuts) if left]:
        lengths = [cuts[row].pop() for row in rows]
        chunks = [
            {
                name: value[at[row] : at[row] + n].reshape(n, *shapes[name])
                for name, value in sessions[row].items()
            }
            for row, n in zip(rows, lengths, strict=True)
        ]
        found, after = runner.advance(chunks, [states[row] for row in rows])
        for row, n, answer, state in zip(rows, lengths, found, after, strict=True):
            parts[row].append(answer)
            states[row], at[row] = state, at[row] + n
    for row, (outputs, last) in enumerate(expected):
        for name in animal.outputs:
            whole = np.concatenate([part[name] for part in parts[row]])
            assert same(whole, outputs[name][0]), name
        for state in animal.states:
            assert same(states[row][state.name][None], last[state.name]), state.name


def check_adoption(animal: Animal, adopted: Adopt, *, may_be_slow: bool = False) -> None:
    report, out = adopted(animal)
    assert {(pair.input, pair.output) for pair in report.proposal.pairs} == animal.pairs
    # A graph whose batch is held at 1 may be mended; that it then is right, numbers show below.
    assert report.batchable or not animal.recipe.batches or may_be_slow
    assert not (report.batchable and animal.recipe.batch == "says_any_mixes")
    assert {spec.name for spec in report.manifest.inputs} == {*animal.inputs} - {"rate"}
    assert [spec.name for spec in report.manifest.outputs] == list(animal.outputs)
    sessions = draw_inputs(animal, rows=ROWS, steps=STEPS)
    expected = expected_answers(animal, sessions)
    check_run(Runner(out, report.manifest), animal, sessions, expected)


@pytest.mark.parametrize("recipe", CATALOGUE, ids=str)
def test_an_adopted_graph_answers_as_the_original_does(adopted, recipe):
    check_adoption(build(recipe), adopted)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(recipe=recipes())
def test_so_does_any_other(adopted, recipe):
    # Where several axes of 1 can be read in several ways, one row a run is slow, and never wrong.
    check_adoption(build(recipe), adopted, may_be_slow=recipe.batch == "says_one_takes_any")


#: One graph in four, so that every kind of layout, cell and form is among them.
SERVED = CATALOGUE[::4]


@pytest.mark.parametrize("recipe", SERVED, ids=str)
def test_the_server_runs_what_was_adopted(adopted, recipe):
    """Its own loader and pool graph, with sessions in slots out of order."""
    animal = build(recipe)
    _, out = adopted(animal)
    model = LoadedModel(read_model(out), device=Device("cpu"), slots=8, threads=1)
    sessions = draw_inputs(animal, rows=ROWS, steps=STEPS, seed=1)
    expected = expected_answers(animal, sessions)
    together = {n: np.stack([s[n] for s in sessions], axis=1) for n in sessions[0]}  # (T, B, …)
    slots = np.array([5, 1, 7])
    runs = [[row] for row in range(ROWS)] if model.spec.max_batch == 1 else [list(range(ROWS))]
    for rows in runs:
        parts: list[Arrays] = []
        for step in range(STEPS):
            chunk = {n: value[step : step + 1, rows] for n, value in together.items()}
            if not model.spec.time_axis:
                chunk = {n: value[0] for n, value in chunk.items()}
            lengths = np.ones(len(rows), np.int64)
            shaped = {
                i.name: chunk[i.name].reshape(*_lead(model, rows), *i.shape)
                for i in model.spec.inputs
            }
            found, bad = model.run(slots[rows], lengths, shaped)
            assert not bad.any()
            parts.append({n: v[0] if model.spec.time_axis else v for n, v in found.items()})
        for place, row in enumerate(rows):
            for name in animal.outputs:
                whole = np.stack([part[name][place] for part in parts])
                assert same(whole, expected[row][0][name][0]), name


def _lead(model: LoadedModel, rows: list[int]) -> tuple[int, ...]:
    return (1, len(rows)) if model.spec.time_axis else (len(rows),)


@pytest.mark.parametrize("opset", [22, 23])
def test_newer_operators_are_brought_down_to_what_gpus_run(adopted, opset):
    report, out = adopted(build(Recipe(opset=opset, layers=2)))
    (version,) = [each.version for each in onnx.load(out).opset_import if each.domain == ""]
    assert version == report.opset_after <= NEWEST_OPSET
    assert report.opset_before == opset


def test_a_vocabulary_s_size_is_noted(adopted):
    report, _ = adopted(build(Recipe(inputs="tokens")))
    (token,) = report.manifest.inputs
    assert (token.minimum, token.maximum) == (0, TOKENS - 1)


@pytest.mark.parametrize(
    ("recipe", "form"),
    [
        (Recipe(), manifest_pb2.MODEL_FORM_STEP),
        (Recipe(form="time_major"), manifest_pb2.MODEL_FORM_SEQUENCE),
        (Recipe(form="batch_first"), manifest_pb2.MODEL_FORM_SEQUENCE),
        (Recipe(form="batch_first", steps=1), manifest_pb2.MODEL_FORM_STEP),
    ],
    ids=str,
)
def test_a_graph_that_can_take_several_steps_a_run_keeps_doing_so(adopted, recipe, form):
    report, _ = adopted(build(recipe))
    assert report.manifest.form == form
