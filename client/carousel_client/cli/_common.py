"""What every command needs: the server it talks to, and errors as one sentence."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec

import typer

import carousel_client as carousel

P = ParamSpec("P")

#: What a shell reports for a program that Ctrl-C, or a closed pipe, has ended.
INTERRUPTED, PIPE_CLOSED = 130, 141


class InputError(Exception):
    """What was typed, or piped in, cannot be used."""


@dataclass(frozen=True)
class Target:
    """The server to talk to, and how long to wait for it, in seconds."""

    address: str
    timeout: float

    def connect(self) -> carousel.Client:
        """Connect to it. Raises Unavailable."""
        return carousel.connect(self.address, timeout=self.timeout)

    def connect_async(self) -> carousel.aio.Client:
        """Return a client for asyncio, to be entered. Entering raises Unavailable."""
        return carousel.aio.connect(self.address, timeout=self.timeout)


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
        except BrokenPipeError:
            # The interpreter would try to flush what nobody reads, and complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(PIPE_CLOSED) from None

    return run


def describe(tensor: carousel.TensorInfo) -> str:
    """Return a tensor as one word: `x float32[2]`."""
    shape = ", ".join(str(size) for size in tensor.shape)
    return f"{tensor.name} {tensor.dtype.name}[{shape}]"
