"""Text out of probabilities, without a server: against every text there is, tried one by one."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import carousel_client as carousel
from carousel.v1 import manifest_pb2 as mf
from carousel_client._models import model_info
from carousel_client._writing import Language, Search, Writer, best
from tests.client.fake import I64, model, spec

SYMBOLS = "ab\ufffd"


def classes(names, content=mf.TENSOR_CONTENT_LOG_PROBABILITIES, name="y"):
    return mf.TensorSpec(name=name, dtype=1, shape=[len(names)], columns=names, content=content)


def language(*outputs, symbols=SYMBOLS):
    taken = mf.TensorSpec(name="x", dtype=I64, minimum=0, maximum=len(symbols) - 1, symbols=symbols)
    return model_info(model("tiny", [taken], outputs or [classes(symbols)]))


def after(text, size=3):
    """Return made-up log-probabilities of the symbol behind a text: (size,)."""
    logs = np.random.default_rng([*text.encode(), 1]).normal(0, 2, size)
    return logs - np.log(np.exp(logs).sum())


def found_by_search(prompt, length, beams):
    """Return what beam search finds where `after` is the model, which needs no states."""
    search = Search(language(), length, beams)
    heirs, texts = search.extend([after(prompt)]), [prompt]
    for step in range(length):
        texts = [texts[p] + SYMBOLS[s] for p, s in zip(heirs.parents, heirs.symbols, strict=True)]
        if step < length - 1:
            heirs = search.extend([after(text) for text in texts])
    found = search.hypotheses()
    assert [prompt + one.text for one in found] == texts
    return found


def score(prompt, text):
    """Return a text's log-probability behind a prompt."""
    places = range(len(text))
    return sum(after(prompt + text[:i])[SYMBOLS.index(text[i])] for i in places)


@pytest.mark.parametrize("prompt", ["a", "b", "ab", "bbb"])
@pytest.mark.parametrize("length", [1, 2, 5])
def test_with_beams_enough_the_most_probable_of_all_texts_is_found(prompt, length):
    texts = ["".join(symbols) for symbols in itertools.product("ab", repeat=length)]
    ranked = sorted(texts, key=lambda text: -score(prompt, text))
    found = found_by_search(prompt, length, 2**length)
    assert [one.text for one in found] == ranked
    scores = [score(prompt, text) for text in ranked]
    np.testing.assert_allclose([one.log_probability for one in found], scores)


@pytest.mark.parametrize("beams", [1, 2, 3])
def test_with_few_beams_it_is_a_beam_search(beams):
    kept = [""]
    for _ in range(6):
        longer = [text + symbol for text in kept for symbol in "ab"]
        kept = sorted(longer, key=lambda text: -score("a", text))[:beams]
    assert [one.text for one in found_by_search("a", 6, beams)] == kept


@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 30), st.integers(0, 2**32))
def test_the_best_are_the_best_of_all(k, v, beams, seed):
    rng = np.random.default_rng(seed)
    scores, logs = (
        rng.normal(size=k),
        np.where(rng.random((k, v)) < 0.2, -np.inf, rng.random((k, v))),
    )
    parents, symbols, totals = best(scores, logs, beams)
    every = sorted((scores[:, None] + logs)[np.isfinite(logs)].tolist(), reverse=True)
    assert totals.tolist() == every[:beams]
    assert np.array_equal(scores[parents] + logs[parents, symbols], totals)
    pairs = list(zip(parents.tolist(), symbols.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)


def test_heirs_say_who_goes_on_with_whose_state():
    search = Search(language(), 3, 3)
    heirs = search.extend([np.log([0.6, 0.4, 0.0 + 1e-9])])
    assert heirs == ([0, 0], [0, 1], [True, False], [])
    heirs = search.extend([np.log([0.5, 0.5, 1e-9]), np.log([0.1, 0.9, 1e-9])])
    assert heirs == ([1, 0, 0], [1, 0, 1], [True, True, False], [])
    heirs = search.extend([np.log([0.9, 0.1, 1e-9]), *[np.log([0.01, 0.01, 1e-9])] * 2])
    assert heirs.parents[:2] == [0, 0]
    assert heirs.first[:2] == [True, False]
    assert heirs.childless in ([1], [2])


def test_the_unknown_symbol_is_never_written():
    writer = Writer(language(), 1, 1.0, 0)
    sure = np.log([1e-6, 1e-6, 1.0])
    assert {writer.next(sure) for _ in range(50)} <= {0, 1}
    assert Writer(language(), 1, 0.0, 0).next(sure) in (0, 1)
    assert {one.text for one in found_by_search("a", 2, 99)} == {"aa", "ab", "ba", "bb"}
    search = Search(language(), 1, 9)
    with pytest.raises(carousel.InvalidInput, match="nothing follows"):
        search.extend([np.array([-np.inf, -np.inf, 0.0])])


def test_the_classes_may_be_in_another_order_and_content():
    told = language(
        spec("depth", [1]), classes("ba", mf.TENSOR_CONTENT_PROBABILITIES, "next"), symbols="abc"
    )
    answer = {"depth": np.zeros((2, 1)), "next": np.array([[1.0, 0.0], [0.25, 0.75]])}
    np.testing.assert_allclose(Language(told).logs(answer), [np.log(0.75), np.log(0.25), -np.inf])


def test_a_long_prompt_goes_in_chunks():
    chunks = list(Language(language()).prompt("ab" * 1500))
    assert [len(chunk) for chunk in chunks] == [1024, 1024, 952]
    assert np.concatenate(chunks).tolist() == [0, 1] * 1500


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Language(language(classes("abc"))), "no language model: no output has"),
        (lambda: Language(language(spec("y", [3]))), "no language model"),
        (lambda: Language(model_info(model("sum", [spec("x", [2])], [spec("y", [2])]))), "no text"),
        (lambda: Language(language()).prompt(""), "the prompt is empty"),
        (lambda: Writer(language(), 0, 1.0, 0), "length must be at least 1, but is 0"),
        (lambda: Search(language(), 1, 0), "beams must be at least 1, but is 0"),
    ],
)
def test_what_cannot_be_written_is_refused(make, why):
    with pytest.raises(carousel.InvalidInput, match=why):
        make()
