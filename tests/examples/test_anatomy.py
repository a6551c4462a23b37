"""The pictures of docs/lstm.md: what is measured and computed for them, and that they are drawn."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from examples.anatomy import __main__ as anatomy
from examples.anatomy import characters
from examples.anatomy.characters import Settings, read_text, train
from examples.anatomy.gates import Gates, run_layer, run_on_tokens
from examples.anatomy.gradients import STARTS, Start, build, measure
from examples.anatomy.heatmap import busiest
from examples.common.errors import DemoError

ROOT = Path(__file__).parents[2]
#: Every character follows from the one before, but for the one after a space.
SENTENCES = "the cat sat. the dog ran. "
TINY = Settings(hidden=8, embedding=4, batch=4, window=8, updates=3)


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(SENTENCES * 500)
    return path


def test_gates_are_those_that_pytorch_keeps_to_itself():
    torch.manual_seed(0)
    lstm = torch.nn.LSTM(3, 5)
    x = torch.randn(20, 3)
    gates = run_layer(lstm, x)
    y, (h, c) = lstm(x[:, None])
    torch.testing.assert_close(gates.h, y[:, 0])
    torch.testing.assert_close(gates.h[-1], h[0, 0])
    torch.testing.assert_close(gates.c[-1], c[0, 0])
    for gate in (gates.i, gates.f, gates.o):
        assert ((gate > 0) & (gate < 1)).all()
    before = torch.cat([torch.zeros(1, 5), gates.c[:-1]])
    torch.testing.assert_close(gates.c, gates.f * before + gates.i * gates.g)


def test_a_gradient_is_the_share_that_reaches_back():
    """A finite difference of the last h says the same of one input."""
    network = build(Start("", "lstm", ""), seed=1)
    shares = measure(network, steps=6)
    assert shares.shape == (6,)
    assert shares[0] == 1
    assert (shares > 0).all()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 64, 2, generator=generator, dtype=torch.float64)
    direction = torch.randn(64, 64, generator=generator, dtype=torch.float64)

    @torch.inference_mode()
    def slope(step, feature):
        ends = []
        for side in (-1e-6, 1e-6):
            moved = x.clone()
            moved[step, :, feature] += side
            ends.append((network(moved)[0][-1] * direction).sum(dim=1))
        return (ends[1] - ends[0]) / 2e-6

    norms = [torch.stack([slope(step, 0), slope(step, 1)]).norm(dim=0) for step in (5, 2)]
    expected = (norms[1] / norms[0]).median()
    assert shares[3] == pytest.approx(float(expected), rel=1e-4)


def test_a_chrono_lstm_reaches_back_where_a_plain_rnn_does_not():
    shares = {start.title: measure(build(start), steps=100)[99] for start in STARTS}
    assert shares["LSTM, chrono for 200 steps"] > 0.01
    assert shares["RNN, PyTorch's start"] < 1e-12


def test_the_units_shown_are_those_that_move_slow_memories_first():
    time = torch.linspace(0, 2 * torch.pi, 100)
    still = torch.full((100,), 0.5)
    slow, fast = torch.sin(time), torch.sin(20 * time)

    def gate(*units):
        return torch.stack(units, dim=1)

    half = gate(still, still, still, still)
    moving = gate(slow / 2 + 0.5, still, fast / 2 + 0.5, still)
    c = gate(slow, 0.01 * slow, fast, 0.001 * fast)
    assert busiest(Gates(i=half, f=moving, g=half, o=half, c=c, h=c), 2) == [0, 2]


def test_a_character_model_learns_a_text(text):
    read = read_text(text)
    assert len(read.training) + len(read.held_out) == len(SENTENCES) * 500
    settings = Settings(hidden=16, embedding=8, batch=8, window=16, updates=150, rate=2e-2)
    *_, network = train(read, settings)
    bits = characters.bits_a_character(network.eval(), read.held_out)
    assert bits < 0.5 * characters.commonest_bits(read)
    torch.testing.assert_close(
        run_on_tokens(network, read.encode("the cat")).h.shape, torch.Size([7, 16])
    )


def test_a_text_and_its_numbers_are_the_same(text):
    read = read_text(text)
    assert read.decode(read.encode("the dog")) == "the dog"
    assert characters.commonest_bits(read) < np.log2(len(read.alphabet))


def test_streams_go_on_from_window_to_window_and_begin_again(text):
    """More updates than the text has windows: it starts over, with a new state."""
    short = text.with_name("short.txt")
    short.write_text(SENTENCES * 400)
    settings = Settings(hidden=4, embedding=4, batch=64, window=64, updates=6)
    assert len(list(train(read_text(short), settings))) == 6


@pytest.mark.parametrize(
    ("content", "sentence", "words"),
    [
        (None, "the", "There is no file"),
        (b"\xff\xfe" * 9000, "the", "is no text in UTF-8"),
        (b"short", "the", "has 5 characters, and a model needs 10,000"),
        (SENTENCES.encode() * 500, "the zoo", "has the character 'z', which the text has not"),
    ],
)
def test_what_cannot_be_read_is_told_before_anything_is_drawn(
    tmp_path, capsys, content, sentence, words
):
    if content is not None:
        (tmp_path / "a.txt").write_bytes(content)
    out = tmp_path / "out"
    arguments = ["--text", str(tmp_path / "a.txt"), "--sentence", sentence, "--out", str(out)]
    assert anatomy.main(arguments) == 1
    told = " ".join(capsys.readouterr().out.split())
    assert words in told
    assert not out.exists()


def test_a_sentence_needs_a_text(capsys):
    with pytest.raises(SystemExit) as ended:
        anatomy.main(["--sentence", "the"])
    assert ended.value.code == 2
    assert "--sentence needs --text" in capsys.readouterr().err


def test_a_stranger_in_a_sentence_is_named(text):
    with pytest.raises(DemoError, match="the character 'Q'"):
        read_text(text).encode("Q")


def test_every_picture_is_drawn(text, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "examples.anatomy", "--text", str(text), "--updates", "3"]
    done = subprocess.run(
        [*command, "--out", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert re.search(r"\d\.\d\d bits a character", done.stdout)
    assert {path.name for path in out.iterdir()} == {
        "lstm-cell.png",
        "rnn-and-gru-cells.png",
        "stacked-layers.png",
        "gradients.png",
        "gates.png",
    }
    for path in out.iterdir():
        assert path.read_bytes().startswith(b"\x89PNG")
