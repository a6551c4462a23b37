"""What must be said of the detector that its file doesn't say itself."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import onnx
from google.protobuf.message import DecodeError

from examples.common.errors import DemoError
from examples.common.wav import RATE

SOURCE: Final = (
    "get src/silero_vad/data/silero_vad.onnx from https://github.com/snakers4/silero-vad, and give "
    "its path"
)
#: Samples of the chunk before that the detector wants in front of each chunk, 4 ms at 16 kHz.
CONTEXT: Final = 64


def flags(model: Path) -> tuple[str, ...]:
    """Return the flags of `carousel-export adopt` for a detector's file.

    Raises DemoError where the file is none.
    """
    names = _inputs(model)
    wanted = {"input", "state"}
    if not wanted <= names:
        raise DemoError(
            f"{model} has the inputs {', '.join(sorted(names)) or 'none'}, and a Silero VAD of "
            f"version 5 or newer has input and state: {SOURCE}."
        )
    rate = ("--constant", f"sr={RATE}") if "sr" in names else ()
    return ("--context", f"input={CONTEXT}", *rate)


def _inputs(model: Path) -> set[str]:
    try:
        graph = onnx.load(model, load_external_data=False).graph
    except FileNotFoundError:
        raise DemoError(f"There is no file {model}; {SOURCE}.") from None
    except (OSError, DecodeError) as error:
        raise DemoError(f"{model} can't be read as an ONNX file; {SOURCE}.") from error
    weights = {tensor.name for tensor in graph.initializer}
    return {value.name for value in graph.input} - weights
