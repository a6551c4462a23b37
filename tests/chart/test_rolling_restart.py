"""An upgrade at noon: all pods are replaced under load, and no application hears of it.

Real processes, started with the chart's variables, in the order and with the times of Kubernetes
(`kubelet.py`); the store is a Redis. Every answer is compared with an uninterrupted run's.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

import carousel_client as carousel
from tests.chaos.crowd import FEATURES, MODEL, Crowd, run_crowd
from tests.chaos.fleet import free_ports
from tests.chaos.record import compare
from tests.chaos.world import APPEND_ALWAYS
from tests.chart.cluster_ip import ClusterIp
from tests.chart.kubelet import Pod, Template, roll
from tests.chart.test_server import plain
from tests.chart.tools import RELEASE, render
from tests.support import models
from tests.support.redis import run_redis

pytestmark = pytest.mark.timeout(600)


VALUES = {"store": {"kind": "redis", "redis": {"secretName": "redis"}}}


@dataclass(frozen=True)
class Scale:
    """How much happens; `--full` is what the chart says, and as many as `make chaos` has."""

    pods: int
    sessions: int
    rounds: int
    values: dict


QUICK = Scale(2, 40, 1, VALUES | {"minReadySeconds": 2})
FULL = Scale(3, 200, 3, VALUES)


@dataclass
class Cluster:
    """What runs."""

    pods: list[Pod]
    crowds: list[Crowd]

    async def advance(self) -> None:
        """Wait until every session was answered again."""
        for crowd in self.crowds:
            await crowd.advance()

    async def sessions(self) -> list[int]:
        """Return how many sessions each pod has."""
        counts = []
        for pod in self.pods:
            async with carousel.aio.connect(pod.address) as client:
                counts.append(len(await client.sessions(MODEL)))
        return counts


@asynccontextmanager
async def run_cluster(folder: Path, scale: Scale) -> AsyncIterator[Cluster]:
    """Run pods under load; at the end compare every answer.

    Half of the clients have the pods' own names, as of the headless Service; the others have the
    ClusterIP Service alone, until the SDK is told where a session is.
    """
    manifests = render(scale.values)
    told = {k: v for k, v in plain(manifests).items() if k.startswith("CAROUSEL_")}
    template, chance = Template.of(manifests), random.Random(7)
    model = models.put(folder / "models", models.lstm(features=FEATURES, outputs=2), MODEL)
    async with AsyncExitStack() as stack:
        redis = stack.enter_context(run_redis(folder, *APPEND_ALWAYS))
        ports = free_ports(2 * scale.pods, chance)
        pods: list[Pod] = []
        service = ClusterIp(lambda: [pod.address for pod in pods if pod.ready], chance)
        for number in range(scale.pods):
            address = f"127.0.0.1:{ports[number]}"
            here = told | {
                "CAROUSEL_MODELS": str(folder / "models"),
                "CAROUSEL_ADDRESS": address,
                "CAROUSEL_ADVERTISE": address,
                "CAROUSEL_METRICS_ADDRESS": f"127.0.0.1:{ports[scale.pods + number]}",
                "CAROUSEL_STORE": redis.url,
            }
            name = f"{RELEASE}-{number}"
            pods.append(Pod(name, template, here, folder / f"{name}.log", service.changed))
        for pod in pods:
            stack.callback(pod.end)
        await service.start()
        stack.push_async_callback(service.stop)
        # podManagementPolicy: Parallel.
        await asyncio.gather(*(pod.start() for pod in pods))
        await asyncio.gather(*(pod.ready_for(1.5) for pod in pods))
        addresses = [pod.address for pod in pods]
        running = [
            run_crowd(where, scale.sessions // 2, chance, prefix=prefix)
            for prefix, where in (("own", addresses), ("service", [service.address]))
        ]
        crowds = [await stack.enter_async_context(crowd) for crowd in running]
        yield Cluster(pods, crowds)
        for crowd in crowds:
            await crowd.advance()
            await crowd.finish()
        assert sum(compare(crowd.tracks, model) for crowd in crowds) > scale.sessions


async def test_a_rolling_restart_and_a_pod_that_hangs_are_no_error_to_anybody(
    tmp_path, pytestconfig, say
):
    scale = FULL if pytestconfig.option.full else QUICK
    async with run_cluster(tmp_path, scale) as cluster:
        for _ in range(scale.rounds):
            ends = await roll(cluster.pods, say)
            await cluster.advance()
            # By themselves, in good time: the hook drained them, SIGTERM found nothing to do.
            by_itself = [(end.status, end.killed, end.hook) for end in ends]
            assert by_itself == [(0, False, 0)] * scale.pods
            assert all(end.seconds < cluster.pods[0].template.grace / 2 for end in ends)
        assert sum(await cluster.sessions()) == scale.sessions

        pod = cluster.pods[-1]
        pod.template = replace(pod.template, grace=6)  # half a minute more would show no more
        pod.process.send_signal(signal.SIGSTOP)
        ended = await pod.terminate()
        assert (ended.killed, ended.status, ended.hook) == (True, -signal.SIGKILL, None)
        await cluster.advance()
        say(f"{pod.name} hung, and was killed after {ended.seconds:.1f} s")
    waits = [track.longest_wait for crowd in cluster.crowds for track in crowd.tracks]
    say(f"longest waits: median {np.median(waits):.1f} s, at most {max(waits):.1f} s\n")
