"""Text and labels at the command line."""

import csv
import io
import json

import numpy as np
import pytest

from carousel_client._models import model_info
from carousel_client._vocabulary import Vocabulary
from carousel_client.cli._answers import Style, answer_line, header
from carousel_client.cli._common import InputError
from carousel_client.cli._text import Place, TextSource
from tests.client.fake import I64, model, spec
from tests.client.speaking import LETTERS, next_letters, weather
from tests.client.test_cli import start

TWO = model_info(model("two", [spec("x", [3])], [weather("now"), weather("then")]))
CALM = np.float32([0.5, 0.3, 0.2])


def test_models_tell_symbols_and_classes(run):
    found = run("models").stdout
    assert "  31 symbols" in found
    assert "  classes calm, windy, storm" in found
    assert "(31 in all)" in found
    listed = {one["name"]: one for one in json.loads(run("models", "--json").stdout)}
    assert listed["letters"]["inputs"][0]["symbols"] == list(LETTERS)
    assert listed["weather"]["outputs"][0]["content"] == "probabilities"


def test_text_in_a_line_a_symbol_out(run):
    found = run("stream", "letters", stdin="ab\n,")
    assert found.exit_code == 0, found.stderr
    assert found.stdout == (
        'symbol,label,probability\na,a,0.75\nb,b,0.75\n\\n,\ufffd,0.75\n",", ,0.75\n'
    )
    plain = run("stream", "letters", "--no-header", "--chunk", "1", stdin="ab")
    assert plain.stdout == "a,a,0.75\nb,b,0.75\n"


def test_all_probabilities_on_demand(run):
    found = run("stream", "letters", "--probabilities", stdin="a").stdout
    head, line = csv.reader(found.splitlines())
    names = ["\\n" if letter == "\n" else letter for letter in LETTERS]
    assert head == ["symbol", "label", "probability", *names]
    assert line[:4] == ["a", "a", "0.75", "0.75"]
    assert sum(map(float, line[3:])) == pytest.approx(1, abs=1e-5)


def test_a_classifier_prints_labels(run):
    rows = "9,0,0\n0,0,30\n"
    found = run("stream", "weather", stdin=rows).stdout.splitlines()
    assert found[0] == "label,probability"
    assert [line.split(",")[0] for line in found[1:]] == ["calm", "storm"]
    every = run("stream", "weather", "--probabilities", stdin=rows).stdout.splitlines()
    assert every[0] == "label,probability,calm,windy,storm"
    assert float(every[1].split(",")[2]) == float(every[1].split(",")[1]) > 0.99


def test_labels_in_json(run):
    found = run("stream", "weather", stdin="[9, 0, 0]\n")
    answer = json.loads(found.stdout)["y"]
    assert answer["label"] == "calm"
    assert answer["probability"] == pytest.approx(0.9997, abs=1e-4)
    assert "probabilities" not in answer
    every = json.loads(run("stream", "weather", "--probabilities", stdin="[9, 0, 0]\n").stdout)
    assert list(every["y"]["probabilities"]) == ["calm", "windy", "storm"]


def test_numbers_go_in_where_they_are_asked_for(run):
    found = run("stream", "letters", "--format", "csv", "--no-header", stdin="0\n1\n")
    assert found.stdout == "a,0.75\nb,0.75\n"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["sum", "--format", "text"], "'sum' has no vocabulary, so it takes no text"),
        (["letters", "--fill", "forward"], "takes text: leave out --column and --fill"),
    ],
)
def test_options_that_do_not_fit_are_refused(run, words, why):
    found = run("stream", *words, stdin="ab")
    assert found.exit_code == 1
    assert why in found.stderr


def test_a_character_is_answered_as_soon_as_it_is_there(fake):
    process = start(fake, "stream", "letters", "--no-header")
    try:
        for letter, answer in [
            ("a", "a,a,0.75\n"),
            ("b", "b,b,0.75\n"),
            ("\n", "\\n,\ufffd,0.75\n"),
        ]:
            process.stdin.write(letter)
            process.stdin.flush()
            assert process.stdout.readline() == answer
    finally:
        out, errors = process.communicate(timeout=20)
    assert (process.returncode, out, errors) == (0, "", "")


def test_generate_writes_behind_the_prompt(run, fake):
    found = run("generate", "letters", "--prompt", "ab", "--length", "3", "--temperature", "0")
    assert (found.exit_code, found.stdout) == (0, "abbce\n")
    words = ["generate", "letters", "--prompt", "ab", "--length", "40", "--seed", "1"]
    assert run(*words).stdout == run(*words).stdout
    assert run(*words).stdout != run(*words[:-1], "2").stdout
    assert not fake.sessions


def test_generate_finds_the_most_probable(run, fake):
    words = ["generate", "letters", "--prompt", "ab", "--length", "3", "--beams", "2"]
    first, second = run(*words).stdout.splitlines()
    assert first == f'{3 * np.log(0.75):.4f}\t"bce"'
    score, text = second.split("\t")
    assert float(score) < 3 * np.log(0.75)
    assert len(json.loads(text)) == 3
    assert not fake.sessions


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["letters", "--prompt", ""], "the prompt is empty"),
        (["weather", "--prompt", "a"], "takes no text"),
        (["letters", "--prompt", "a", "--beams", "2", "--seed", "1"], "leave out --temperature"),
        (["letters", "--prompt", "a", "--temperature", "inf"], "temperature must be 0 or more"),
    ],
)
def test_generate_refuses_in_a_sentence(run, words, why):
    found = run("generate", *words)
    assert found.exit_code == 1
    assert why in found.stderr
    assert found.stdout == ""


@pytest.mark.parametrize("command", ["stream", "generate", "models"])
def test_help_has_examples(run, command):
    found = run(command, "--help")
    assert found.exit_code == 0
    assert f"carousel {command}" in found.stdout.split("Example", 1)[1]


def test_several_outputs_are_told_apart():
    answer = {"now": CALM, "then": CALM[::-1].copy()}
    assert header(TWO, Style()) == "now_label,now_probability,then_label,then_probability"
    assert answer_line(TWO, answer, Style()) == "calm,0.5,storm,0.5"


@pytest.mark.parametrize(
    ("name", "written"),
    [("storm", "storm"), ("\n", "\\n"), ("\\n", "\\\\n"), ("a,b", '"a,b"'), ('"', '""""')],
)
def test_a_label_stays_on_its_line(name, written):
    output = weather("y")
    output.columns[0] = name
    told = model_info(model("named", [spec("x", [3])], [output]))
    assert answer_line(told, {"y": CALM}, Style()) == f"{written},0.5"


class Pipe:
    """A raw pipe that holds some pieces, each read on its own."""

    def __init__(self, *pieces):
        self.pieces = list(pieces)

    def read(self, size):
        return self.pieces.pop(0) if self.pieces else b""


def source(symbols="abc\n", **options):
    known = Vocabulary(symbols)
    taken = spec("x", [], I64)
    taken.symbols.extend(symbols)
    told = model_info(model("text", [taken], [next_letters("y")]))
    return TextSource(told, known, options.get("chunk"), options.get("skip_bad", False))


def test_a_character_that_is_cut_in_two_is_read_whole():
    text = source("aé\n")
    cut = [bytes([byte]) for byte in "aéé\n".encode()]
    assert [chunk.tolist() for chunk in text.chunks(Pipe(*cut))] == [[0], [1], [1], [2]]
    assert source().where() == ""


def test_a_symbol_is_sent_once_it_is_clear_which_it_is():
    text = source(["a", "ab", "b"])
    assert [chunk.tolist() for chunk in text.chunks(Pipe(b"a", b"b", b"a"))] == [[1], [0]]


def test_chunks_have_their_size_and_place():
    text = source(chunk=2)
    chunks = text.chunks(io.BytesIO(b"\xef\xbb\xbfab\nca"))
    assert [chunk.tolist() for chunk in chunks] == [[0, 1], [3, 2], [0]]
    places = []
    while text.where():
        places.append((text.where(), *text.symbols(1)))
        text.over(1)
    assert places == [
        ("line 1, character 1: ", "a"),
        ("line 1, character 2: ", "b"),
        ("line 1, character 3: ", "\n"),
        ("line 2, character 1: ", "c"),
        ("line 2, character 2: ", "a"),
    ]


def test_an_unknown_character_is_refused_behind_what_is_known(capsys):
    chunks = source().chunks(Pipe(b"ab\nc!a"))
    assert next(chunks).tolist() == [0, 1, 3, 2]
    with pytest.raises(InputError) as refused:
        next(chunks)
    assert str(refused.value) == (
        r"line 2, character 2: '!' (U+0021) is not in the model's vocabulary of 4 symbols "
        r"('abc\n')"
    )
    skipping = source(skip_bad=True)
    chunks = [chunk.tolist() for chunk in skipping.chunks(Pipe(b"ab\nc!a"))]
    assert chunks == [[0, 1, 3, 2], [0]]
    assert "skipped: line 2, character 2: '!'" in capsys.readouterr().err
    skipping.over(4)
    assert skipping.where() == "line 2, character 3: "


@pytest.mark.parametrize("pieces", [[b"ab\xff"], [b"ab", b"\xff"], [b"ab", b"\xc3"]])
def test_what_is_no_text_is_refused_behind_what_is(pieces):
    chunks = source().chunks(Pipe(*pieces))
    got = [next(chunks).tolist()]
    with pytest.raises(InputError, match="what follows on line 1, character 3 is not UTF-8"):
        got.append(next(chunks))
    assert got == [[0, 1]]


def test_places_count_lines_and_characters():
    assert Place().after("ab") == (1, 3)
    assert Place().after("ab\nc") == (2, 2)
    assert Place(3, 7).after("\n\n") == (5, 1)
