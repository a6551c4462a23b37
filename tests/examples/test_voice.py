"""The voice example as a whole, as somebody runs it, and how it ends."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from examples.common.wav import write_wav
from examples.voice import __main__ as voice
from tests.examples.processes import is_running
from tests.support import audio_models

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("voice")


@pytest.fixture(scope="module")
def done(out, audio):
    command = [sys.executable, "-m", "examples.voice", str(audio.voice), str(audio.speech)]
    return subprocess.run(
        [*command, "--out", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_it_tells_what_it_heard_and_draws_it(done, out):
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"[\d,]+ chunks in .* x real time", done.stdout)
    assert re.search(r"speech in \d+% of the chunks", done.stdout)
    assert (out / "voice.png").read_bytes().startswith(b"\x89PNG")


def test_without_a_terminal_it_prints_plain_text_alone(done):
    assert done.stderr == ""
    assert not [c for c in done.stdout if not (c.isprintable() or c == "\n")]


def test_it_leaves_a_model_file_and_no_process(done, out):
    (pid,) = re.findall(r"process (\d+)", done.stdout)
    assert not is_running(int(pid))
    assert (out / "models" / "vad" / "1" / "model.onnx").is_file()


def test_the_twin_of_fixed_sizes_will_do_too(tmp_path, audio, capsys):
    write_wav(tmp_path / "a.wav", np.zeros(5000, np.float32))
    arguments = [str(audio.voice_fixed), str(tmp_path / "a.wav"), "--out", str(tmp_path)]
    assert voice.main(arguments) == 0, capsys.readouterr().out
    assert "10 chunks" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("model", "wav", "words"),
    [
        ("gone.onnx", "good.wav", "github.com/snakers4/silero-vad"),
        ("text.onnx", "good.wav", "can't be read as an ONNX file"),
        ("other.onnx", "good.wav", "has the inputs input_4, input_5"),
        ("gone.onnx", "gone.wav", "There is no file"),
        ("gone.onnx", "text.onnx", "is no WAV file"),
    ],
)
def test_what_is_missing_is_told_with_where_to_get_it(tmp_path, capsys, model, wav, words):
    write_wav(tmp_path / "good.wav", np.zeros(1000, np.float32))
    (tmp_path / "text.onnx").write_text("no model")
    onnx.save(audio_models.sound_mender(), tmp_path / "other.onnx")
    arguments = [str(tmp_path / model), str(tmp_path / wav), "--out", str(tmp_path / "out")]
    assert voice.main(arguments) == 1
    told = " ".join(capsys.readouterr().out.split())
    assert words in told
    assert "Traceback" not in told
    assert not (tmp_path / "out" / "models").exists()


def test_a_threshold_is_a_probability(capsys):
    with pytest.raises(SystemExit) as ended:
        voice.main(["a.onnx", "a.wav", "--threshold", "1.5"])
    assert ended.value.code == 2
    assert "between 0 and 1 is needed, not 1.5" in capsys.readouterr().err
