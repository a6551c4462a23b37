"""What is done about a repository that has changed: decisions, without files or models."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carousel_server.reloading import Here, History, Plan, difference, plan, supersedes
from carousel_server.spec import ModelSpec, StateSpec, TensorSpec
from carousel_server.versions import Stamp

V1, V2, V9, V10 = (("m", version) for version in ("1", "2", "9", "10"))
OTHER = ("other", "1")


def stamp(number: int = 0) -> Stamp:
    return Stamp(100 + number, number, number)


def stamps(*versions, number: int = 0) -> dict:
    return {version: stamp(number) for version in versions}


def here(*versions, retired: bool = False) -> dict:
    return {version: Here(stamp(), retired) for version in versions}


def test_nothing_new_is_nothing_to_do():
    assert plan(stamps(V1), here(V1), History(stamps(V1))) == Plan()


def test_a_new_version_is_loaded_once_it_stood_still():
    history = History(stamps(V1))
    first = plan(stamps(V1, V2), here(V1), history)
    assert first == Plan(unsettled=True)
    history.before = stamps(V1, V2)
    assert plan(stamps(V1, V2), here(V1), history) == Plan(load=(V2,))


def test_a_file_that_grows_is_waited_for():
    history = History(stamps(V1))
    for number in range(3):
        seen = stamps(V1) | {V2: stamp(number)}
        assert plan(seen, here(V1), history) == Plan(unsettled=True)
        history.before = seen
    assert plan(seen, here(V1), history).load == (V2,)


def test_new_versions_are_loaded_newest_first_and_new_models_too():
    seen = stamps(V2, V9, V10, OTHER)
    assert plan(seen, here(V2), History(seen)).load == (OTHER, V10, V9)


def test_a_refused_file_is_left_alone_until_it_changes():
    history = History(stamps(V1, V2), refused=stamps(V2))
    assert plan(stamps(V1, V2), here(V1), history) == Plan()
    seen = stamps(V1) | stamps(V2, number=1)
    assert plan(seen, here(V1), history) == Plan(unsettled=True)
    history.before = seen
    assert plan(seen, here(V1), history) == Plan(load=(V2,))


def test_a_superseded_version_stays_away_while_a_newer_one_is_there():
    seen = stamps(V1, V2)
    history = History(seen, superseded=stamps(V1))
    assert plan(seen, here(V2), history) == Plan()
    assert plan(seen, here(V2) | here(V1, retired=True), history) == Plan()


def test_it_comes_back_when_the_newer_one_is_taken_away():
    history = History(stamps(V1), superseded=stamps(V1))
    assert plan(stamps(V1), here(V2), history) == Plan(load=(V1,), retire=(V2,))
    loaded = here(V2) | here(V1, retired=True)
    assert plan(stamps(V1), loaded, history) == Plan(restore=(V1,), retire=(V2,))


def test_it_comes_back_when_the_newer_one_turns_out_to_be_broken():
    seen = stamps(V1, V2)
    history = History(seen, refused=stamps(V2), superseded=stamps(V1))
    assert plan(seen, here(V1, retired=True), history).restore == (V1,)


def test_a_file_is_gone_when_two_looks_missed_it():
    history = History(stamps(V1, V2))
    assert plan(stamps(V1), here(V1, V2), history) == Plan(unsettled=True)
    history.before = stamps(V1)
    assert plan(stamps(V1), here(V1, V2), history) == Plan(retire=(V2,))
    assert plan(stamps(V1), here(V1) | here(V2, retired=True), history) == Plan()


def test_one_that_was_gone_and_is_there_again_takes_sessions_again():
    seen = stamps(V1, V2)
    assert plan(seen, here(V2) | here(V1, retired=True), History(seen)).restore == (V1,)
    assert plan(seen, here(V2) | here(V1, retired=True), History(stamps(V2))).restore == ()


def test_a_loaded_version_whose_file_changed_is_told_and_kept():
    seen = stamps(V1, number=1)
    assert plan(seen, here(V1), History(stamps(V1))) == Plan()
    assert plan(seen, here(V1), History(seen)) == Plan(changed=(V1,))
    retired = plan(seen, here(V1, retired=True), History(seen))
    assert retired == Plan(changed=(V1,)), "another file is no reason to restore it"


def test_what_is_gone_is_forgotten():
    history = History(refused=stamps(V1, V2), superseded=stamps(V1, V9))
    history.forget(stamps(V2, V9))
    assert (history.refused, history.superseded) == (stamps(V2), stamps(V9))


version_lists = st.lists(
    st.tuples(st.sampled_from(["m", "n"]), st.sampled_from(["1", "2", "10"])), unique=True
)


@given(version_lists, version_lists, version_lists, version_lists, st.booleans())
def test_every_plan_is_one_that_can_be_carried_out(seen, loaded, refused, superseded, retired):
    there = stamps(*seen)
    held = here(*loaded, retired=retired)
    refusals = stamps(*(set(refused) - set(loaded)))
    todo = plan(there, held, History(there, refusals, stamps(*superseded)))
    assert set(todo.load) <= set(seen) - set(loaded) - set(refused)
    assert set(todo.restore) <= set(seen) & set(loaded)
    assert set(todo.retire) <= set(loaded) - set(seen)
    # Each model that can be served at all takes new sessions afterwards.
    takers = {v for v in loaded if not retired} - set(todo.retire)
    takers |= {*todo.load, *todo.restore}
    can = (set(seen) - set(refused)) | (set(seen) & set(loaded))
    assert {model for model, _ in can} <= {model for model, _ in takers}


@pytest.mark.parametrize(
    ("new", "old", "there", "answer"),
    [
        (V2, V1, [V1, V2], True),
        (V10, V9, [V9, V10], True),
        (V1, V2, [V1, V2], False),
        (V1, V2, [V1], True),  # a step back: the newer one was taken away
    ],
)
def test_which_version_takes_over(new, old, there, answer):
    assert supersedes(new, old, there) is answer


F4 = np.dtype("<f4")


def spec(*, shape=(2,), outputs=("y",), maximum=None, state="s", initial=0.0, **more) -> ModelSpec:
    return ModelSpec(
        inputs=(TensorSpec("x", F4, (2,), maximum=maximum),),
        outputs=tuple(TensorSpec(name, F4, (2,)) for name in outputs),
        states=(StateSpec(state, f"{state}_out", F4, shape, np.full(shape, initial, F4)),),
        **({"time_axis": False} | more),
    )


@pytest.mark.parametrize(
    "new",
    [
        spec(),
        spec(initial=1.0),
        spec(time_axis=True, sequence_lens="lengths"),
        spec(max_batch=4),
    ],
)
def test_what_sessions_can_go_on_with(new):
    assert difference(spec(), new) == ""


@pytest.mark.parametrize(
    ("new", "why"),
    [
        (spec(shape=(3,)), "its states are 's' float32[3]; they were 's' float32[2]"),
        (spec(state="h"), "its states are 'h' float32[2]; they were 's' float32[2]"),
        (spec(outputs=("y", "z")), "its outputs are 'y' float32[2], 'z' float32[2]; they were 'y'"),
        (spec(maximum=5), "its inputs are 'x' float32[2] up to 5; they were 'x' float32[2]"),
    ],
)
def test_what_they_can_not_go_on_with(new, why):
    assert difference(spec(), new).startswith(why)
