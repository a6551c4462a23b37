"""The zoo itself: its graphs are what their recipes say, so that what is proved of them counts."""

import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

from tests.exporter.zoo.answers import answers, draw_inputs, same
from tests.exporter.zoo.build import build
from tests.exporter.zoo.catalogue import CATALOGUE

STEPS = 5


@pytest.fixture(params=CATALOGUE, ids=str)
def animal(request):
    return build(request.param)


def test_there_are_forty_of_them_and_more():
    assert len({build(recipe).model.SerializeToString() for recipe in CATALOGUE}) >= 40


def test_rows_may_share_a_run_where_the_recipe_says_so(animal):
    sessions = draw_inputs(animal, rows=3, steps=STEPS)
    alone = [answers(animal, [session])[0] for session in sessions]
    try:
        together, _ = answers(animal, sessions)
    except (Fail, InvalidArgument, RuntimeException, ValueError):
        assert not animal.recipe.batches
        return
    equal = all(
        same(together[name][row], alone[row][name][0])
        for name in animal.outputs
        for row in range(len(sessions))
    )
    assert equal == animal.recipe.batches


def test_the_answers_depend_on_what_came_before(animal):
    (session,) = draw_inputs(animal, rows=1, steps=STEPS)
    y = answers(animal, [session])[0]["y"]
    later = {name: value[1:] for name, value in session.items()}
    assert not same(y[:, 1:], answers(animal, [later])[0]["y"])


LOOPING = [recipe for recipe in CATALOGUE if recipe.form != "step" and not recipe.steps]


@pytest.mark.parametrize("recipe", LOOPING, ids=str)
def test_a_graph_that_loops_over_time_answers_the_same_in_one_run(recipe):
    animal = build(recipe)
    (session,) = draw_inputs(animal, rows=1, steps=STEPS)
    stepwise, last = answers(animal, [session])
    whole, last_of_whole = answers(animal, [session], steps_a_run=STEPS)
    assert all(same(stepwise[name], whole[name]) for name in animal.outputs)
    assert all(same(last[state.name], last_of_whole[state.name]) for state in animal.states)
