"""Reading files that `torch.save` wrote, without running code of theirs.

What PyTorch says of a damaged file is about its own insides; what is wrong is found here instead.
"""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any, Final

import torch

from carousel_exporter.errors import CheckpointError
from carousel_exporter.filekinds import ARCHIVE, MISREAD, PICKLE, beginning, shown

#: The part of an archive that says what tensors there are, and one that only TorchScript has.
_CONTENT: Final = "/data.pkl"
_SCRIPT: Final = "/constants.pkl"


def load_tensors_safely(path: Path) -> dict[Any, Any]:
    """Read a .pt or .pth file without running code from it; its content must be a dictionary.

    Raises CheckpointError naming the file, what was expected and what came.
    """
    begin = _beginning(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # PyTorch's unpickler meets garbage with whatever it trips over
        raise CheckpointError(_flaw(path, begin, error)) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} must hold a dictionary of tensors, and holds a {type(content).__name__}."
        )
    return content


def check_sums(path: Path) -> None:
    """Raise CheckpointError where a part of the archive isn't what was written.

    PyTorch doesn't look: a changed bit of a weight would be a wrong network without a word. Files
    of others may have been written without sums (`set_crc32_options`), so this is for our own.
    """
    if flaw := _archive_flaw(path):
        raise CheckpointError(f"{path} can't be read: {flaw}.")


def _beginning(path: Path) -> bytes:
    """Return a file's first bytes; there are some."""
    try:
        begin = beginning(path)
    except FileNotFoundError:
        raise CheckpointError(f"There is no file {path}.") from None
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror or error}.") from error
    if not begin:
        raise CheckpointError(f"{path} is empty: it must hold what torch.save wrote.")
    return begin


def _flaw(path: Path, begin: bytes, error: Exception) -> str:
    """Say why PyTorch could not read a file that begins so."""
    if isinstance(error, OSError) and error.strerror and not begin.startswith(ARCHIVE):
        return f"{path} can't be read: {error.strerror}."
    if not begin.startswith((ARCHIVE, PICKLE)):
        return (
            f"{path} can't be read: a file that torch.save wrote was expected, and this one begins "
            f"with {shown(begin)}."
        )
    if begin.startswith(ARCHIVE) and (flaw := _archive_flaw(path)):
        return f"{path} can't be read: {flaw}."
    if isinstance(error, pickle.UnpicklingError):
        return (
            f"{path} can't be read safely: it must hold tensors and plain values only, as "
            "torch.save(model.state_dict(), FILE) writes them."
        )
    return (
        f"{path} can't be read: it is damaged, for it begins as a file of torch.save does and does "
        "not go on as one."
    )


def _archive_flaw(path: Path) -> str:
    """Say what is wrong with a zip archive of torch.save, in words; empty where nothing is."""
    try:
        if not zipfile.is_zipfile(path):
            return (
                "a whole file of torch.save was expected, and this one breaks off after "
                f"{path.stat().st_size:,} bytes, before its table of contents"
            )
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            damaged = archive.testzip()
    except MISREAD:
        return "it is damaged: its table of contents doesn't fit what is in it"
    if damaged is not None:
        return f"it is damaged: its part {damaged!r} is not what torch.save wrote there"
    if not any(name.endswith(_CONTENT) for name in names):
        return (
            "a file that torch.save wrote was expected, and this is another zip archive, of "
            f"{', '.join(names[:3]) or 'nothing'}{', …' if len(names) > 3 else ''}"
        )
    if any(name.endswith(_SCRIPT) for name in names):
        return (
            "a file of tensors was expected, as torch.save(model.state_dict(), FILE) writes it, "
            "and this one is a TorchScript program"
        )
    return ""
