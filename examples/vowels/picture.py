"""The picture: how soon the speaker is known, and one utterance as it goes on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from carousel_exporter.files import replacing
from carousel_exporter.sequences import Sequences
from examples.vowels.hearing import Heard
from examples.vowels.streaming import Answers
from examples.vowels.utterances import FRAME

_RIGHT = "#c026d3"
_REST = "#1f2937"
_QUIET = "#94a3b8"


def draw_picture(path: Path, heard: Heard, answers: Answers, test: Sequences) -> None:
    """Write the picture as a PNG."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.set_title("How soon the speaker is known")
    left.step(heard.milliseconds, heard.right, color=_RIGHT, where="post", label="right answers")
    share = heard.speaking / heard.speaking[0]
    left.fill_between(
        heard.milliseconds, share, step="post", color=_QUIET, alpha=0.3, label="still speaking"
    )
    left.set_xlabel("heard (ms)")
    left.set_ylabel("share of the held-out utterances")
    left.set_ylim(0, 1.02)
    left.legend(frameon=False, loc="lower right")

    which = hesitant(answers, test)
    speaker = int(test.labels[which][-1])
    probabilities = np.exp(answers[which])  # (T, 9)
    times = FRAME * np.arange(1, len(probabilities) + 1)
    for place, name in enumerate(test.classes):
        is_right = place == speaker
        right.plot(
            times,
            probabilities[:, place],
            color=_RIGHT if is_right else _REST,
            linewidth=2 if is_right else 0.8,
            alpha=1 if is_right else 0.5,
            marker="." if is_right else None,
            label=f"speaker {name}, who speaks" if is_right else None,
        )
    right.set_title("One utterance: each speaker's probability")
    right.set_xlabel("heard (ms)")
    right.set_ylim(0, 1.02)
    right.legend(frameon=False, loc="center right")
    for panel in (left, right):
        panel.grid(alpha=0.3)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def hesitant(answers: Answers, test: Sequences) -> int:
    """Return the utterance that is known late: right in the end, and wrong for longest before."""

    def wrong_frames(which: int) -> int:
        right = answers[which].argmax(axis=1) == test.labels[which]
        return int((~right).sum()) if right[-1] else -1

    return max(range(len(answers)), key=wrong_frames)
