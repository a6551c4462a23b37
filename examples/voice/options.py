"""What the example can be asked for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_EXAMPLES = """\
example:
  python -m examples.voice silero_vad.onnx speech.wav

The model is src/silero_vad/data/silero_vad.onnx of https://github.com/snakers4/silero-vad (MIT).
"""

_OUT = Path(__file__).parents[2] / ".demo" / "voice"


@dataclass(frozen=True)
class Options:
    """The command line's arguments; `threshold` is a probability."""

    model: Path
    wav: Path
    out: Path
    picture: Path
    threshold: float

    @property
    def models(self) -> Path:
        """The repository of models that is served."""
        return self.out / "models"


def parse_options(arguments: Sequence[str] | None = None) -> Options:
    """Read the command line; wrong usage and --help end the program."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.voice",
        description="Adopt a voice activity detector, serve it, and stream a recording to it.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=Path, metavar="MODEL.onnx", help="Silero VAD")
    parser.add_argument("wav", type=Path, metavar="WAV", help="speech at 16 kHz, mono, 16 bits")
    parser.add_argument(
        "--out", type=Path, default=_OUT, help="folder for what is made (default: .demo/voice)"
    )
    parser.add_argument("--picture", type=Path, help="the PNG (default: voice.png in that folder)")
    parser.add_argument(
        "--threshold",
        type=_probability,
        default=0.5,
        help="the probability from which on a chunk is speech (default: 0.5)",
    )
    given = parser.parse_args(arguments)
    out = given.out.resolve()
    return Options(
        model=given.model.resolve(),
        wav=given.wav.resolve(),
        out=out,
        picture=given.picture.resolve() if given.picture else out / "voice.png",
        threshold=given.threshold,
    )


def _probability(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"a number between 0 and 1 is needed, not {text}")
    return value
