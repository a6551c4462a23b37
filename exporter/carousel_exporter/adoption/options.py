"""What a person says of a file that is to be adopted, and how it is said on a command line."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from carousel_exporter.errors import SettingsError


@dataclass(frozen=True)
class StatePair:
    """A state: the input that takes it, the output that gives its successor, its batch axis.

    `batch_axis` counts the axes of the original file; None leaves it to be found.
    """

    input: str
    output: str
    batch_axis: int | None = None

    @classmethod
    def parse(cls, text: str) -> StatePair:
        """Read `IN=OUT` or `IN=OUT:AXIS`. Raises SettingsError on anything else.

        Names may hold colons themselves; only a number after the last one is an axis.
        """
        name, output = _split("--state", text, "IN=OUT[:batch_axis]")
        output, axis = _split_number(output)
        return cls(name, output, axis)

    def __str__(self) -> str:
        axis = "" if self.batch_axis is None else f":{self.batch_axis}"
        return f"{self.input}={self.output}{axis}"


@dataclass(frozen=True)
class Context:
    """An input that wants the last `length` values of its previous step before the next.

    `axis` counts the axes of the original input; None is the last one.
    """

    input: str
    length: int
    axis: int | None = None

    @classmethod
    def parse(cls, text: str) -> Context:
        """Read `NAME=LENGTH` or `NAME=LENGTH:AXIS`. Raises SettingsError on anything else."""
        form = "NAME=LENGTH[:axis]"
        name, value = _split("--context", text, form)
        value, axis = _split_number(value)
        length = _whole("--context", text, value, form)
        if length < 1:
            raise SettingsError(f"--context {text} keeps {length} values, and must keep one.")
        return cls(name, length, axis)

    def __str__(self) -> str:
        axis = "" if self.axis is None else f":{self.axis}"
        return f"{self.input}={self.length}{axis}"


@dataclass(frozen=True)
class Size:
    """The size that an open axis of an original input is to have."""

    input: str
    axis: int
    size: int

    @classmethod
    def parse(cls, text: str) -> Size:
        """Read `NAME:AXIS=SIZE`. Raises SettingsError on anything else."""
        form = "NAME:AXIS=SIZE"
        place, value = _split("--size", text, form)
        name, axis = _split_number(place)
        size = _whole("--size", text, value, form)
        if axis is None or size < 1:
            raise SettingsError(f"--size takes {form}, with a size of at least 1, not {text!r}.")
        return cls(name, axis, size)

    def __str__(self) -> str:
        return f"{self.input}:{self.axis}={self.size}"


@dataclass(frozen=True)
class Options:
    """What is known of a file before it is tried; everything left empty is found or refused.

    `states`: all states, or none to have them proposed. `constants`: inputs that always have one
    value (a sample rate). `contexts` and `sizes`: see `Context` and `Size`. `initial`: the state of
    a new session by the name of its input, in the shape of the original file with one row, or
    without the batch axis. `samples`: real inputs to try the model with besides random ones, one
    step after the other on axis 0, each step as a client will send it.
    """

    states: tuple[StatePair, ...] = ()
    constants: Mapping[str, float | int | str | np.ndarray] = field(default_factory=dict)
    contexts: tuple[Context, ...] = ()
    sizes: tuple[Size, ...] = ()
    initial: Mapping[str, np.ndarray] = field(default_factory=dict)
    samples: Mapping[str, np.ndarray] = field(default_factory=dict)
    name: str = ""
    description: str = ""
    seed: int = 0


def parse_constants(texts: Sequence[str]) -> dict[str, str]:
    """Read `NAME=VALUE`, repeated. Raises SettingsError on anything else, or a name given twice."""
    return _unique("--constant", [_split("--constant", text, "NAME=VALUE") for text in texts])


def read_arrays(option: str, texts: Sequence[str]) -> dict[str, np.ndarray]:
    """Read the arrays of `NAME=FILE.npy`, repeated. Raises SettingsError where one can't be."""
    places = _unique(option, [_split(option, text, "NAME=FILE.npy") for text in texts])
    return {name: _read_array(option, name, Path(place)) for name, place in places.items()}


def read_initial(texts: Sequence[str]) -> dict[str, np.ndarray]:
    """Read the first states of `--init NAME=FILE.npy`. Raises SettingsError."""
    return read_arrays("--init", texts)


def command_line(
    path: Path | str,
    out: Path | str,
    *,
    states: Sequence[StatePair],
    sizes: Sequence[Size],
    options: Options,
) -> str:
    """Return the command that states everything and leaves nothing to be proposed."""
    words = ["carousel-export", "adopt", str(path)]
    words += [w for name, v in options.constants.items() for w in ("--constant", f"{name}={v}")]
    words += [w for context in options.contexts for w in ("--context", str(context))]
    words += [w for size in sizes for w in ("--size", str(size))]
    words += [w for pair in states for w in ("--state", str(pair))]
    words += [w for name in options.initial for w in ("--init", f"{name}=FILE.npy")]
    words += ["--name", options.name] if options.name else []
    return shlex.join([*words, "--out", str(out)])


def _split(option: str, text: str, form: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not (name and sign and value):
        raise SettingsError(f"{option} takes {form}, not {text!r}.")
    return name, value


def _split_number(text: str) -> tuple[str, int | None]:
    """Split a whole number off the end, behind a colon."""
    head, sign, tail = text.rpartition(":")
    if head and sign and tail.removeprefix("-").isdecimal():
        return head, int(tail)
    return text, None


def _whole(option: str, text: str, value: str, form: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise SettingsError(f"{option} takes {form}, not {text!r}.") from None


def _unique(option: str, pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    names = [name for name, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise SettingsError(f"{option} gives {twice!r} twice; give it once.")
    return dict(pairs)


def _read_array(option: str, name: str, path: Path) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise SettingsError(
            f"There is no file {path}, which {option} names for {name!r}."
        ) from None
    except (OSError, ValueError, EOFError) as error:
        told = (isinstance(error, OSError) and error.strerror) or "it is no .npy file of numbers"
        raise SettingsError(
            f"{path} can't be read as an array for {name!r}: {told}; write it with numpy.save."
        ) from error
    if isinstance(array, np.ndarray) and array.dtype.kind not in "fiub":
        raise SettingsError(f"{path} holds {array.dtype}, and {option} takes numbers.")
    if not isinstance(array, np.ndarray):
        raise SettingsError(
            f"{path} holds several arrays; {option} takes .npy files, one array each."
        )
    return array
