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
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import carousel_client as carousel
from tests.chaos.crowd import FEATURES, MODEL, Crowd, run_crowd
from tests.chaos.fleet import free_ports
from tests.chaos.record import compare
from tests.chart.cluster_ip import ClusterIp
from tests.chart.kubelet import Pod, Template, roll
from tests.chart.test_server import plain
from tests.chart.tools import RELEASE, render
from tests.support import models
from tests.support.redis import run_redis

pytestmark = pytest.mark.timeout(600)

PODS = 3
APPEND_ALWAYS = ("--appendonly", "yes", "--appendfsync", "always")


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
async def run_cluster(folder: Path, values: dict, sessions: int) -> AsyncIterator[Cluster]:
    """Run pods under load; at the end compare every answer.

    Half of the clients have the pods' own names, as of the headless Service; the others have the
    ClusterIP Service alone, until the SDK is told where a session is.
    """
    manifests = render(values)
    told = {k: v for k, v in plain(manifests).items() if k.startswith("CAROUSEL_")}
    template, chance = Template.of(manifests), random.Random(7)
    model = models.put(folder / "models", models.lstm(features=FEATURES, outputs=2), MODEL)
    async with AsyncExitStack() as stack:
        redis = stack.enter_context(run_redis(folder, *APPEND_ALWAYS))
        ports = free_ports(2 * PODS, chance)
        pods: list[Pod] = []
        service = ClusterIp(lambda: [pod.address for pod in pods if pod.ready], chance)
        for number in range(PODS):
            address = f"127.0.0.1:{ports[number]}"
            here = told | {
                "CAROUSEL_MODELS": str(folder / "models"),
                "CAROUSEL_ADDRESS": address,
                "CAROUSEL_ADVERTISE": address,
                "CAROUSEL_METRICS_ADDRESS": f"127.0.0.1:{ports[PODS + number]}",
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
            run_crowd(where, sessions // 2, chance, prefix=prefix)
            for prefix, where in (("own", addresses), ("service", [service.address]))
        ]
        crowds = [await stack.enter_async_context(crowd) for crowd in running]
        yield Cluster(pods, crowds)
        for crowd in crowds:
            await crowd.advance()
            await crowd.finish()
        assert sum(compare(crowd.tracks, model) for crowd in crowds) > sessions


def values(**more: object) -> dict:
    return {"store": {"kind": "redis", "redis": {"secretName": "redis"}}, **more}


async def test_a_rolling_restart_is_no_error_to_anybody(tmp_path, pytestconfig, say):
    full = pytestconfig.option.full
    chosen = values() if full else values(minReadySeconds=2)
    async with run_cluster(tmp_path, chosen, 200 if full else 40) as cluster:
        for _ in range(3 if full else 1):
            ends = await roll(cluster.pods, say)
            await cluster.advance()
            # By themselves, in good time: the hook drained them, SIGTERM found nothing to do.
            assert [(end.status, end.killed, end.hook) for end in ends] == [(0, False, 0)] * PODS
            assert all(end.seconds < cluster.pods[0].template.grace / 2 for end in ends)
        assert sum(await cluster.sessions()) == (200 if full else 40)
    waits = [track.longest_wait for crowd in cluster.crowds for track in crowd.tracks]
    say(f"longest waits: median {np.median(waits):.2f} s, at most {max(waits):.2f} s\n")


async def test_a_pod_that_hangs_is_killed_and_its_sessions_go_on(tmp_path):
    """Its hook can't drain it: the grace period passes, and SIGKILL ends it."""
    short = values(minReadySeconds=0, server={"drainSeconds": 1}, graceExtraSeconds=5)
    async with run_cluster(tmp_path, short, 20) as cluster:
        pod = cluster.pods[-1]
        pod.process.send_signal(signal.SIGSTOP)
        ended = await pod.terminate()
        assert (ended.killed, ended.status) == (True, -signal.SIGKILL)
        assert ended.hook != 0
        await cluster.advance()
        await pod.start()
        await pod.ready_for(0.1)
