"""`carousel sessions`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

import carousel_client as carousel
from carousel_client.cli._common import InputError, guarded, print_whole


@guarded
def sessions(
    context: typer.Context,
    *,
    model: Annotated[str | None, typer.Option(help="Only sessions of this model.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    close: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="End this session; may be repeated.")
    ] = None,
) -> None:
    """List the server's open sessions, or end some.

    Examples: `carousel sessions --model co2`, `carousel sessions --close sensor-7`
    """
    with context.obj.connect() as client:
        found = client.sessions(model)
        if close:
            _close(client, found, close)
            return
    if as_json:
        typer.echo(json.dumps([asdict(session) for session in found], indent=2, default=str))
        return
    if not found:
        typer.echo("no sessions")
        return
    table = Table("id", "model", "version", "applied", "durable", "place", "idle")
    for session in found:
        table.add_row(
            Text(session.id),  # an id may look like markup
            Text(session.model),
            Text(session.version),
            f"{session.applied:,}",
            f"{session.durable:,}",
            session.place,
            f"{session.idle:,.1f} s",
        )
    print_whole(table)


def _close(client: carousel.Client, found: list[carousel.SessionInfo], wanted: list[str]) -> None:
    models = {session.id: session.model for session in found}
    missing = [name for name in wanted if name not in models]
    if missing:
        raise InputError(f"no open session {', '.join(map(repr, missing))}; none was closed")
    for name in wanted:
        client.attach(models[name], name).close()
