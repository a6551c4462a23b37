"""What voice and denoise do with sound, without models."""

import wave

import numpy as np
import pytest

from examples.common.errors import DemoError
from examples.common.wav import read_wav, write_wav
from examples.denoise import frames
from examples.denoise.loudness import measure
from examples.denoise.picture import spectrogram
from examples.voice.picture import envelope
from examples.voice.speech import Stretch, find_speech, is_speech
from examples.voice.streaming import chunks

RNG = np.random.default_rng(0)


def write_other(path, *, rate=16000, channels=1, width=2, content=b"\0" * 64):
    with wave.open(str(path), "wb") as file:
        file.setframerate(rate)
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.writeframes(content)
    return path


def test_sound_is_written_as_it_is_read(tmp_path):
    sound = (RNG.integers(-(2**15), 2**15, 1000) / 2**15).astype(np.float32)
    write_wav(tmp_path / "a.wav", sound)
    np.testing.assert_array_equal(read_wav(tmp_path / "a.wav"), sound)


def test_what_is_too_loud_is_clipped_and_does_not_wrap(tmp_path):
    write_wav(tmp_path / "a.wav", np.float32([1.5, -1.5]))
    np.testing.assert_array_equal(read_wav(tmp_path / "a.wav"), np.float32([32767 / 32768, -1]))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path, "There is no file"),
        (lambda path: path.mkdir(), "Is a directory"),
        (lambda path: path.write_bytes(b"no sound at all"), "no WAV file"),
        (lambda path: path.write_bytes(b""), "ends within its header"),
        (lambda path: write_other(path, rate=44100, channels=2), "44100 Hz, 2 channels and 16"),
        (lambda path: write_other(path, width=1), "1 channel and 8 bits, and 16000 Hz"),
        (lambda path: write_other(path, content=b""), "is cut off or empty"),
        (
            lambda path: path.write_bytes(write_other(path).read_bytes()[:-9]),
            "should hold 32 samples and holds 27",
        ),
    ],
)
def test_other_files_are_refused_in_a_sentence(tmp_path, make, words):
    path = tmp_path / "a.wav"
    make(path)
    with pytest.raises(DemoError, match=words):
        read_wav(path)


def test_chunks_are_all_of_one_size_and_the_last_ends_in_silence():
    sound = RNG.normal(size=1100).astype(np.float32)
    cut = list(chunks(sound))
    assert [len(chunk) for chunk in cut] == [512, 512, 512]
    np.testing.assert_array_equal(np.concatenate(cut), np.pad(sound, (0, 436)))


def test_speech_begins_at_the_threshold_and_ends_well_below_it():
    found = find_speech([0.1, 0.5, 0.4, 0.36, 0.2, 0.49, 0.9], threshold=0.5)
    assert found == [Stretch(1, 4), Stretch(6, 7)]
    assert is_speech(found, 7).tolist() == [False, True, True, True, False, False, True]
    assert find_speech([], threshold=0.5) == []


def test_an_envelope_touches_the_extremes_of_its_columns():
    sound = np.float32([0, 1, -1, 0, 0.5, 0.25, 0, -0.5])
    low, high, seconds = envelope(sound, 2)
    assert low.tolist() == [-1, -0.5]
    assert high.tolist() == [1, 0.5]
    assert seconds.tolist() == [0, 4 / 16000]
    assert len(envelope(sound[:3], 2000)[0]) == 3


@pytest.mark.parametrize("length", [1, 127, 128, 512, 1000, 4097])
def test_frames_a_quarter_as_loud_add_up_to_the_sound(length):
    sound = RNG.normal(size=length).astype(np.float32)
    cut = list(frames.frames(sound))
    assert len(cut) == frames.count_frames(length)
    assert {frame.shape for frame in cut} == {(512,)}
    back = frames.overlap_add((frame / 4 for frame in cut), length)
    np.testing.assert_allclose(back, sound, atol=1e-6)


def test_a_frame_comes_back_from_its_magnitude_and_phase():
    frame = RNG.normal(size=512).astype(np.float32)
    magnitude, phase = frames.analyse(frame)
    assert magnitude.shape == phase.shape == (257,)
    np.testing.assert_allclose(frames.synthesise(magnitude, phase), frame, atol=1e-5)


def test_no_frame_hears_what_comes_after_it():
    """Each frame ends with the 128 samples that came last, as a stream has them."""
    sound = np.arange(1, 1025, dtype=np.float32)
    for number, frame in enumerate(frames.frames(sound)):
        assert frame.max() <= 128 * (number + 1)


def test_a_tone_stands_at_its_frequency():
    seconds = np.arange(8000) / 16000
    level = spectrogram(np.sin(2 * np.pi * 2000 * seconds).astype(np.float32))
    assert level.shape[0] == 257
    assert set(level.argmax(axis=0)) == {64}  # 2000 Hz of bins 31.25 Hz wide
    assert spectrogram(np.zeros(10, np.float32)).shape == (257, 1)


def test_levels_are_of_the_quietest_and_the_loudest_tenth():
    sound = np.concatenate([np.full(5120, 0.1), np.full(5120, 0.001)]).astype(np.float32)
    level = measure(sound)
    assert level.loudest == pytest.approx(-20, abs=0.01)
    assert level.quietest == pytest.approx(-60, abs=0.01)
