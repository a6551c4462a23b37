"""How an example ends: with a sentence and a status, whatever happened."""

from __future__ import annotations

from collections.abc import Callable

import carousel_client as carousel
from carousel_exporter.errors import ExporterError
from examples.common.display import Display
from examples.common.errors import DemoError
from examples.common.signals import ending_on_signals


def run_to_end(display: Display, run: Callable[[], None]) -> int:
    """Run an example and return its exit status: 0, 1 where it failed, 130 after Ctrl-C."""
    try:
        with ending_on_signals():
            run()
    except KeyboardInterrupt:
        told, status = "Interrupted; nothing is left running.", 130
    except (DemoError, ExporterError, carousel.CarouselError, OSError) as error:
        told, status = f"The example failed: {error}", 1
    else:
        return 0
    display.say(told, style="bold red")
    return status
