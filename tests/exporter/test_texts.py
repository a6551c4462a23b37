"""Texts: the vocabulary, counting, learning, and what is wrong with some."""

import math
from collections import Counter

import numpy as np
import pytest
import torch

from carousel_exporter.corpus import UNKNOWN, decode, encode, make_corpus, read_text
from carousel_exporter.errors import DataError, SettingsError
from carousel_exporter.language import TextLesson, nats_a_character, score_text
from carousel_exporter.ngrams import bits_a_character, probabilities
from carousel_exporter.settings import TrainingSettings
from carousel_exporter.training import train

from .labelled import TEXT

QUICK = TrainingSettings(window=32, batch=8, hidden=24, epochs=12, learning_rate=1e-2, seed=1)


def test_the_vocabulary_is_the_training_parts_and_rare_characters_are_unknown():
    text = "abab" * 20 + "q" + "abab" * 20 + "zzzz" * 10
    corpus = make_corpus(text)
    assert corpus.symbols == (UNKNOWN, "a", "b", "z")[: len(corpus.symbols)]
    assert "q" not in corpus.symbols  # it stands once
    assert corpus.ids[80] == 0
    assert decode(corpus.ids[:4], corpus.symbols) == "abab"


def test_encoding_knows_every_character():
    assert encode("a?b", (UNKNOWN, "a", "b")).tolist() == [1, 0, 2]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty: a text was expected"),
        (b" \n\n", "is empty: a text was expected"),
        (b"caf\xe9 noir", "no text in UTF-8: its byte 3 can't be read"),
    ],
)
def test_what_is_wrong_with_a_text_is_said(tmp_path, content, words):
    path = tmp_path / "t.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_text(path)


def test_a_missing_text_and_a_folder_are_named(tmp_path):
    with pytest.raises(DataError, match=r"no file .*gone\.txt"):
        read_text(tmp_path / "gone.txt")
    with pytest.raises(DataError, match="can't be read: Is a directory"):
        read_text(tmp_path)


def test_line_ends_are_those_of_unix(tmp_path):
    path = tmp_path / "t.txt"
    path.write_bytes(b"a\r\nb\n")
    assert read_text(path) == "a\nb\n"


def test_a_text_too_short_is_refused():
    with pytest.raises(SettingsError, match="3 characters is too short"):
        make_corpus("abc")
    lesson = TextLesson(make_corpus("ab" * 20))
    with pytest.raises(SettingsError, match=r"31 steps to learn from, and a window has 32"):
        lesson.build(QUICK)


def test_a_text_that_never_repeats_is_refused():
    with pytest.raises(SettingsError, match="No character stands 2 times in the training part"):
        make_corpus("".join(map(chr, range(0x4E00, 0x4E00 + 100))))


def witten_bell(known, context, symbol, vocabulary):
    """The formula, word by word."""
    places = range(len(context), len(known))
    followers = Counter(
        int(known[p]) for p in places if list(known[p - len(context) : p]) == list(context)
    )
    lower = witten_bell(known, context[1:], symbol, vocabulary) if len(context) else 1 / vocabulary
    total, kinds = sum(followers.values()), len(followers)
    return (followers[symbol] + kinds * lower) / (total + kinds) if total else lower


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_counting_is_the_formula(order):
    rng = np.random.default_rng(order)
    known, judged = rng.integers(0, 4, 200), rng.integers(0, 5, 40)
    found = probabilities(known, judged, vocabulary=5, order=order)
    expected = [
        witten_bell(known, judged[p - order + 1 : p], int(judged[p]), 5)
        for p in range(order - 1, len(judged))
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_counted_probabilities_sum_to_one():
    rng = np.random.default_rng(0)
    known = rng.integers(0, 3, 100)
    context = [2, 1, 0, 1]
    total = sum(
        probabilities(known, np.array([*context, x]), vocabulary=4, order=5)[0] for x in range(4)
    )
    assert total == pytest.approx(1)


def test_counting_knows_what_it_has_seen():
    ids = encode(TEXT, sorted(set(TEXT)))
    vocabulary = len(set(TEXT))
    assert bits_a_character(ids, ids[:200], vocabulary=vocabulary) < 0.3
    # Nothing is known of these: every character has the same probability.
    none = bits_a_character(np.full(50, 0), np.array([1, 2, 3, 4, 5, 6]), vocabulary=7)
    assert none > math.log2(7)
    with pytest.raises(SettingsError, match="takes 5 characters, not 3"):
        bits_a_character(ids, ids[:3], vocabulary=vocabulary)


def test_it_learns_to_go_on_with_a_text():
    corpus = make_corpus(TEXT)
    lesson = TextLesson(corpus)
    result = train(lesson, QUICK)
    assert result.best.loss < 0.3 * result.epochs[0].validation_loss
    score = score_text(result.best.network, corpus, warm_up=100)
    assert score.network < 1.0
    assert score.characters == corpus.split.test - corpus.split.validation - 1


def test_a_long_part_is_judged_as_a_whole(monkeypatch):
    corpus = make_corpus(TEXT)
    network = TextLesson(corpus).build(QUICK).eval()
    ids = torch.from_numpy(corpus.ids)
    whole = nats_a_character(network, ids, 1000, 1200, 50)
    monkeypatch.setattr("carousel_exporter.language.JUDGED_TOGETHER", 33)
    assert nats_a_character(network, ids, 1000, 1200, 50) == pytest.approx(whole, rel=1e-5)
    with torch.no_grad():
        y, _ = network(ids[950:1199, None])
    expected = -y[50:, 0].gather(1, ids[1001:1200, None]).mean().item()
    assert whole == pytest.approx(expected, rel=1e-5)


def test_a_network_and_counting_are_judged_on_the_same_characters():
    corpus = make_corpus(TEXT)
    network = TextLesson(corpus).build(QUICK).eval()
    score = score_text(network, corpus, warm_up=10)
    start, split = corpus.split.validation, corpus.split
    p = probabilities(
        corpus.ids[: split.train], corpus.ids[start - 3 :], vocabulary=len(corpus.symbols)
    )
    assert len(p) == score.characters
    assert score.counting == pytest.approx(-np.log2(p).mean())
