"""Text and labels through a real server: the SDK's and the command line's strings."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from functools import cache

import numpy as np
import pytest

import carousel_client as carousel
from tests.support import models
from tests.support.server import run_server
from tests.support.solo import solo_answers

SYMBOLS = "ab\n"
PROMPT = "ab\nba"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with a language model and a classifier."""
    folder = tmp_path_factory.mktemp("speaking")
    models.put(folder, models.language(SYMBOLS), "letters")
    models.put(folder, models.classifier(), "weather")
    log = tmp_path_factory.mktemp("server") / "log"
    with run_server(folder, "--slots", "256", log=log) as running:
        yield running


@pytest.fixture
def sdk(server):
    with carousel.connect(server.address) as connected:
        yield connected


@cache
def logs(text: str) -> np.ndarray:
    """Return the log-probabilities behind each symbol of a text, (T, V), by ONNX Runtime alone."""
    ids = np.array([SYMBOLS.index(symbol) for symbol in text], np.int64)
    return solo_answers(models.language(SYMBOLS), ids)


def score(text: str) -> float:
    """Return the log-probability of a text behind the prompt."""
    said = logs(PROMPT + text)[len(PROMPT) - 1 : -1].astype(np.float64)
    return float(sum(row[SYMBOLS.index(symbol)] for row, symbol in zip(said, text, strict=True)))


def carousel_command(server, *words: str, stdin: str = "") -> str:
    """Run the command line through real pipes, and return what it prints."""
    program = "from carousel_client.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        input=stdin,
        env=os.environ | {"CAROUSEL_ADDRESS": server.address, "COLUMNS": "200"},
        capture_output=True,
        check=False,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_strings_in_and_out(sdk):
    with sdk.open("letters") as session:
        assert session.info.classes == tuple(SYMBOLS)
        answer = session.step(PROMPT)
        np.testing.assert_allclose(answer, logs(PROMPT), atol=1e-5)
        assert answer.labels == [SYMBOLS[i] for i in logs(PROMPT).argmax(1)]
        np.testing.assert_allclose(answer.probabilities.sum(axis=1), 1, atol=1e-5)
        with pytest.raises(carousel.InvalidInput, match=r"'c' \(U\+0063\) at position 1"):
            session.step("ac")
        assert session.applied == len(PROMPT)
    with sdk.open_many("letters", 2) as group:
        first, second = group.step(["ab", PROMPT])
        np.testing.assert_allclose(first, logs("ab"), atol=1e-5)
        np.testing.assert_allclose(second, logs(PROMPT), atol=1e-5)


async def test_text_streams_in_pieces(server):
    async with (
        carousel.aio.connect(server.address) as client,
        client.open("letters") as session,
    ):
        pieces = [answer.array async for answer in session.stream(["ab", "\n", "ba"])]
        np.testing.assert_allclose(np.concatenate(pieces), logs(PROMPT), atol=1e-5)
        cold = await carousel.aio.text.generate(session, "a", 8, temperature=0)
    with carousel.connect(server.address) as client, client.open("letters") as session:
        session.step(PROMPT)
        assert carousel.text.generate(session, "a", 8, temperature=0) == cold


def test_without_warmth_each_symbol_is_the_most_probable(sdk):
    with sdk.open("letters") as session:
        text = carousel.text.generate(session, PROMPT, 12, temperature=0)
    assert len(text) == 12
    said = logs(PROMPT + text)[len(PROMPT) - 1 : -1]
    assert text == "".join(SYMBOLS[i] for i in said.argmax(1))


def test_what_is_drawn_has_its_probability(sdk):
    """Of many texts of two symbols, each is drawn as often as it is probable."""
    many = 600
    with sdk.open("letters") as session:
        answer = session.step(PROMPT)[-1]
        firsts = [answer.sample(seed) for seed in range(many)]
    expected = np.exp([score(symbol) for symbol in SYMBOLS])
    found = np.array([firsts.count(symbol) for symbol in SYMBOLS]) / many
    assert (np.abs(found - expected) < 4 * np.sqrt(expected * (1 - expected) / many)).all()


def test_a_wide_search_finds_the_most_probable_text_of_all(sdk):
    length = 4
    texts = ["".join(symbols) for symbols in itertools.product(SYMBOLS, repeat=length)]
    ranked = sorted(texts, key=score, reverse=True)
    with sdk.open("letters") as session:
        found = carousel.text.beam(session, PROMPT, length, beams=len(texts))
        assert sdk.sessions("letters")[0].id == session.id
        assert len(sdk.sessions("letters")) == 1  # every fork was closed
    assert [one.text for one in found] == ranked
    scores = [one.log_probability for one in found]
    np.testing.assert_allclose(scores, [score(text) for text in ranked], atol=1e-4)


async def test_a_narrow_search_keeps_the_best_of_each_round(server):
    kept = [""]
    for _ in range(8):
        kept = sorted((t + s for t in kept for s in SYMBOLS), key=score, reverse=True)[:3]
    async with (
        carousel.aio.connect(server.address) as client,
        client.open("letters") as session,
    ):
        found = await carousel.aio.text.beam(session, PROMPT, 8, beams=3)
    assert [one.text for one in found] == kept
    with carousel.connect(server.address) as client, client.open("letters") as session:
        assert [one.text for one in carousel.text.beam(session, PROMPT, 8, beams=3)] == kept


def test_the_command_line_streams_text(server):
    lines = carousel_command(server, "stream", "letters", stdin=PROMPT).splitlines()
    written = {"a": "a", "b": "b", "\n": "\\n"}
    assert lines[0] == "symbol,label,probability"
    for line, symbol, row in zip(lines[1:], PROMPT, logs(PROMPT), strict=True):
        said, label, probability = line.split(",")
        assert (said, label) == (written[symbol], written[SYMBOLS[row.argmax()]])
        assert float(probability) == pytest.approx(np.exp(row.max()), abs=1e-5)


def test_the_command_line_prints_labels(server):
    rows = "calm,windy,storm\n1,0,0\n0,3,0\n0,0,9\n"
    found = carousel_command(server, "stream", "weather", stdin=rows).splitlines()
    assert [line.split(",")[0] for line in found] == ["label", "calm", "windy", "storm"]
    every = carousel_command(server, "stream", "weather", "--probabilities", stdin=rows)
    head, first, *_ = every.splitlines()
    assert head == "label,probability,calm,windy,storm"
    sums = np.exp([1.0, 0, 0])
    np.testing.assert_allclose(
        [float(p) for p in first.split(",")[2:]], sums / sums.sum(), atol=1e-6
    )


def test_the_command_line_continues_a_text(server):
    words = ["generate", "letters", "--prompt", PROMPT, "--length", "5"]
    cold = carousel_command(server, *words, "--temperature", "0")
    with carousel.connect(server.address) as client, client.open("letters") as session:
        text = carousel.text.generate(session, PROMPT, 5, temperature=0)
    assert cold == f"{PROMPT}{text}\n"
    best = carousel_command(server, *words, "--beams", "2").splitlines()
    assert len(best) == 2
    assert float(best[0].split("\t")[0]) >= float(best[1].split("\t")[0])


def test_the_command_line_tells_what_models_take(server):
    found = carousel_command(server, "models")
    assert "  3 symbols" in found
    assert "  classes a, b, '\\n'" in found
    assert "  classes calm, windy, storm" in found
