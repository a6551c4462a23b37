"""What a file is, told by its bytes: for the sentence that one of the wrong kind is met with."""

from __future__ import annotations

import struct
import zipfile
import zlib
from enum import Enum
from pathlib import Path
from typing import Final

#: Keys that mark our own files among those of torch.save; their values are versions of layouts.
CHECKPOINT_KEY: Final = "carousel_checkpoint"
PROGRESS_KEY: Final = "carousel_training"

#: How zip archives begin, and so the files of torch.save; PyTorch before 1.6 wrote pickles.
ARCHIVE: Final = b"PK\x03\x04"
PICKLE: Final = b"\x80"
#: What zipfile meets a damaged archive with.
MISREAD: Final = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    ArithmeticError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    ValueError,
)
#: How much of a file that is of no known kind is shown.
_SHOWN: Final = 16
#: The part of an archive of torch.save that says what is in it.
_CONTENT: Final = "data.pkl"


class Kind(Enum):
    """Kinds of files that are easily taken for one another."""

    EMPTY = "empty"
    CHECKPOINT = "what `carousel-export train` leaves"
    PROGRESS = "what an interrupted `carousel-export train` leaves"
    TORCH = "another file of PyTorch's"
    OTHER = "none of these"


def kind(path: Path) -> Kind:
    """Tell what a file is, without unpickling anything; damaged files may be told wrongly."""
    begin = beginning(path)
    if not begin:
        return Kind.EMPTY
    if begin.startswith(PICKLE) or path.suffix == ".safetensors":
        return Kind.TORCH
    if not begin.startswith(ARCHIVE):
        return Kind.OTHER
    content = _content(path)
    if content is None:
        return Kind.OTHER
    ours = {CHECKPOINT_KEY: Kind.CHECKPOINT, PROGRESS_KEY: Kind.PROGRESS}
    return next((kind for key, kind in ours.items() if key.encode() in content), Kind.TORCH)


def not_onnx(path: Path) -> str:
    """Say what a file is that is no ONNX file."""
    expected = "and a model file, such as model.onnx, was expected"
    match kind(path):
        case Kind.EMPTY:
            return f"{path} is empty, {expected}."
        case Kind.CHECKPOINT:
            return (
                f"{path} is a checkpoint of `carousel-export train`, {expected}: make one with "
                f"`carousel-export convert {path} --out model.onnx`."
            )
        case Kind.PROGRESS:
            return (
                f"{path} is what an interrupted `carousel-export train` goes on from, {expected}: "
                "finish the run with --resume, then make one with `carousel-export convert`."
            )
        case Kind.TORCH:
            return (
                f"{path} is a file of PyTorch's, {expected}: `carousel-export convert` makes one "
                "of a network's state_dict or of a program."
            )
    begin = shown(beginning(path))
    return f"{path} is not an ONNX file, or not a whole one, {expected}; it begins with {begin}."


def beginning(path: Path) -> bytes:
    """Return the first bytes of a file."""
    with path.open("rb") as file:
        return file.read(_SHOWN)


def shown(begin: bytes) -> str:
    """Return how a file begins, for a sentence."""
    return repr(begin.decode("ascii", "backslashreplace"))


def _content(path: Path) -> bytes | None:
    """Return the pickle of an archive of torch.save; None where there is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [n for n in archive.namelist() if n.rpartition("/")[2] == _CONTENT]
            return archive.read(names[0]) if names else None
    except MISREAD:
        return None
