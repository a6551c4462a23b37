"""The model repository: a folder of `NAME/VERSION/model.onnx`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from carousel_server.errors import ModelFileError
from carousel_server.versions import Stamp, age

FILE_NAME = "model.onnx"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One version of one model in the repository."""

    name: str
    version: str
    path: Path


def scan(folder: Path) -> list[Entry]:
    """Return every model file in the repository, by name, oldest version first.

    Raises:
        ModelFileError: the folder is no repository, or holds no model.

    """
    if not folder.is_dir():
        raise ModelFileError(
            folder,
            f"there is no such folder; --models names one that holds NAME/VERSION/{FILE_NAME}",
        )
    entries = [
        Entry(path.parent.parent.name, path.parent.name, path)
        for path in folder.glob(f"*/*/{FILE_NAME}")
        if not path.parent.name.startswith(".") and not path.parent.parent.name.startswith(".")
    ]
    if not entries:
        raise ModelFileError(folder, f"it holds no NAME/VERSION/{FILE_NAME}")
    for entry in entries:
        check_name(entry)
    return sorted(entries, key=lambda entry: (entry.name, age(entry.version)))


def check_name(entry: Entry) -> None:
    """Refuse names that would not travel.

    Raises:
        ModelFileError: the model or the version has such a name.

    """
    for part in (entry.name, entry.version):
        if not _NAME.fullmatch(part):
            raise ModelFileError(
                entry.path,
                f"{part!r} is no name for a model or a version: "
                "letters, digits, '.', '_' and '-' are",
            )


def look(folder: Path) -> dict[Entry, Stamp]:
    """Return the model files that are in the repository now, whatever their names.

    Raises:
        OSError: a folder or file is there and can't be asked: what is in it is not known.

    """
    found = {}
    for version in (path for model in _folders(folder) for path in _folders(model)):
        entry = Entry(version.parent.name, version.name, version / FILE_NAME)
        with suppress(FileNotFoundError):
            found[entry] = Stamp.of(entry.path)
    return found


def _folders(folder: Path) -> list[Path]:
    """Return the folders in a folder; none where that is gone by now."""
    try:
        return [p for p in folder.iterdir() if not p.name.startswith(".") and p.is_dir()]
    except FileNotFoundError:
        return []


def slips(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield folders that hold no model where one is looked for, and what was expected instead."""
    for model in sorted(_folders(folder)):
        if (model / FILE_NAME).is_file():
            yield model, f"{model.name}/VERSION/{FILE_NAME}"
        for version in sorted(_folders(model)):
            if (version / FILE_NAME).is_file():
                continue
            deeper = any((path / FILE_NAME).is_file() for path in _folders(version))
            why = ", and no slash in a model's name" if deeper else ""
            yield version, FILE_NAME + why
