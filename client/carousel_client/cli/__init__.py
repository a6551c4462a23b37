"""`carousel`, the command line: look at a server, stream lines through a model, and measure it."""

from __future__ import annotations

from typing import Annotated

import typer

from carousel_client import __version__
from carousel_client.cli._bench import bench
from carousel_client.cli._common import Target
from carousel_client.cli._models import models
from carousel_client.cli._sessions import sessions
from carousel_client.cli._stream import stream

__all__ = ["app", "main"]

app = typer.Typer(
    name="carousel",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it
    if wanted:
        typer.echo(f"carousel {__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    *,
    address: Annotated[
        str,
        typer.Option(envvar="CAROUSEL_ADDRESS", help="The server, HOST:PORT; several with commas."),
    ] = "localhost:8001",
    timeout: Annotated[
        float, typer.Option(min=0.001, help="How long to wait for the server, in seconds.")
    ] = 10.0,
    version: Annotated[  # noqa: ARG001 - its callback does the work
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", is_eager=True, callback=_show_version
        ),
    ] = False,
) -> None:
    """Talk to a Carousel server.

    Example: `carousel --address localhost:8001 models`
    """
    context.obj = Target(address, timeout)


app.command()(models)
app.command()(stream)
app.command()(sessions)
app.command()(bench)


def main() -> None:
    """Run the command line; the entry point of `carousel`."""
    app()
