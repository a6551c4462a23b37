"""`carousel`, the command line: look at a server, stream lines through a model, and measure it."""

from __future__ import annotations

import os
from typing import Annotated

import typer

import carousel_client as carousel
from carousel_client import __version__
from carousel_client.cli._bench import bench
from carousel_client.cli._common import Target
from carousel_client.cli._generate import generate
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
    tls: Annotated[
        bool,
        typer.Option(
            "--tls",
            envvar="CAROUSEL_TLS",
            help="Use TLS, and trust who is commonly trusted; --tls-ca and the others imply it.",
        ),
    ] = False,
    tls_ca: Annotated[
        str | None,
        typer.Option(
            envvar="CAROUSEL_TLS_CA",
            metavar="FILE",
            help="Authorities to trust, one of which signed the server's certificate.",
        ),
    ] = None,
    tls_cert: Annotated[
        str | None,
        typer.Option(
            envvar="CAROUSEL_TLS_CERT",
            metavar="FILE",
            help="The certificate to show, to servers that ask for one.",
        ),
    ] = None,
    tls_key: Annotated[
        str | None,
        typer.Option(envvar="CAROUSEL_TLS_KEY", metavar="FILE", help="Its private key."),
    ] = None,
    tls_server_name: Annotated[
        str | None,
        typer.Option(
            envvar="CAROUSEL_TLS_SERVER_NAME",
            metavar="NAME",
            help="The name in the server's certificate, where it is not the address's.",
        ),
    ] = None,
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
    wanted = tls or any((tls_ca, tls_cert, tls_key, tls_server_name))
    try:
        trusted = carousel.Tls(
            ca=tls_ca, cert=tls_cert, key=tls_key, server_name=tls_server_name or ""
        )
    except carousel.InvalidInput as error:
        raise typer.BadParameter(str(error)) from error
    context.obj = Target(address, timeout, trusted if wanted else None)


app.command()(models)
app.command()(stream)
app.command()(generate)
app.command()(sessions)
app.command()(bench)


def main() -> None:
    """Run the command line; the entry point of `carousel`."""
    # gRPC's own lines about each attempt would stand around our one sentence.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    app()
