"""`carousel-server`: the command line."""

from __future__ import annotations

import argparse
import os
import sys

from carousel_server import __version__, busypoll, drain_command, log
from carousel_server.errors import CarouselError
from carousel_server.flags import add_flags, config_file
from carousel_server.settings import Settings, load_settings

_EXAMPLES = """\
examples:
  carousel-server --models ./models
  carousel-server --models /models --address 127.0.0.1:0 --device cpu --slots 4096
  CAROUSEL_MODELS=/models carousel-server --config /etc/carousel.yaml
  carousel-server drain    (ask the server on this machine to drain, and wait: see drain --help)

Each flag can be given as a variable (--max-chunk: CAROUSEL_MAX_CHUNK) or in the YAML file
(max_chunk: 100). A flag wins over a variable, a variable over the file.
"""

# What a shell gives for a program that SIGINT has ended.
_INTERRUPTED = 130

# What gRPC is told before it is loaded, where nobody has told it otherwise.
_GRPC = {
    # A line of its own for each handshake that fails would stand between lines of JSON.
    "GRPC_VERBOSITY": "ERROR",
    # With the event engine's listener a message goes through one more thread on its way in, and one
    # on its way out, which costs a lone step 70 us (docs/performance.md).
    "GRPC_EXPERIMENTS": "-event_engine_listener",
}


def main(arguments: list[str] | None = None) -> int:
    """Run the server; return its exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    if words[:1] == ["drain"]:
        return drain_command.main(words[1:])
    given = vars(_parser().parse_args(words))
    try:
        settings = load_settings(given, config_file(given))
        log.configure(settings.log_format)
        log.get().info("settings", version=__version__, **settings.shown())
        working: set[object] = set()
        return busypoll.run(
            _serve(settings, working), longest=settings.busy_poll_us * 1e-6, working=working
        )
    except CarouselError as error:
        sys.stderr.write(f"carousel-server: {error}\n")
        return 1
    except KeyboardInterrupt:  # while models are loaded; later it is a signal to drain
        return _INTERRUPTED


async def _serve(settings: Settings, working: set[object]) -> int:
    for name, value in _GRPC.items():
        os.environ.setdefault(name, value)
    # Not above: `drain` runs beside a server, whose memory is not to be loaded with all this again.
    from carousel_server.app import App  # noqa: PLC0415

    def announce(addresses: str) -> None:
        sys.stdout.write(f"ready {addresses}\n")
        sys.stdout.flush()

    return await App(settings, working=working).run(announce)


def _parser() -> argparse.ArgumentParser:
    """Return a parser with a flag a setting; only flags that were given are in its result."""
    parser = argparse.ArgumentParser(
        prog="carousel-server",
        description="Serve recurrent ONNX models over gRPC, with every session's state kept here.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"carousel-server {__version__}")
    add_flags(parser, Settings)
    return parser


if __name__ == "__main__":
    sys.exit(main())
