"""Things said of a good file that aren't so: a sentence with what is so, and no file."""

import re

import pytest

from carousel_exporter.cli import main
from tests.exporter.refused import good, saved
from tests.exporter.zoo.build import build
from tests.exporter.zoo.recipe import Recipe


def test_the_good_file_is_taken_with_flags_that_are_so(tmp_path):
    path, out = saved(tmp_path, good()), tmp_path / "model.onnx"
    states = ["--state", "h=h_out:1", "--state", "c=c_out:1"]
    assert main(["adopt", str(path), *states, "--out", str(out)]) == 0
    assert out.is_file()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--state", "h"], ["--state takes IN=OUT"]),
        (["--state", "gone=h_out", "--state", "c=c_out"], ["'gone'", "'h'"]),
        (["--state", "h=gone", "--state", "c=c_out"], ["'gone'", "'h_out'"]),
        (["--state", "h=h_out", "--state", "h=c_out"], ["'h' is in two --state"]),
        (["--state", "h=h_out", "--state", "c=h_out"], ["'h_out' is in two --state"]),
        (["--state", "h=h_out:7", "--state", "c=c_out"], ["axis 7", "'h'"]),
        (["--state", "h=h_out:0", "--state", "c=c_out"], ["'h'"]),
        (["--state", "h=h_out", "--state", "c=y"], ["'y'", "'c'"]),
        (["--state", "h=h_out"], ["'c'"]),
        (["--constant", "gone=1"], ["'gone'"]),
        (["--constant", "x=loud"], ["'x'", "loud"]),
        (["--context", "gone=2"], ["'gone'"]),
        (["--context", "x=99"], ["99", "'x'"]),
        (["--context", "x=0"], ["--context"]),
        (["--size", "x:9=2"], ["axis 9", "'x'"]),
        (["--init", "h=gone.npy"], ["gone.npy"]),
        (["--constant", "x=1", "--constant", "x=2"], ["'x' twice"]),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith("--") else "",
)
def test_flags_that_are_not_so(tmp_path, refused, flags, words):
    error = refused(saved(tmp_path, good()), *flags)
    assert all(word in error for word in words), error


def _with(**changes) -> Recipe:
    return Recipe(layers=2, layout=("BH",), **changes)


@pytest.mark.parametrize(
    ("recipe", "pairs", "words"),
    [
        # A graph that loops over time carries its own states in a long run.
        (Recipe(layers=2, form="time_major"), "h=c_out c=h_out", r"by \d.*e-05 is allowed"),
        # An LSTM's c goes on element by element, and h doesn't.
        (Recipe(layers=2), "h=c_out c=h_out", r"'c': 0% .* 100% do in 'c_out'"),
        (Recipe(cell="plain_lstm"), "h=c_out c=h_out", r"'c': 0% .* 100% do in 'c_out'"),
        # The first layer can't depend on the second one's state.
        (_with(cell="gru", form="batch_first"), "h0=h1_out h1=h0_out", "changes it by 0"),
        (_with(cell="plain_gru"), "h0=h1_out h1=h0_out", "changes it by 0"),
        (_with(cell="plain_rnn"), "h0=h1_out h1=h0_out", "changes it by 0"),
        # The operator itself can be run over several steps.
        (
            Recipe(cell="gru", layout=("BH",), extras=frozenset({"features"})),
            "h0=features",
            r"differs by \d.*e-05 is allowed",
        ),
        # An output that is the state that came is none.
        (
            Recipe(layout=("BH",), extras=frozenset({"delay"})),
            "h0=h0_out c0=c0_out last_x=before",
            r"always equals what went in as 'last_x' \(difference 0\)",
        ),
    ],
    ids=str,
)
def test_wrong_pairs_are_refused_with_the_numbers_that_show_it(
    tmp_path, refused, recipe, pairs, words
):
    flags = [word for pair in pairs.split() for word in ("--state", pair)]
    assert re.search(words, refused(saved(tmp_path, build(recipe).model), *flags))


def test_a_state_that_was_left_out_is_named(tmp_path, refused):
    made = build(Recipe(layout=("BH",), extras=frozenset({"counter"}))).model
    error = refused(saved(tmp_path, made), "--state", "h0=h0_out", "--state", "c0=c0_out")
    assert "add --state seen=seen_out" in error


def test_the_original_is_not_written_over(tmp_path, capsys):
    path = saved(tmp_path, good())
    before = path.read_bytes()
    assert main(["adopt", str(path), "--yes", "--out", str(path)]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert path.read_bytes() == before
