"""Strings in, named classes out: sessions, groups and streams of both clients."""

import numpy as np
import pytest

import carousel_client as carousel
from carousel.v1 import sessions_pb2 as pb
from carousel_client._arrays import one_session
from carousel_client._models import model_info
from tests.client.fake import MODELS, spec
from tests.client.fake import model as described
from tests.client.speaking import LETTERS, WEATHER, next_letters, text


def next_after(said):
    """Return the letter that the fake's model takes for the next after each of a text."""
    sums = np.cumsum([LETTERS.index(letter) for letter in said])
    return [LETTERS[number] for number in sums % len(LETTERS)]


def test_a_text_is_a_step_a_symbol(client):
    with client.open("letters") as session:
        answer = session.step("the storm passed, and ")
        assert answer.labels == next_after("the storm passed, and ")
        assert answer.array.shape == (22, len(LETTERS))
        assert answer.probabilities[3].max() == pytest.approx(0.75)
        assert session.applied == 22
        assert len(session.step("a").labels) == 1  # a chunk of one, not a step


def test_arrays_stay_arrays(client):
    with client.open("letters") as session, client.open("letters") as twin:
        ids = session.info.encode("storm")
        assert ids.dtype == np.int64
        plain = session.step(ids)
        assert type(plain) is np.ndarray
        assert type(session.step(ids[0])) is np.ndarray
        said = twin.step("storm")
        assert np.array_equal(said, plain)
        assert session.info.read(plain).labels == said.labels
        assert session.info.read(plain[0]).labels == said.labels[0]
    with client.open("weather") as session:
        answer = session.step([[0, 9, 0], [0, 0, 20]])
        assert type(answer) is np.ndarray
        assert session.info.read(answer).labels == ["windy", "storm"]
        assert session.info.classes == WEATHER
    with client.open("sum") as session:
        assert session.info.read([1.0, 2.0]).tolist() == [1, 2]  # nothing to name


def test_a_model_tells_its_symbols_and_classes(client):
    letters = client.model("letters")
    assert letters.inputs[0].symbols == tuple(LETTERS)
    assert letters.outputs[0].content == "log_probabilities"
    assert letters.classes == letters.vocabulary.symbols == tuple(LETTERS)
    assert letters.decode(letters.encode("a storm\n")) == "a storm\n"
    assert letters.decode(letters.encode("ÀB")) == "\ufffd\ufffd"  # the model's own unknown symbol
    plain = client.model("sum")
    assert (plain.classes, plain.vocabulary) == ((), None)


def test_a_group_takes_a_text_each(client):
    with client.open_many("letters", 3) as group:
        answers = group.step(["storm", "", "a"])
        assert [answer.labels for answer in answers] == [next_after("storm"), [], ["a"]]
        assert group.applied.tolist() == [5, 0, 1]
        assert type(group.step(np.zeros((3, 2), np.int64))) is np.ndarray


def test_pieces_of_a_text_are_streamed(client):
    with client.open("letters") as session:
        answers = list(session.stream(["the ", "storm", "."]))
        labels = [label for answer in answers for label in answer.labels]
        assert [len(answer) for answer in answers] == [4, 5, 1]
        assert labels == next_after("the storm.")
    with client.open("letters") as session:
        assert [answer.labels for answer in session.stream("ab")] == [["a"], ["b"]]


async def test_asyncio_does_the_same(fake, quick):
    async with carousel.aio.connect(fake.address, **quick) as client:
        async with client.open("letters") as session:
            assert (await session.step("storm")).labels == next_after("storm")
        async with client.open("letters") as session:
            found = [answer.labels async for answer in session.stream(["st", "orm"])]
            assert found == [next_after("storm")[:2], next_after("storm")[2:]]
        async with client.open_many("letters", 2) as group:
            assert [len(answer) for answer in await group.step(["st", "orm"])] == [2, 3]


def test_what_was_answered_before_a_failure_has_names_too(client, fake):
    session = client.open("letters", "one")
    fake.switches.rows["one"] = [(pb.ROW_STATUS_NUMERIC_FAULT, 3)]
    with pytest.raises(carousel.NumericFault) as failed:
        session.step("storm")
    assert failed.value.answers.labels == next_after("sto")
    group = client.open_many("letters", ["a", "b"])
    fake.switches.rows["b"] = [(pb.ROW_STATUS_NUMERIC_FAULT, 2)]
    with pytest.raises(carousel.GroupError) as some:
        group.step(["storm", "storm"])
    found = [answer.labels for answer in some.value.answers]
    assert found == [next_after("storm"), next_after("st")]


def test_of_several_outputs_each_is_what_it_holds():
    model = model_info(described("both", [text("x")], [next_letters("next"), spec("depth", [2])]))
    found = model.read({"next": np.zeros((1, len(LETTERS))), "depth": np.ones((1, 2))})
    assert found["next"].names == tuple(LETTERS)
    assert type(found["depth"]) is np.ndarray


@pytest.mark.parametrize(
    ("name", "x", "why"),
    [
        ("letters", "", "the text is empty: a step takes at least one symbol"),
        (
            "letters",
            ["a", "b"],
            "takes int64, but got an array of strings, which doesn't convert; text is one",
        ),
        ("both", {"a": [0, 0], "k": "a"}, "input 'k' takes int64, but got an array of strings"),
        ("weather", "storm", "'weather' has no vocabulary, so it takes no text, but numbers: 'x'"),
        (
            "both",
            "storm",
            "no vocabulary, so it takes no text, but numbers: 'a' float32 \\[2\\], 'k'",
        ),
    ],
)
def test_what_is_no_text_for_the_model_is_refused(client, fake, name, x, why):
    with client.open(name) as session, pytest.raises(carousel.InvalidInput, match=why):
        session.step(x)
    assert not fake.requests


@pytest.mark.parametrize(
    ("x", "why"),
    [
        ("storm", "a list of 2 strings, one a session, but got one string"),
        (["storm"], "a list of 2 strings, but got 1"),
        (["storm", 7], "row 1: expected a string, as in the first row, but got int"),
    ],
)
def test_a_group_says_which_text_it_cannot_take(client, x, why):
    with client.open_many("letters", 2) as group, pytest.raises(carousel.InvalidInput, match=why):
        group.step(x)


def test_an_unknown_character_is_refused_where_nothing_stands_for_it(client):
    message = MODELS[-2].__class__()
    message.CopyFrom(MODELS[-2])
    known = message.manifest.inputs[0]
    known.symbols[-1] = "!"
    with pytest.raises(carousel.InvalidInput, match=r"'\\t' \(U\+0009\) at position 3 is not in"):
        one_session(model_info(message), "the\tstorm")


def test_content_that_is_newer_than_the_client_is_left_as_numbers():
    message = MODELS[-2].__class__()
    message.CopyFrom(MODELS[-2])
    message.manifest.outputs[0].content = 77
    model = model_info(message)
    assert model.outputs[0].content == ""
    assert model.classes == ()
