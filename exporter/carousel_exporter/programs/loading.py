"""Reading programs: TorchScript files, torch.export's .pt2 files, modules in Python."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from carousel_exporter import foreign
from carousel_exporter.errors import CheckpointError, SettingsError
from carousel_exporter.programs.examples import FORM, Example, nest
from carousel_exporter.programs.program import Kind, Program, name_outputs, quiet
from carousel_exporter.recognition import bidirectional
from carousel_exporter.wording import first_line


def is_program(source: str) -> bool:
    """Tell whether a source is a program rather than a file of tensors, without running it."""
    return _is_entry(source) or _file_kind(Path(source)) is not None


def load(
    source: str,
    *,
    examples: Sequence[str] = (),
    outputs: Sequence[str] = (),
    weights: Path | None = None,
    renames: Sequence[str] = (),
) -> Program:
    """Read a program, which runs code of it: `module:Class`, `file.py:function`, or a file.

    `examples` are arguments in the form of `Example.parse`, in the order of the forward method's
    parameters, or the name of a function beside the class that returns them; a .pt2 file has its
    own. `outputs` names the tensors it answers. `weights` is a state_dict for a Python module,
    with `renames` of its keys. Raises CheckpointError, SettingsError.
    """
    kind = Kind.MODULE if _is_entry(source) else _file_kind(Path(source))
    if kind is not Kind.MODULE and (weights or renames):
        raise SettingsError(
            f"{source} has its weights inside: --weights and --map are for modules in Python."
        )
    with quiet():
        if kind is Kind.EXPORTED:
            program = _load_exported(Path(source), examples)
        else:
            module, beside = _load_module(source, kind, weights, renames)
            _refuse_bidirectional(module)
            program = _with_examples(module, beside, kind or Kind.MODULE, source, examples)
        return replace(program, outputs=name_outputs(program, outputs))


def _is_entry(source: str) -> bool:
    return ":" in source and not Path(source).exists()


def _file_kind(path: Path) -> Kind | None:
    """Tell the two kinds of archives from others by what is in them."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.partition("/")[2] or name for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile):
        return Kind.EXPORTED if path.suffix == ".pt2" else None
    if any(
        name.startswith("models/") or name == "serialized_exported_program.json" for name in names
    ):
        return Kind.EXPORTED
    return Kind.TORCHSCRIPT if any(name.startswith("code/") for name in names) else None


def _load_exported(path: Path, examples: Sequence[str]) -> Program:
    if examples:
        raise SettingsError(f"{path} has its own example arguments: leave --example out.")
    try:
        exported = torch.export.load(path)
    except FileNotFoundError:
        raise CheckpointError(f"There is no file {path}.") from None
    except Exception as error:  # whatever it trips over in an archive of others
        raise CheckpointError(
            f"{path} can't be read as a program of torch.export: {first_line(error)}."
        ) from error
    arguments = exported.example_inputs
    names = exported.graph_signature.user_inputs
    if arguments is None or not all(isinstance(v, Tensor) for v in _pytree.tree_leaves(arguments)):
        raise CheckpointError(
            f"{path} has no example arguments that are tensors alone: export it again with tensors "
            "for arguments."
        )
    return Program(
        kind=Kind.EXPORTED,
        call=exported.module(),
        arguments=arguments,
        inputs=tuple(str(name) for name in names),
        outputs=(),
        label=str(path),
        exported=exported,
        origin=_file_origin(path),
    )


def _load_module(
    source: str, kind: Kind | None, weights: Path | None, renames: Sequence[str]
) -> tuple[nn.Module, ModuleType | None]:
    if kind is Kind.TORCHSCRIPT:
        try:
            loaded: nn.Module = torch.jit.load(source, map_location="cpu")  # type: ignore[no-untyped-call]
        except Exception as error:  # as above
            raise CheckpointError(
                f"{source} can't be read as TorchScript: {first_line(error)}."
            ) from error
        return loaded.eval(), None
    place, _, name = source.rpartition(":")
    beside = _import(place)
    module = _make_module(beside, name, source)
    if weights is not None:
        _load_weights(module, weights, renames)
    elif renames:
        raise SettingsError("--map renames keys of the file that --weights names; give both.")
    return module.eval().cpu(), beside


def _import(place: str) -> ModuleType:
    path = Path(place)
    try:
        with _importable(path.parent if place.endswith(".py") else Path.cwd()):
            if not place.endswith(".py"):
                return importlib.import_module(place)
            if not path.is_file():
                raise CheckpointError(f"There is no file {place}.")
            specification = importlib.util.spec_from_file_location(path.stem, path)
            assert specification is not None
            assert specification.loader is not None
            module = importlib.util.module_from_spec(specification)
            sys.modules.setdefault(path.stem, module)  # TorchScript and pickle look there
            specification.loader.exec_module(module)
            return module
    except CheckpointError:
        raise
    except Exception as error:  # somebody's code
        raise CheckpointError(
            f"{place} can't be imported: {type(error).__name__}: {first_line(error)}."
        ) from error


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Let modules in a folder be imported, as `python` does with that of a script."""
    entry = str(folder.resolve())
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        sys.path.remove(entry)


def _make_module(beside: ModuleType, name: str, source: str) -> nn.Module:
    found = getattr(beside, name, None)
    if found is None:
        raise CheckpointError(f"{source} names {name!r}, and there is nothing of that name.")
    if not isinstance(found, nn.Module):
        found = _call(found, source, "is no module, no class of one, and no function")
    if not isinstance(found, nn.Module):
        raise CheckpointError(
            f"{source} gave a {type(found).__name__}: it must be a torch.nn.Module, a class of one "
            "that takes no arguments, or a function that returns one."
        )
    return found


def _call(function: Any, source: str, otherwise: str) -> Any:
    if not callable(function):
        raise CheckpointError(f"{source} {otherwise}.")
    try:
        return function()
    except Exception as error:  # somebody's code
        raise CheckpointError(
            f"{source} can't be called without arguments: {type(error).__name__}: "
            f"{first_line(error)}."
        ) from error


def _load_weights(module: nn.Module, path: Path, renames: Sequence[str]) -> None:
    tensors = foreign.unwrap(foreign.read_tensors(path))
    tensors = foreign.rename(tensors, foreign.parse_renames(renames))
    try:
        module.load_state_dict(tensors)
    except Exception as error:  # RuntimeError with a list, or what a wrong type leads to
        reasons = " ".join(str(error).split())
        raise CheckpointError(f"{path} doesn't fit the module: {reasons}.") from error


def _refuse_bidirectional(module: nn.Module) -> None:
    for name, part in module.named_modules():
        if getattr(part, "bidirectional", False):
            raise CheckpointError(bidirectional(name or type(part).__name__))


def _with_examples(
    module: nn.Module, beside: ModuleType | None, kind: Kind, source: str, texts: Sequence[str]
) -> Program:
    parameters = _parameters(module)
    examples = _read_examples(texts, beside, parameters, source)
    names = [example.name for example in examples]
    arguments = nest(names, [example.draw() for example in examples])
    unknown = [name for name in arguments if parameters and name not in parameters]
    if unknown:
        raise SettingsError(
            f"--example names {unknown[0]!r}, and the forward method of {source} takes "
            f"{', '.join(parameters)}."
        )
    ordered = {name: arguments[name] for name in parameters if name in arguments} or arguments
    flat = [n for outer in ordered for n in names if n.partition(".")[0] == outer]
    by_name = {example.name: example for example in examples}
    return Program(
        kind=kind,
        call=module,
        arguments=_split(ordered, parameters),
        inputs=tuple(flat),
        outputs=(),
        label=source,
        examples=tuple(by_name[name] for name in flat),
        origin=_entry_origin(source, beside) if beside else _file_origin(Path(source)),
    )


def _split(
    arguments: Mapping[str, Any], parameters: Sequence[str]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return arguments by place as far as none of the parameters is left out, and by name."""
    places = [*parameters] or [*arguments]
    gap = next((n for n, name in enumerate(places) if name not in arguments), len(places))
    first = {name: arguments[name] for name in places[:gap]}
    return tuple(first.values()), {n: v for n, v in arguments.items() if n not in first}


def _parameters(module: nn.Module) -> list[str]:
    """Return the names of the forward method's parameters, as far as they are told."""
    if isinstance(module, torch.jit.ScriptModule):
        schema: Any = module.forward
        return [argument.name for argument in schema.schema.arguments[1:]]
    found = inspect.signature(module.forward).parameters.values()
    variable = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    return [] if any(p.kind in variable for p in found) else [p.name for p in found]


def _read_examples(
    texts: Sequence[str], beside: ModuleType | None, parameters: Sequence[str], source: str
) -> list[Example]:
    if not texts:
        raise SettingsError(
            f"{source} needs example arguments: give an --example for each tensor of its forward "
            f"method ({', '.join(parameters)}), {FORM}."
        )
    if len(texts) > 1 or "=" in texts[0] or beside is None:
        return [Example.parse(text) for text in texts]
    function = getattr(beside, texts[0], None)
    if function is None:
        raise SettingsError(
            f"--example names the function {texts[0]!r}, and {source.rpartition(':')[0]} has none "
            f"of that name; give its name, or {FORM}."
        )
    given = _call(function, texts[0], "is no function")
    if not isinstance(given, Mapping):
        values = list(given) if isinstance(given, tuple | list) else [given]
        given = dict(zip(parameters, values, strict=False))
    flat: dict[str, object] = {}
    for name, value in given.items():
        parts = value if isinstance(value, tuple | list) else None
        flat |= {f"{name}.{n}": v for n, v in enumerate(parts)} if parts else {name: value}
    return [Example.of(str(name), value) for name, value in flat.items()]


def _file_origin(path: Path) -> dict[str, str]:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"program": path.name, "program_sha256": digest, "torch": torch.__version__}


def _entry_origin(source: str, beside: ModuleType) -> dict[str, str]:
    place, _, name = source.rpartition(":")
    origin = {"program": f"{Path(place).name}:{name}", "torch": torch.__version__}
    if beside.__file__:
        content = Path(beside.__file__).read_bytes()
        origin["program_sha256"] = hashlib.sha256(content).hexdigest()
    return origin
