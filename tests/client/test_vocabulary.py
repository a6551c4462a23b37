"""Text to numbers and back: the longest symbol each time, and unknown characters told apart."""

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

import carousel_client as carousel
from carousel_client._vocabulary import UNKNOWN, Vocabulary

SYMBOLS = st.lists(st.text("abé\n\U0001f300", min_size=1, max_size=4), min_size=1, unique=True)
TEXTS = st.text("abé\n\U0001f300c")


def by_hand(symbols, text):
    """Return the longest symbols from the left, tried one by one; None where none fits."""
    ids = []
    while text:
        fitting = [symbol for symbol in symbols if text.startswith(symbol)]
        if not fitting:
            return None
        ids.append(symbols.index(max(fitting, key=len)))
        text = text[len(symbols[ids[-1]]) :]
    return ids


@given(SYMBOLS, TEXTS)
def test_the_longest_symbol_is_taken_each_time(symbols, text):
    expected = by_hand(symbols, text)
    if expected is None:
        with pytest.raises(carousel.InvalidInput, match=r"at position \d+ is not in"):
            Vocabulary(symbols).encode(text)
    else:
        assert Vocabulary(symbols).encode(text) == expected


@given(SYMBOLS, TEXTS)
def test_what_can_be_encoded_is_decoded_to_itself(symbols, text):
    known = Vocabulary(symbols)
    assume(by_hand(symbols, text) is not None)
    assert known.decode(known.encode(text)) == text


@given(SYMBOLS, TEXTS)
def test_with_an_unknown_symbol_every_text_is_encoded(symbols, text):
    known = Vocabulary([*symbols, UNKNOWN])
    decoded = known.decode(known.encode(text))
    assert len(decoded) == len(text)
    assert all(mine in (theirs, UNKNOWN) for mine, theirs in zip(decoded, text, strict=True))


@given(SYMBOLS, st.lists(TEXTS))
@example(["ab", "abc", "a", "b", "c"], ["ab", "", "ab", "c"])
def test_a_text_in_pieces_is_read_as_the_whole(symbols, pieces):
    known = Vocabulary(symbols)
    whole = known.scan("".join(pieces))
    ids, rest = [], ""
    for number, piece in enumerate([*pieces, ""]):
        rest += piece
        found = known.scan(rest, more=number < len(pieces))
        ids += found.ids
        rest = rest[found.end :]
        if found.stuck:
            break
    assert ids == whole.ids
    assert found.stuck == whole.stuck


@given(SYMBOLS, TEXTS)
def test_every_symbol_ends_where_the_next_begins(symbols, text):
    found = Vocabulary(symbols).scan(text)
    begins = [0, *found.ends]
    parts = [text[i:j] for i, j in zip(begins, found.ends, strict=False)]
    assert parts == [symbols[number] for number in found.ids]
    assert found.end == begins[-1]


def test_only_what_could_become_another_symbol_is_waited_for():
    known = Vocabulary(["a", "abc", "b", "c"])
    assert known.scan("ca", more=True).ids == [3]  # "abc" may come
    assert known.scan("cab", more=True).ids == [3]
    assert known.scan("cab").ids == [3, 0, 2]
    assert known.scan("cac", more=True).ids == [3, 0, 3]
    assert known.scan("cb", more=True).ids == [3, 2]


def test_an_unknown_character_is_named_with_its_place():
    with pytest.raises(carousel.InvalidInput) as error:
        Vocabulary("abc").encode("ab\u00e9")
    assert str(error.value) == (
        "'é' (U+00E9) at position 2 is not in the model's vocabulary of 3 symbols ('abc')"
    )
    many = Vocabulary([chr(0x4E00 + i) for i in range(100)])
    with pytest.raises(carousel.InvalidInput, match=r"of 100 symbols \('.{40}…'\)"):
        many.encode("a")


def test_nothing_is_normalised():
    known = Vocabulary(["e", "\u0301", "\u00e9", "\r", "\n"])
    assert known.encode("e\u0301\u00e9\r\n") == [0, 1, 2, 3, 4]


def test_only_symbols_numbers_are_decoded():
    known = Vocabulary("abc")
    assert known.decode([[0, 1], [2, 0]]) == "abca"
    assert known.decode(2) == "c"
    assert known.decode([]) == ""
    for wrong, why in [([0, 3], "from 0 to 2, but got 3"), (-1, "got -1"), (0.5, "got float64")]:
        with pytest.raises(carousel.InvalidInput, match=why):
            known.decode(wrong)


def test_an_empty_symbol_is_never_found_in_a_text():
    assert Vocabulary(["", "a"]).encode("aa") == [1, 1]
    assert Vocabulary(["", "a"]).decode([0, 1, 0]) == "a"
