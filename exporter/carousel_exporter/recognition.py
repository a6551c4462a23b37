"""What network a state_dict is of: embedding, recurrent layers, linear heads, all sizes.

Everything is read off names and shapes. What a state_dict doesn't say (an activation between two
layers, say) can't be known here; `batch_first` needs not be: it changes no weight.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor

from carousel_exporter.cells import CELLS, GRU, LSTM, NONLINEARITIES, RNN
from carousel_exporter.errors import CheckpointError, SettingsError
from carousel_exporter.network import Architecture, RecurrentNetwork

#: The names that keys must have in the end, beside a recurrent layer's, which are those of CELLS.
HEAD: Final = "head"
EMBEDDING: Final = "embedding"

_KEY = re.compile(
    r"(?P<prefix>.*?)(?P<kind>weight_ih|weight_hh|weight_hr|bias_ih|bias_hh)"
    r"_l(?P<layer>\d+)(?P<reverse>_reverse)?"
)
_HEAD_KEY = re.compile(rf"{HEAD}\.(?:(?P<name>[^.]+)\.)?(?P<kind>weight|bias)")

Tensors = Mapping[str, Any]
Shapes = dict[str, tuple[int, ...]]


def recognise(tensors: Tensors, nonlinearity: str | None = None) -> RecurrentNetwork:
    """Make a network of a state_dict's tensors, in evaluation mode, in float32, unnormalised.

    `nonlinearity` is what a plain RNN squashes with, which its tensors don't tell. Raises
    CheckpointError naming the key that is missing, extra or misshapen, or why the network can't be
    streamed; SettingsError where `nonlinearity` is missing, or there is no choice of one.
    """
    prefix = _recurrent_prefix(tensors)
    cell = _read_cell(tensors, prefix)
    tensors = {
        f"{cell}.{key[len(prefix) :]}" if _is_recurrent(key, prefix) else key: value
        for key, value in tensors.items()
    }
    heads = _read_heads(tensors)
    architecture = _read_architecture(tensors, cell, heads, _checked(nonlinearity, cell))
    network = RecurrentNetwork(architecture)
    expected = _expected(network, tensors, heads)
    _compare(tensors, expected, architecture)
    network.load_state_dict(_joined(tensors, expected, heads), strict=False)
    return network.eval()


def bidirectional(name: str) -> str:
    """Say why a network with a bidirectional layer, of this name, is refused."""
    return (
        f"The network is bidirectional ({name!r}): it can't be streamed, because each answer "
        "depends on inputs that have not come yet; train it with bidirectional=False."
    )


def _is_recurrent(key: str, prefix: str) -> bool:
    match = _KEY.fullmatch(key)
    return match is not None and match["prefix"] == prefix


def _recurrent_prefix(tensors: Tensors) -> str:
    """Return what stands before the keys of the one recurrent module, its dot included."""
    found = [match for key in tensors if (match := _KEY.fullmatch(key))]
    prefixes = Counter(match["prefix"] for match in found)
    if not prefixes:
        raise CheckpointError(
            "No key looks like one of nn.LSTM, nn.GRU or nn.RNN (weight_ih_l0): rename with "
            f"--map; the keys are {', '.join(tensors) or 'none'}."
        )
    own = [prefix for prefix in prefixes if prefix.removesuffix(".") in CELLS]
    if len(own) != 1 and len(prefixes) > 1:
        names = ", ".join(repr(name.rstrip(".")) for name in prefixes)
        raise CheckpointError(
            f"There are several recurrent layers, {names}: say which one with --map NAME=lstm "
            "(or gru, or rnn)."
        )
    prefix = own[0] if own else next(iter(prefixes))
    for match in found:
        if match["reverse"]:
            raise CheckpointError(bidirectional(match[0]))
    return prefix


def _read_cell(tensors: Tensors, prefix: str) -> str:
    """Tell the kind of the layers by the shape of the first one's recurrent weight."""
    key = f"{prefix}weight_hh_l0"
    if f"{prefix}weight_hr_l0" in tensors:
        return LSTM.name  # no other kind projects its h
    rows, hidden = _matrix(tensors, key).shape
    for cell in CELLS.values():
        if rows == cell.gates * hidden and hidden:
            return cell.name
    raise CheckpointError(
        f"{key!r} has the shape {[rows, hidden]}, and that of an LSTM is [4*H, H], of a GRU "
        "[3*H, H], of a plain RNN [H, H]: this is none of them."
    )


def _checked(nonlinearity: str | None, cell: str) -> str:
    choices = " or ".join(NONLINEARITIES)
    if cell != RNN.name:
        if nonlinearity is not None:
            raise SettingsError(
                f"--nonlinearity is for a plain RNN, and this is {_article(cell)}: leave it out."
            )
        return "tanh"
    if nonlinearity is None:
        raise SettingsError(
            "This is a plain RNN, and its tensors don't tell what it squashes with: add "
            f"--nonlinearity {choices} (tanh is what nn.RNN takes where it isn't told)."
        )
    if nonlinearity not in NONLINEARITIES:
        raise SettingsError(f"--nonlinearity takes {choices}, not {nonlinearity!r}.")
    return nonlinearity


def _article(cell: str) -> str:
    return "a GRU" if cell == GRU.name else "an LSTM"


def _read_heads(tensors: Tensors) -> dict[str, int]:
    """Return the heads' names and widths in the order of their keys; "" is one without a name."""
    names = dict.fromkeys(
        match["name"] or "" for key in tensors if (match := _HEAD_KEY.fullmatch(key))
    )
    if "" in names and len(names) > 1:
        other = next(name for name in names if name)
        raise CheckpointError(
            f"There is a head without a name beside 'head.{other}': where there are several, "
            "give each one its own with --map OLD=head.NAME."
        )
    return {name: len(_matrix(tensors, _head_key(name, "weight"))) for name in names}


def _head_key(name: str, kind: str) -> str:
    return ".".join(part for part in (HEAD, name, kind) if part)


def _read_architecture(
    tensors: Tensors, cell: str, heads: Mapping[str, int], nonlinearity: str
) -> Architecture:
    layers = 1 + max(int(m["layer"]) for key in tensors if (m := _KEY.fullmatch(key)))
    rows, top = _matrix(tensors, f"{cell}.weight_hh_l0").shape
    is_projected = f"{cell}.weight_hr_l0" in tensors
    has_embedding = f"{EMBEDDING}.weight" in tensors
    return Architecture(
        features=_matrix(tensors, f"{cell}.weight_ih_l0").shape[1],
        hidden=rows // CELLS[cell].gates,
        layers=layers,
        outputs=sum(heads.values()),
        bias=any(key.startswith(f"{cell}.bias") for key in tensors),
        head_bias=any(_head_key(name, "bias") in tensors for name in heads),
        cell=cell,
        nonlinearity=nonlinearity,
        projection=top if is_projected else 0,
        vocabulary=len(_matrix(tensors, f"{EMBEDDING}.weight")) if has_embedding else 0,
        heads=tuple((name, width) for name, width in heads.items() if name),
    )


def _expected(network: RecurrentNetwork, tensors: Tensors, heads: Mapping[str, int]) -> Shapes:
    """Return the keys that a state_dict of this network has, and their shapes.

    The heads are one in `network`, and one each in the state_dict, with a bias or without.
    """
    own = {name: tuple(p.shape) for name, p in network.named_parameters()}
    expected = {name: shape for name, shape in own.items() if not _HEAD_KEY.fullmatch(name)}
    for name, width in heads.items():
        expected[_head_key(name, "weight")] = (width, network.architecture.top)
        if _head_key(name, "bias") in tensors:
            expected[_head_key(name, "bias")] = (width,)
    return expected


def _joined(tensors: Tensors, expected: Shapes, heads: Mapping[str, int]) -> dict[str, Tensor]:
    """Return the tensors in float32, the heads laid end to end; one without a bias adds zeros."""
    found = {name: tensors[name].to(torch.float32) for name in expected}
    parts: dict[str, list[Tensor]] = {"weight": [], "bias": []}
    for name, width in heads.items():
        weight = found.pop(_head_key(name, "weight"))
        parts["weight"].append(weight)
        parts["bias"].append(found.pop(_head_key(name, "bias"), torch.zeros(width)))
    return found | {f"{HEAD}.{kind}": torch.cat(each) for kind, each in parts.items() if each}


def _matrix(tensors: Tensors, key: str) -> Tensor:
    if key not in tensors:
        raise CheckpointError(f"The key {key!r} is missing; the keys are {', '.join(tensors)}.")
    value = tensors[key]
    if not isinstance(value, Tensor) or value.ndim != 2:
        raise CheckpointError(f"{key!r} must be a matrix, and is {_describe(value)}.")
    return value


def _compare(tensors: Tensors, expected: Shapes, a: Architecture) -> None:
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
                f"The key {key!r} ({_describe(value)}) is not one of an embedding, recurrent "
                f"layers and Linear heads.{_suggest(key, tensors, a)}"
            )


def _suggest(key: str, tensors: Tensors, a: Architecture) -> str:
    """Return advice where an extra key may well be a head's or the embedding's, by its shape."""
    stem, _, last = key.rpartition(".")
    value = tensors[key]
    if not (stem and last == "weight" and isinstance(value, Tensor) and value.ndim == 2):
        return ""
    advice = []
    if value.shape[1] == a.top:
        new = HEAD if not a.outputs else f"{HEAD}.{stem.rpartition('.')[2]}"
        advice.append(f" If it is a Linear layer on top of the last one, add --map {stem}={new}.")
    if value.shape[1] == a.features and not a.vocabulary and f"{stem}.bias" not in tensors:
        advice.append(f" If it is an embedding in front, add --map {stem}={EMBEDDING}.")
    return "".join(advice)


def _describe(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {list(value.shape)}"
    return f"of type {type(value).__name__}"
