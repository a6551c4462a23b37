"""Networks made by others: the `state_dict` of an `nn.LSTM`, with an `nn.Linear` on top or without.

All sizes are read off the tensors. What a state_dict doesn't say (an activation between the two,
say) can't be known here; `batch_first` needs not be: it changes no weight.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from carousel_exporter.checkpoint import load_tensors_safely
from carousel_exporter.errors import CheckpointError, SettingsError
from carousel_exporter.network import Architecture, Forecaster

#: The names that keys must have in the end.
LSTM: Final = "lstm"
HEAD: Final = "head"
#: Where training frameworks put the state_dict in a larger file.
WRAPPERS: Final = ("state_dict", "model_state_dict")
#: Rows of a recurrent weight for each unit, and what they betray.
GATES: Final = {1: "a plain RNN", 3: "a GRU", 4: "an LSTM"}

_KEY = re.compile(
    r"(?P<prefix>.*?)(?P<kind>weight_ih|weight_hh|weight_hr|bias_ih|bias_hh)"
    r"_l(?P<layer>\d+)(?P<reverse>_reverse)?"
)


def read_tensors(path: Path) -> dict[str, Any]:
    """Read a .safetensors file, or the state_dict in a .pt or .pth file, without running its code.

    Raises CheckpointError where the file can't be read.
    """
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


def recognise(tensors: Mapping[str, Any]) -> Forecaster:
    """Make a network of an LSTM's tensors, in evaluation mode, in float32, without normalisation.

    Raises CheckpointError naming the key that is missing, extra or misshapen, or why the network
    can't be streamed.
    """
    tensors = _under_own_prefix(tensors)
    _refuse_unstreamable(tensors)
    architecture = _read_architecture(tensors)
    forecaster = Forecaster(architecture)
    expected = {name: tuple(p.shape) for name, p in forecaster.named_parameters()}
    _compare(tensors, expected, architecture.hidden)
    forecaster.load_state_dict(
        {name: tensors[name].to(torch.float32) for name in expected}, strict=False
    )
    return forecaster.eval()


def _under_own_prefix(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tensors with the LSTM's keys under `lstm.`, whatever they were under before."""
    matches = {key: _KEY.fullmatch(key) for key in tensors}
    prefixes = Counter(match["prefix"] for match in matches.values() if match)
    if not prefixes:
        raise CheckpointError(
            "No key looks like an nn.LSTM's (weight_ih_l0): rename with --map; the keys are "
            f"{', '.join(tensors) or 'none'}."
        )
    own = f"{LSTM}."
    prefix = own if own in prefixes else next(iter(prefixes))
    if prefix != own and len(prefixes) > 1:
        names = ", ".join(repr(name.rstrip(".")) for name in prefixes)
        raise CheckpointError(
            f"There are several recurrent layers, {names}: say which one with --map NAME={LSTM}."
        )
    return {
        own + key[len(prefix) :] if match and match["prefix"] == prefix else key: tensors[key]
        for key, match in matches.items()
    }


def _refuse_unstreamable(tensors: Mapping[str, Any]) -> None:
    for key in tensors:
        match = _KEY.fullmatch(key)
        if match and match["reverse"]:
            raise CheckpointError(
                f"The LSTM is bidirectional ({key!r}): it can't be streamed, because each answer "
                "depends on inputs that have not come yet; train it with bidirectional=False."
            )
        if match and match["kind"] == "weight_hr":
            raise CheckpointError(
                f"The LSTM projects its hidden state ({key!r}, proj_size > 0): that is not "
                "supported; train it with proj_size=0."
            )


def _read_architecture(tensors: Mapping[str, Any]) -> Architecture:
    layers = 1 + max(int(m["layer"]) for key in tensors if (m := _KEY.fullmatch(key)))
    recurrent = _matrix(tensors, f"{LSTM}.weight_hh_l0")
    hidden = recurrent.shape[1]
    gates = recurrent.shape[0] / hidden if hidden else 0
    if gates != 4:
        kind = f", as of {GATES[int(gates)]}" if gates in GATES else ""
        raise CheckpointError(
            f"'{LSTM}.weight_hh_l0' of an LSTM has the shape [4*H, H], and this one has "
            f"{list(recurrent.shape)}{kind}: only an nn.LSTM can be converted."
        )
    has_head = any(key.startswith(f"{HEAD}.") for key in tensors)
    return Architecture(
        features=_matrix(tensors, f"{LSTM}.weight_ih_l0").shape[1],
        hidden=hidden,
        layers=layers,
        outputs=_matrix(tensors, f"{HEAD}.weight").shape[0] if has_head else 0,
        bias=any(key.startswith(f"{LSTM}.bias") for key in tensors),
        head_bias=f"{HEAD}.bias" in tensors,
    )


def _matrix(tensors: Mapping[str, Any], key: str) -> Tensor:
    if key not in tensors:
        raise CheckpointError(f"The key {key!r} is missing; the keys are {', '.join(tensors)}.")
    value = tensors[key]
    if not isinstance(value, Tensor) or value.ndim != 2:
        raise CheckpointError(f"{key!r} must be a matrix, and is {_describe(value)}.")
    return value


def _compare(
    tensors: Mapping[str, Any], expected: Mapping[str, tuple[int, ...]], hidden: int
) -> None:
    for key, shape in expected.items():
        if key not in tensors:
            raise CheckpointError(f"The key {key!r} is missing; its shape would be {list(shape)}.")
        value = tensors[key]
        if not isinstance(value, Tensor) or tuple(value.shape) != shape:
            raise CheckpointError(
                f"{key!r} must have the shape {list(shape)}, and is {_describe(value)}."
            )
        if not value.is_floating_point():
            raise CheckpointError(f"{key!r} must hold floating-point numbers, not {value.dtype}.")
        if not torch.isfinite(value).all():
            raise CheckpointError(f"{key!r} holds a value that is not finite.")
    for key, value in tensors.items():
        if key not in expected:
            raise CheckpointError(
                f"The key {key!r} ({_describe(value)}) is neither an nn.LSTM's nor a Linear "
                f"head's.{_suggest(key, value, hidden, expected)}"
            )


def _suggest(key: str, value: object, hidden: int, expected: Mapping[str, object]) -> str:
    """Return advice where an extra key may well be the head's under another name."""
    stem, _, last = key.rpartition(".")
    fits = isinstance(value, Tensor) and value.shape[-1:] == (hidden,)
    if stem and last == "weight" and fits and f"{HEAD}.weight" not in expected:
        return f" If it is the Linear layer on top of the LSTM, add --map {stem}={HEAD}."
    return ""


def _describe(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {list(value.shape)}"
    return f"of type {type(value).__name__}"
