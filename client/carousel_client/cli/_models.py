"""`carousel models`."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

import carousel_client as carousel
from carousel_client.cli._common import count, describe, guarded

# The most characters that the names of classes take in the table; JSON has them all.
_MOST_NAMES = 30


@guarded
def models(
    context: typer.Context,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the server's models; how many symbols their vocabularies have, and their classes.

    Examples: `carousel models`, `carousel models --json`
    """
    with context.obj.connect() as client:
        found = client.models()
    if as_json:
        typer.echo(json.dumps([_plain(model) for model in found], indent=2))
        return
    table = Table("name", "version", "inputs", "outputs", "state bytes", "default")
    for model in found:
        table.add_row(
            model.name,
            model.version,
            Text("\n".join(_described(tensor) for tensor in model.inputs)),
            Text("\n".join(_described(tensor) for tensor in model.outputs)),
            f"{model.state_bytes:,}",
            "yes" if model.is_default else "",
        )
    Console().print(table)


def _described(tensor: carousel.TensorInfo) -> str:
    """Return a tensor, and below it what its numbers stand for, if anything."""
    if tensor.symbols:
        return f"{describe(tensor)}\n  {count(len(tensor.symbols), 'symbol')}"
    if not tensor.content:
        return describe(tensor)
    names = ", ".join(repr(n) if n.isspace() or not n.isprintable() else n for n in tensor.columns)
    if len(names) > _MOST_NAMES:
        names = f"{names[:_MOST_NAMES]}… ({len(tensor.columns):,} in all)"
    return f"{describe(tensor)}\n  classes {names}"


def _plain(model: carousel.ModelInfo) -> dict[str, Any]:
    return {
        "name": model.name,
        "version": model.version,
        "is_default": model.is_default,
        "description": model.description,
        "inputs": [_tensor(tensor) for tensor in model.inputs],
        "outputs": [_tensor(tensor) for tensor in model.outputs],
        "state_bytes": model.state_bytes,
        "horizon": model.horizon,
        "sha256": model.sha256,
    }


def _tensor(tensor: carousel.TensorInfo) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "dtype": tensor.dtype.name,
        "shape": list(tensor.shape),
        "columns": list(tensor.columns),
        "unit": tensor.unit,
        "symbols": list(tensor.symbols),
        "content": tensor.content,
    }
