"""`carousel-server drain`: have the server beside this process drain, and wait for it."""

from __future__ import annotations

import argparse
import sys
import time

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from carousel_server.addresses import split_address
from carousel_server.drain_socket import ask_to_drain
from carousel_server.errors import CarouselError, ConfigError
from carousel_server.flags import add_flags, config_file
from carousel_server.settings import Address, Seconds
from carousel_server.sources import Sources, load

# What a drain may take beyond --drain-seconds: saving, and the store, have a second each then.
_MARGIN_SECONDS = 5.0
_AT_LEAST_SECONDS = 5.0


class DrainSettings(Sources):
    """What must be known of the server; its other settings may be as they like."""

    model_config = SettingsConfigDict(env_prefix="CAROUSEL_", extra="ignore", frozen=True)

    metrics_address: Address = Field("127.0.0.1:8002", description="the server's own")
    drain_seconds: Seconds = Field(30.0, description="the server's own")


def main(arguments: list[str]) -> int:
    """Return the exit status: 0 once the server has drained, or has ended."""
    given = vars(_parser().parse_args(arguments))
    at_least = given.pop("at_least")
    try:
        settings = load(DrainSettings, given, config_file(given))
        if not split_address(settings.metrics_address)[1]:
            raise ConfigError(
                "--metrics-address: the port in the server's `ready` line was expected, not 0"
            )
        took = ask_to_drain(settings.metrics_address, settings.drain_seconds + _MARGIN_SECONDS)
    except CarouselError as error:
        sys.stderr.write(f"carousel-server drain: {error}\n")
        return 1
    time.sleep(max(at_least - took, 0))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="carousel-server drain",
        description="Ask the server on this machine, or in this container, to drain, and wait "
        "until it has. The server then stays, and refuses in words what still comes, until SIGTERM "
        "ends it. Settings are read as the server reads them: with the same variables, or the same "
        "file, no flag is needed.",
    )
    parser.add_argument(
        "--at-least",
        metavar="SECONDS",
        type=float,
        default=_AT_LEAST_SECONDS,
        help="how long to wait where the server has drained sooner, so that whoever leads clients "
        f"there hears of it before it ends (default: {_AT_LEAST_SECONDS:g})",
    )
    add_flags(parser, DrainSettings)
    return parser
