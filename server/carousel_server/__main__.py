"""`carousel-server`: the command line."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from carousel_server import __version__, log
from carousel_server.app import App
from carousel_server.errors import CarouselError
from carousel_server.settings import Settings, load_settings

_EXAMPLES = """\
examples:
  carousel-server --models ./models
  carousel-server --models /models --address 127.0.0.1:0 --device cpu --slots 4096
  CAROUSEL_MODELS=/models carousel-server --config /etc/carousel.yaml

Each flag can be given as a variable (--max-chunk: CAROUSEL_MAX_CHUNK) or in the YAML file
(max_chunk: 100). A flag wins over a variable, a variable over the file.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the server; return its exit status."""
    given = vars(_parser().parse_args(arguments))
    config = given.pop("config") or os.environ.get("CAROUSEL_CONFIG")
    try:
        settings = load_settings(given, Path(config) if config else None)
        log.configure(settings.log_format)
        log.get().info("settings", version=__version__, **settings.model_dump(mode="json"))
        return asyncio.run(_serve(settings))
    except CarouselError as error:
        sys.stderr.write(f"carousel-server: {error}\n")
        return 1


async def _serve(settings: Settings) -> int:
    def announce(addresses: str) -> None:
        sys.stdout.write(f"ready {addresses}\n")
        sys.stdout.flush()

    return await App(settings).run(announce)


def _parser() -> argparse.ArgumentParser:
    """Return a parser with a flag a setting; only flags that were given are in its result."""
    parser = argparse.ArgumentParser(
        prog="carousel-server",
        description="Serve recurrent ONNX models over gRPC, with every session's state kept here.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"carousel-server {__version__}")
    parser.add_argument("--config", metavar="FILE", help="YAML file with settings")
    for name, field in Settings.model_fields.items():
        options: dict[str, Any] = {"dest": name, "default": argparse.SUPPRESS}
        if field.annotation is bool:
            options["action"] = "store_true"
        else:
            options["metavar"] = name.rsplit("_", maxsplit=1)[-1].upper()
        default = "" if field.is_required() else f" (default: {field.default})"
        text = f"{field.description}{default}".replace("%", "%%")
        parser.add_argument(f"--{name.replace('_', '-')}", help=text, **options)
    return parser


if __name__ == "__main__":
    sys.exit(main())
