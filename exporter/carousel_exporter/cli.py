"""`carousel-export`, the command line: train, convert, adopt, shrink, verify, inspect."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from carousel_exporter import __version__
from carousel_exporter.commands.adopt import adopt
from carousel_exporter.commands.convert import convert
from carousel_exporter.commands.inspect import inspect
from carousel_exporter.commands.shrink import shrink
from carousel_exporter.commands.train import train
from carousel_exporter.commands.verify import verify
from carousel_exporter.errors import ExporterError, SettingsError

#: What PyTorch says, in a RuntimeError, where memory for a tensor can't be had.
_NO_MEMORY = "can't allocate memory"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 1 for an error, 2 for wrong usage."""
    try:
        _check_text(sys.argv[1:] if arguments is None else arguments)
        _app()(args=None if arguments is None else list(arguments), prog_name="carousel-export")
    except ExporterError as error:
        _tell(str(error))
        return 1
    except UnicodeDecodeError:
        _tell("A file that was read is damaged: it holds bytes that are no text in UTF-8.")
        return 1
    except OSError as error:  # such as a disk that is full where standard output goes
        _tell(f"Reading or writing failed: {error.strerror or error}.")
        # The interpreter would try to flush what can't be written, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError) or _NO_MEMORY in str(error)):
            raise
        _tell("There is not enough memory: a smaller network, or smaller data, may do.")
        return 1
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _check_text(arguments: Sequence[str]) -> None:
    """Raise SettingsError where an argument is no text: it would end in a file that says so."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise SettingsError(
                f"{argument!r} is no text in UTF-8, and all options and names of files must be."
            ) from None


def _tell(error: str) -> None:
    Console(stderr=True, emoji=False).print(
        f"[red]error:[/] {escape(error)}", soft_wrap=True, highlight=False
    )


def _app() -> typer.Typer:
    app = typer.Typer(
        help="Train recurrent networks and make them into model files that Carousel serves.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    for command in (train, convert, adopt, shrink, verify, inspect):
        app.command()(command)
    return app


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it
    if wanted:
        Console(emoji=False).print(f"carousel-export {__version__}", highlight=False)
        raise typer.Exit


def _options(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", is_eager=True, callback=_show_version
        ),
    ] = False,
) -> None:
    """Take the options that stand before a command."""
