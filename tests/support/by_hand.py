"""Published models driven by hand with ONNX Runtime, as their authors' own scripts do it.

One session at a time, state and context carried here: what any server must answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnxruntime as ort

CONTEXT, CHUNK = 64, 512  # samples of the detector, at 16 kHz
FRAME, SHIFT = 512, 128  # samples of the suppressor


def open_session(path: Path | bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    content = path if isinstance(path, bytes) else str(path)
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def detect(session: ort.InferenceSession, samples: np.ndarray) -> np.ndarray:
    """Return the probability of speech of each whole chunk of samples (N,)."""
    rate = {"sr": np.array(16000)} if len(session.get_inputs()) == 3 else {}
    state, context = np.zeros((2, 1, 128), np.float32), np.zeros(CONTEXT, np.float32)
    answers = []
    for begin in range(0, len(samples) - CHUNK + 1, CHUNK):
        given = np.concatenate([context, samples[begin : begin + CHUNK]])
        feeds = {"input": given[None], "state": state, **rate}
        probability, state = session.run(["output", "stateN"], feeds)
        answers.append(probability[0, 0])
        context = given[-CONTEXT:]
    return np.array(answers)


def step_through(session: ort.InferenceSession, steps: Iterable[np.ndarray]) -> np.ndarray:
    """Run one of the suppressor's models over steps (F,); return its answers (T, F)."""
    x, state = (value.name for value in session.get_inputs())
    carried = np.zeros((1, 2, 128, 2), np.float32)
    answers = []
    for step in steps:
        y, carried = session.run(None, {x: step[None, None], state: carried})
        answers.append(y[0, 0])
    return np.stack(answers)


def suppress(masking: ort.InferenceSession, mending: ort.InferenceSession, samples: np.ndarray):
    """Return samples (N,) without noise: two buffers of one frame that move on by a shift.

    What leaves the second buffer is a frame less a shift behind what enters the first.
    """
    (x1, s1), (x2, s2) = ([v.name for v in m.get_inputs()] for m in (masking, mending))
    state1 = state2 = np.zeros((1, 2, 128, 2), np.float32)
    before, after = np.zeros(FRAME, np.float32), np.zeros(FRAME, np.float32)
    late = FRAME - SHIFT
    padded = np.pad(samples, (0, late + -(len(samples) + late) % SHIFT))
    parts = []
    for begin in range(0, len(padded), SHIFT):
        before = np.concatenate([before[SHIFT:], padded[begin : begin + SHIFT]])
        spectrum = np.fft.rfft(before)
        magnitude = np.abs(spectrum).astype(np.float32)
        mask, state1 = masking.run(None, {x1: magnitude[None, None], s1: state1})
        masked = magnitude * mask[0, 0] * np.exp(1j * np.angle(spectrum))
        sound = np.fft.irfft(masked).astype(np.float32)
        mended, state2 = mending.run(None, {x2: sound[None, None], s2: state2})
        after = np.concatenate([after[SHIFT:], np.zeros(SHIFT, np.float32)]) + mended[0, 0]
        parts.append(after[:SHIFT])
    return np.concatenate(parts)[late:][: len(samples)]
