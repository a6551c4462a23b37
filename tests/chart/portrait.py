"""Make docs/images/dashboard.png: the dashboard over a few minutes of real servers' life.

`python -m tests.chart.portrait`: servers, Redis, Prometheus and load are those of the tests
(`watched.py`). The load rises and falls; one server is drained and comes back; Redis goes away for
a while.
"""

from __future__ import annotations

import asyncio
import math
import sys
import tempfile
import time
from pathlib import Path

from tests.chart.tools import NAMESPACE, TOOLS
from tests.chart.watched import Watched, run_watched
from tests.docs.pages import ROOT

sys.path.insert(0, str(TOOLS))

import picture

OUT = ROOT / "docs" / "images" / "dashboard.png"
_SECONDS, _WARM_UP, _WINDOW = 135.0, 15.0, 15.0
_REDIS_AWAY, _DRAIN, _BACK = (40.0, 50.0), 85.0, 89.0


async def live(watched: Watched) -> None:
    """Let things happen."""
    began = time.monotonic()
    member = watched.fleet.members[1]
    events = [
        (_REDIS_AWAY[0], lambda: asyncio.to_thread(watched.redis.kill)),
        (_REDIS_AWAY[1], lambda: asyncio.to_thread(watched.redis.start)),
        (_DRAIN, member.drain),
        (_BACK, member.start),
    ]
    while (now := time.monotonic() - began) < _SECONDS:
        watched.load.check()
        watched.load.level = 1.0 + 0.8 * math.sin(2 * math.pi * now / 60)
        if events and now >= events[0][0]:
            await events.pop(0)[1]()
        await asyncio.sleep(0.25)


async def main() -> int:
    """Run everything, draw, and return how many panels have nothing to show."""
    with tempfile.TemporaryDirectory() as folder:
        async with run_watched(Path(folder)) as watched:
            await asyncio.sleep(_WARM_UP)
            begin = time.time()
            await live(watched)
            span = picture.Span(begin, time.time(), step=1.0, window=_WINDOW)
            empty = await asyncio.to_thread(
                picture.draw, watched.prometheus.url, NAMESPACE, span, OUT
            )
    for title in empty:
        sys.stderr.write(f"nothing to show: {title}\n")
    return len(empty)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
