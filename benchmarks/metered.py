"""Carousel's server as it is, or, with --unmetered, with engines that nobody hears of."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from carousel_server import __version__, busypoll, log
from carousel_server.app import App
from carousel_server.engine.observer import Observer
from carousel_server.metrics import Metrics
from carousel_server.settings import Settings, load_settings


class Unmetered(Metrics):
    """Metrics whose engines count nothing."""

    def observer(self, model: str) -> Observer:  # type: ignore[override]  # noqa: ARG002
        """Return one that makes nothing of what it hears."""
        return Observer()


async def serve(settings: Settings, metrics: Metrics, working: set[object]) -> int:
    """Run the server until it is told to stop."""

    def announce(addresses: str) -> None:
        sys.stdout.write(f"ready {addresses}\n")
        sys.stdout.flush()

    return await App(settings, metrics=metrics, working=working).run(announce)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.metered", description=__doc__)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--unmetered", action="store_true")
    given = parser.parse_args()
    log.configure("auto")
    flags = {"models": given.models, "device": "cpu"}
    anywhere = dict.fromkeys(["address", "metrics_address"], "127.0.0.1:0")
    settings = load_settings({**flags, **anywhere}, None)
    metrics = (Unmetered if given.unmetered else Metrics)(__version__)
    working: set[object] = set()
    return busypoll.run(
        serve(settings, metrics, working),
        longest=settings.busy_poll_us * 1e-6,
        working=working,
    )


if __name__ == "__main__":
    sys.exit(main())
