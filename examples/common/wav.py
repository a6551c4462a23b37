"""Speech in WAV files: 16 kHz, one channel, 16 bits a sample, as the models want it."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from carousel_exporter.files import replacing
from examples.common.errors import DemoError

Samples = NDArray[np.float32]

#: Samples a second.
RATE: Final = 16_000
_BYTES = 2
_FULL_SCALE = 2**15


def read_wav(path: Path) -> Samples:
    """Read a WAV file into samples (N,) between -1 and 1. Raises DemoError on any other kind."""
    try:
        with wave.open(str(path), "rb") as file:
            _check_kind(path, file)
            declared, content = file.getnframes(), file.readframes(file.getnframes())
    except FileNotFoundError:
        raise DemoError(f"There is no file {path}.") from None
    except OSError as error:
        raise DemoError(f"{path} can't be read: {error.strerror or error}.") from error
    except (wave.Error, EOFError) as error:
        reason = str(error) or "it ends within its header"
        raise DemoError(f"{path} is no WAV file that can be read here: {reason}.") from error
    if len(content) != declared * _BYTES or not content:
        raise DemoError(
            f"{path} should hold {declared} samples and holds {len(content) // _BYTES}: it is cut "
            "off or empty."
        )
    return (np.frombuffer(content, "<i2") / np.float32(_FULL_SCALE)).astype(np.float32)


def write_wav(path: Path, samples: Samples) -> None:
    """Write samples (N,) as a WAV file; those beyond -1 and 1 are clipped."""
    scaled = np.rint(samples.astype(np.float64) * _FULL_SCALE)
    content = np.clip(scaled, -_FULL_SCALE, _FULL_SCALE - 1).astype("<i2").tobytes()
    with replacing(path) as temporary, wave.open(str(temporary), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(_BYTES)
        file.setframerate(RATE)
        file.writeframes(content)


def _check_kind(path: Path, file: wave.Wave_read) -> None:
    found = (file.getframerate(), file.getnchannels(), 8 * file.getsampwidth())
    if found != (RATE, 1, 8 * _BYTES):
        rate, channels, bits = found
        raise DemoError(
            f"{path} has {rate} Hz, {channels} channel{'s' * (channels != 1)} and {bits} bits, and "
            f"{RATE} Hz, 1 channel and {8 * _BYTES} bits are needed: "
            f"`ffmpeg -i {path} -ar {RATE} -ac 1 -sample_fmt s16 speech.wav` makes such a file."
        )
