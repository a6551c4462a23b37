"""What the example can be asked for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_EXAMPLES = """\
example:
  python -m examples.denoise model_1.onnx model_2.onnx noisy.wav

The models are pretrained_model/model_1.onnx and model_2.onnx of https://github.com/breizhn/DTLN
(MIT).
"""

_OUT = Path(__file__).parents[2] / ".demo" / "denoise"


@dataclass(frozen=True)
class Options:
    """The command line's arguments."""

    masking: Path
    mending: Path
    wav: Path
    out: Path
    picture: Path

    @property
    def models(self) -> Path:
        """The repository of models that is served."""
        return self.out / "models"

    @property
    def denoised(self) -> Path:
        """Where the sound goes."""
        return self.out / f"{self.wav.stem}-denoised.wav"


def parse_options(arguments: Sequence[str] | None = None) -> Options:
    """Read the command line; wrong usage and --help end the program."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.denoise",
        description="Adopt the two models of DTLN, serve them, and stream noisy speech to both.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("masking", type=Path, metavar="MODEL1.onnx", help="DTLN's first model")
    parser.add_argument("mending", type=Path, metavar="MODEL2.onnx", help="DTLN's second model")
    parser.add_argument("wav", type=Path, metavar="WAV", help="speech at 16 kHz, mono, 16 bits")
    parser.add_argument(
        "--out", type=Path, default=_OUT, help="folder for what is made (default: .demo/denoise)"
    )
    parser.add_argument(
        "--picture", type=Path, help="the PNG (default: denoise.png in that folder)"
    )
    given = parser.parse_args(arguments)
    out = given.out.resolve()
    return Options(
        masking=given.masking.resolve(),
        mending=given.mending.resolve(),
        wav=given.wav.resolve(),
        out=out,
        picture=given.picture.resolve() if given.picture else out / "denoise.png",
    )
