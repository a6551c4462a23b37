"""The published models and recordings, where CAROUSEL_TEST_DATA says that they are.

It names a folder with

- `models/silero_vad.onnx` and `models/silero_vad_openvino_16k.onnx`, the latter with all sizes
  fixed, and `audio/silero_test.wav`, a minute of speech, of snakers4/silero-vad (MIT);
- `models/dtln_model_1.onnx` and `models/dtln_model_2.onnx`, of breizhn/DTLN (MIT);
- `audio/gtcrn_mix.wav`, noisy speech, of Xiaobin-Rong/gtcrn (MIT).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from examples.common.wav import RATE, write_wav
from tests.support import audio_models

VARIABLE = "CAROUSEL_TEST_DATA"


@dataclass(frozen=True)
class Audio:
    """Files of the voice detector (and its twin of fixed sizes), of the suppressor, and sound."""

    voice: Path
    voice_fixed: Path
    masking: Path
    mending: Path
    speech: Path
    noisy: Path


def published() -> Audio:
    """Return the published files; skip the test where there are none."""
    folder = os.environ.get(VARIABLE)
    if not folder:
        pytest.skip(f"{VARIABLE} names no folder with published models and recordings")
    models, audio = Path(folder) / "models", Path(folder) / "audio"
    return Audio(
        models / "silero_vad.onnx",
        models / "silero_vad_openvino_16k.onnx",
        models / "dtln_model_1.onnx",
        models / "dtln_model_2.onnx",
        audio / "silero_test.wav",
        audio / "gtcrn_mix.wav",
    )


def look_alikes(folder: Path) -> Audio:
    """Write files that look like the published ones, and seconds of noise."""
    made = {
        "voice.onnx": audio_models.voice_detector(),
        "voice_fixed.onnx": audio_models.voice_detector(fixed=True),
        "masking.onnx": audio_models.mask_estimator(),
        "mending.onnx": audio_models.sound_mender(),
    }
    for name, model in made.items():
        (folder / name).write_bytes(model.SerializeToString())
    rng = np.random.default_rng(0)
    for name, seconds in (("speech.wav", 6), ("noisy.wav", 2)):
        write_wav(folder / name, rng.normal(0, 0.1, seconds * RATE + 100).astype(np.float32))
    return Audio(*(folder / name for name in [*made, "speech.wav", "noisy.wav"]))
