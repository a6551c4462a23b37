"""What every command needs: the server it talks to, and errors as one sentence."""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import ParamSpec

import typer
from rich.console import Console
from rich.table import Table

import carousel_client as carousel

P = ParamSpec("P")

#: What a shell reports for a program that a signal has ended: this and the signal's number.
ENDED_BY_SIGNAL = 128
INTERRUPTED, PIPE_CLOSED = ENDED_BY_SIGNAL + 2, ENDED_BY_SIGNAL + 13

# How long a program that was told to end may take to close what is open.
_CLOSING_SECONDS = 5.0

#: The most columns that a table takes, however narrow the terminal is.
MAX_WIDTH = 10_000


class InputError(Exception):
    """What was typed, or piped in, cannot be used."""


class OutputError(Exception):
    """What was to be printed cannot be written."""


class Terminated(BaseException):
    """A signal asked the program to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """Turn the first SIGTERM or SIGHUP into Terminated, so that what is open is closed.

    A second one ends the program at once, as it would have without this, and so does a close that
    takes too long. A signal that the program was started to ignore (`nohup`) stays ignored. For
    the main thread alone.
    """
    wanted = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    taken = [number for number in wanted if signal.getsignal(number) is signal.SIG_DFL]

    def give_back() -> None:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)

    def end(number: int, _frame: FrameType | None) -> None:
        give_back()
        # A signal may come anywhere, and what it interrupts may be what closing needs.
        rescue = threading.Timer(_CLOSING_SECONDS, os._exit, [ENDED_BY_SIGNAL + number])
        rescue.daemon = True
        rescue.start()
        raise Terminated(number)

    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        give_back()


@dataclass(frozen=True)
class Target:
    """The server to talk to, or several with commas; how long to wait for one, in seconds."""

    address: str
    timeout: float
    tls: carousel.Tls | None = None

    def connect(self) -> carousel.Client:
        """Connect to it. Raises Unavailable, InvalidInput."""
        return carousel.connect(self.address.split(","), timeout=self.timeout, tls=self.tls)

    def connect_async(self) -> carousel.aio.Client:
        """Return a client for asyncio, to be entered. Entering raises Unavailable, InvalidInput."""
        return carousel.aio.connect(self.address.split(","), timeout=self.timeout, tls=self.tls)


def guarded(command: Callable[P, None]) -> Callable[P, None]:
    """Wrap a command so that its errors are one sentence on stderr and exit status 1."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except (carousel.CarouselError, InputError) as error:
            typer.echo(f"carousel: {error}", err=True)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except Terminated as end:
            raise typer.Exit(ENDED_BY_SIGNAL + end.number) from None
        except BrokenPipeError:
            _drop_output()
            raise typer.Exit(PIPE_CLOSED) from None
        except OutputError as error:
            _drop_output()
            typer.echo(f"carousel: {error}", err=True)
            raise typer.Exit(1) from None
        except OSError as error:
            _drop_output()
            typer.echo(f"carousel: reading or writing failed: {error.strerror or error}", err=True)
            raise typer.Exit(1) from None

    return run


def _drop_output() -> None:
    """Lead standard output nowhere: at the end the interpreter flushes it, and would complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def count(number: int, noun: str) -> str:
    """Return "1 value", "2 values" and so on."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def print_whole(table: Table) -> None:
    """Print a table at its own width: what is cut or wrapped can't be pasted."""
    console = Console()
    wide = console.options.update(max_width=MAX_WIDTH)
    Console(width=max(console.width, table.__rich_measure__(console, wide).maximum)).print(table)


def describe(tensor: carousel.TensorInfo) -> str:
    """Return a tensor as one word: `x float32[2]`."""
    shape = ", ".join(str(size) for size in tensor.shape)
    return f"{tensor.name} {tensor.dtype.name}[{shape}]"
