"""The denoising example as a whole, as somebody runs it, and how it ends."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from examples.common.wav import read_wav, write_wav
from examples.denoise import __main__ as denoise
from tests.examples.processes import is_running
from tests.support import by_hand

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("denoise")


@pytest.fixture(scope="module")
def done(out, audio):
    command = [sys.executable, "-m", "examples.denoise", str(audio.masking), str(audio.mending)]
    return subprocess.run(
        [*command, str(audio.noisy), "--out", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_the_sound_that_it_writes_is_what_the_models_make_of_it_by_hand(done, out, audio):
    assert done.returncode == 0, done.stdout + done.stderr
    sessions = (by_hand.open_session(audio.masking), by_hand.open_session(audio.mending))
    expected = by_hand.suppress(*sessions, read_wav(audio.noisy))
    found = read_wav(out / f"{audio.noisy.stem}-denoised.wav")
    # One step of 16 bits: a difference of 1e-7 may round to either side.
    np.testing.assert_allclose(found, np.clip(expected, -1, 1), atol=1.01 / 2**15)


def test_it_draws_both_spectrograms_and_tells_the_levels(done, out):
    assert (out / "denoise.png").read_bytes().startswith(b"\x89PNG")
    assert "quietest tenth" in done.stdout
    assert done.stdout.count("what the server counted of m") == 2


def test_it_leaves_no_process_and_prints_plain_text_alone(done):
    (pid,) = re.findall(r"process (\d+)", done.stdout)
    assert not is_running(int(pid))
    assert done.stderr == ""
    assert not [c for c in done.stdout if not (c.isprintable() or c == "\n")]


def test_a_missing_model_is_told_with_where_to_get_it(tmp_path, capsys):
    write_wav(tmp_path / "a.wav", np.zeros(1000, np.float32))
    gone = [str(tmp_path / name) for name in ("1.onnx", "2.onnx")]
    assert denoise.main([*gone, str(tmp_path / "a.wav"), "--out", str(tmp_path / "out")]) == 1
    told = " ".join(capsys.readouterr().out.split())
    assert "github.com/breizhn/DTLN" in told
    assert not (tmp_path / "out").exists()


def test_models_that_were_given_the_wrong_way_round_are_told(tmp_path, audio, capsys):
    write_wav(tmp_path / "a.wav", np.zeros(1000, np.float32))
    models = [str(audio.mending), str(audio.masking)]
    assert denoise.main([*models, str(tmp_path / "a.wav"), "--out", str(tmp_path)]) == 1
    told = " ".join(capsys.readouterr().out.split())
    assert "maps 257 numbers to 257 was expected for masking" in told
