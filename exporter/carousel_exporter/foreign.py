"""Files of tensors that others made: reading them safely, finding the state_dict, renaming keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import safetensors
import safetensors.torch
from torch import Tensor

from carousel_exporter.errors import CheckpointError, SettingsError
from carousel_exporter.tensorfile import load_tensors_safely

#: Where training frameworks put the state_dict in a larger file.
WRAPPERS: Final = ("state_dict", "model_state_dict")


def read_tensors(path: Path) -> dict[str, Any]:
    """Read a .safetensors file, or the state_dict in a .pt or .pth file, without running its code.

    Raises CheckpointError where the file can't be read.
    """
    if path.suffix == ".onnx":
        raise CheckpointError(
            f"{path} is an ONNX file, and not PyTorch's: `carousel-export adopt` takes those."
        )
    if path.suffix == ".safetensors":
        try:
            return dict(safetensors.torch.load_file(path))
        except FileNotFoundError:
            raise CheckpointError(f"There is no file {path}.") from None
        except (OSError, safetensors.SafetensorError) as error:
            raise CheckpointError(f"{path} can't be read as safetensors: {error}.") from error
    return load_tensors_safely(path)


def unwrap(content: dict[Any, Any]) -> dict[str, Any]:
    """Return the state_dict inside a file's content, or the content itself.

    One level down it is found under its usual names, or where it is the only dictionary of tensors
    and no tensor lies beside it. Raises CheckpointError where there are several to choose from, or
    a key is no name.
    """
    found = _innermost(content)
    odd = next((key for key in found if not isinstance(key, str)), None)
    if odd is not None:
        raise CheckpointError(f"Tensors must have names, and one has the key {odd!r}.")
    return found


def _innermost(content: dict[Any, Any]) -> dict[Any, Any]:
    for name in WRAPPERS:
        if isinstance(content.get(name), dict):
            return dict(content[name])
    if any(isinstance(value, Tensor) for value in content.values()):
        return content
    inner = [name for name, value in content.items() if _is_state_dict(value)]
    if len(inner) > 1:
        raise CheckpointError(
            "There are several dictionaries of tensors one level down, "
            f"{', '.join(map(repr, inner))}: save the one that is meant, as "
            "torch.save(model.state_dict(), FILE) does."
        )
    return dict(content[inner[0]]) if inner else content


def _is_state_dict(value: object) -> bool:
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(each, Tensor) for each in value.values())
    )


def parse_renames(pairs: Sequence[str]) -> dict[str, str]:
    """Parse OLD=NEW pairs. Raises SettingsError on anything else."""
    renames: dict[str, str] = {}
    for pair in pairs:
        old, equals, new = pair.partition("=")
        old, new = old.rstrip("."), new.rstrip(".")
        if not (old and equals):
            raise SettingsError(
                f"--map takes OLD=NEW, a key or the part of it before a dot, not {pair!r}."
            )
        if old in renames:
            raise SettingsError(f"--map names {old!r} twice.")
        renames[old] = new
    return renames


def rename(tensors: Mapping[str, Any], renames: Mapping[str, str]) -> dict[str, Any]:
    """Rename keys, or their parts before a dot; an empty new name takes the part away.

    Of two names that fit a key the longer wins. Raises SettingsError where a name fits no key or
    two keys end up with one name.
    """
    unused = set(renames)
    result: dict[str, Any] = {}
    for key, value in tensors.items():
        fitting = [old for old in renames if key == old or key.startswith(f"{old}.")]
        old = max(fitting, key=len, default=None)
        new = key if old is None else (renames[old] + key[len(old) :]).lstrip(".")
        unused.discard(old or "")
        if new in result:
            raise SettingsError(f"--map gives two keys the name {new!r}.")
        result[new] = value
    if unused:
        raise SettingsError(
            f"--map {sorted(unused)[0]}=… fits no key; the keys are {', '.join(tensors)}."
        )
    return result
