"""`carousel models`."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

import carousel_client as carousel
from carousel_client.cli._common import describe, guarded


@guarded
def models(
    context: typer.Context,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the server's models.

    Example: `carousel models`
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
            "\n".join(describe(tensor) for tensor in model.inputs),
            "\n".join(describe(tensor) for tensor in model.outputs),
            f"{model.state_bytes:,}",
            "yes" if model.is_default else "",
        )
    Console().print(table)


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
    }
