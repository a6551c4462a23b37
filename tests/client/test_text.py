"""`carousel.text` over sessions, sync and asyncio: what it says, and what it leaves behind."""

import numpy as np
import pytest

import carousel_client as carousel
from tests.client.fake import status
from tests.client.speaking import LETTERS


def greedy(prompt, length):
    """Return what the fake's model finds the most probable each time."""
    numbers = [LETTERS.index(letter) for letter in prompt]
    for _ in range(length):
        numbers.append(sum(numbers) % len(LETTERS))
    return "".join(LETTERS[number] for number in numbers[len(prompt) :])


def test_without_warmth_the_most_probable_is_written(client):
    with client.open("letters") as session:
        assert carousel.text.generate(session, "ab", 4, temperature=0) == greedy("ab", 4)
        assert session.applied == 6  # prompt and text


def test_a_next_prompt_goes_on_from_the_text(client):
    with client.open("letters") as session:
        first = carousel.text.generate(session, "storm", 3, temperature=0)
        second = carousel.text.generate(session, " and ", 3, temperature=0)
        assert second == greedy(f"storm{first} and ", 3)


def test_a_seed_draws_the_same_text_again(client):
    def said(seed):
        with client.open("letters") as session:
            return carousel.text.generate(session, "storm", 30, temperature=1.5, rng=seed)

    assert said(3) == said(3) == said(np.random.default_rng(3))
    assert said(3) != said(4)
    assert len(said(3)) == 30
    assert set(said(3)) <= set(LETTERS[:-1])  # never the symbol that stands for unknown ones


def test_what_was_yielded_was_taken_in(client):
    with client.open("letters") as session:
        pieces = carousel.text.write(session, "ab", 100)
        taken = [next(pieces) for _ in range(5)]
        assert session.applied == 2 + 5
        assert all(len(piece) == 1 for piece in taken)


def test_a_search_leaves_the_session_behind_the_prompt_and_no_forks(client, fake):
    with client.open("letters") as session:
        found = carousel.text.beam(session, "ab", 4, beams=3)
        assert session.applied == 2
        assert list(fake.sessions) == [session.id]
        assert len(found) == 3
        assert found[0].text == greedy("ab", 4)
        assert found[0].log_probability == pytest.approx(4 * np.log(0.75))
        scores = [one.log_probability for one in found]
        assert scores == sorted(scores, reverse=True)


def forks_until(fake, count):
    """Return the fake's `fork`, that fails after so many."""
    fork, done = fake.fork, []

    def failing(request):
        done.append(request)
        return fork(request) if len(done) <= count else status(13, "no more copies")

    return failing


@pytest.mark.parametrize("count", [0, 2, 4])
def test_a_search_that_fails_closes_its_forks(client, fake, monkeypatch, count):
    session = client.open("letters")
    monkeypatch.setattr(fake, "fork", forks_until(fake, count))
    with pytest.raises(carousel.ServerError, match="no more copies"):
        carousel.text.beam(session, "ab", 6, beams=3)
    assert list(fake.sessions) == [session.id]


@pytest.mark.parametrize("count", [0, 2, 4])
async def test_so_does_one_of_asyncio(fake, quick, monkeypatch, count):
    async with carousel.aio.connect(fake.address, **quick) as client:
        session = await client.open("letters")
        monkeypatch.setattr(fake, "fork", forks_until(fake, count))
        with pytest.raises(carousel.ServerError, match="no more copies"):
            await carousel.aio.text.beam(session, "ab", 6, beams=3)
        assert list(fake.sessions) == [session.id]


async def test_asyncio_writes_and_finds_the_same(fake, client, quick):
    with client.open("letters") as session:
        written = carousel.text.generate(session, "storm", 20, rng=5)
        found = carousel.text.beam(session, "x", 5, beams=4)
    async with (
        carousel.aio.connect(fake.address, **quick) as other,
        other.open("letters") as session,
    ):
        assert await carousel.aio.text.generate(session, "storm", 20, rng=5) == written
        assert await carousel.aio.text.beam(session, "x", 5, beams=4) == found
        assert session.applied == 26
        assert list(fake.sessions) == [session.id]
        before = len(fake.requests)
        await carousel.aio.text.beam(session, "x", 5, beams=4)
        assert len(fake.requests) - before == 5  # a message for the prompt, and one a round
        pieces = [piece async for piece in carousel.aio.text.write(session, "a", 3)]
        assert len(pieces) == 3


def test_what_takes_no_text_writes_none(client):
    with (
        client.open("weather") as session,
        pytest.raises(carousel.InvalidInput, match="takes no text"),
    ):
        carousel.text.generate(session, "storm", 3)
