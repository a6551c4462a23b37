"""What Kubernetes does to a pod, to real processes: in its order and with its times.

All that decides it is taken from the rendered StatefulSet: the container's variables and its
preStop hook, the grace period, the probes, `minReadySeconds`. Sources: "Pod Lifecycle" (termination
of pods) and "StatefulSets" (rolling updates) in the documentation of Kubernetes.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.chart import tools
from tests.chart.tools import Manifest

#: When the hook has used up the grace period, the kubelet grants so many seconds more, once.
_EXTENSION_SECONDS = 2.0
_START_SECONDS = 60.0


@dataclass(frozen=True)
class Template:
    """What of a pod's template, and of its StatefulSet, says how a pod comes and goes."""

    command: Sequence[str]
    pre_stop: Sequence[str]
    grace: float
    min_ready: float
    startup: str
    startup_period: float
    readiness: str
    readiness_period: float
    readiness_failures: int

    @classmethod
    def of(cls, manifests: Sequence[Manifest]) -> Template:
        """Return what the chart says."""
        spec = tools.one(manifests, "StatefulSet")["spec"]
        container = tools.server(manifests)
        startup, readiness = container["startupProbe"], container["readinessProbe"]
        return cls(
            command=["carousel-server"],
            pre_stop=container["lifecycle"]["preStop"]["exec"]["command"],
            grace=spec["template"]["spec"]["terminationGracePeriodSeconds"],
            min_ready=spec["minReadySeconds"],
            startup=startup["httpGet"]["path"],
            startup_period=startup["periodSeconds"],
            readiness=readiness["httpGet"]["path"],
            readiness_period=readiness["periodSeconds"],
            readiness_failures=readiness["failureThreshold"],
        )


@dataclass(frozen=True)
class Ended:
    """How a container came to its end."""

    status: int
    killed: bool
    hook: int | None  # the hook's status; None: it was cut off
    seconds: float


@dataclass
class Pod:
    """One pod: its container, and what the kubelet knows of it."""

    name: str
    template: Template
    environment: Mapping[str, str]
    log: Path
    on_ready: Callable[[], None]
    ready: bool = False
    process: subprocess.Popen[bytes] | None = None
    _probing: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def address(self) -> str:
        """Where its gRPC is."""
        return self.environment["CAROUSEL_ADDRESS"]

    async def start(self) -> None:
        """Start the container; once its startup probe succeeds, probe whether it is ready."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: ASYNC220, it takes a millisecond
                _here(self.template.command), stdout=log, stderr=log, env=self._variables()
            )
        until = time.monotonic() + _START_SECONDS
        while not await self._probe(self.template.startup):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
            await asyncio.sleep(self.template.startup_period)
        self._probing = asyncio.create_task(self._follow())

    async def ready_for(self, seconds: float) -> None:
        """Wait until it has been ready for so long, without a break."""
        since = time.monotonic()
        until = since + _START_SECONDS
        while time.monotonic() - since < seconds or not self.ready:
            if not self.ready:
                since = time.monotonic()
            assert time.monotonic() < until, f"{self.name} is not ready: {self.log.read_text()}"
            await asyncio.sleep(0.1)

    async def terminate(self) -> Ended:
        """Run the hook, send SIGTERM, and SIGKILL when the grace period is over."""
        assert self.process is not None
        assert self._probing is not None
        began = time.monotonic()
        self._probing.cancel()
        self._set_ready(ready=False)
        hook = await self._run_hook()
        left = self.template.grace - (time.monotonic() - began)
        self.process.send_signal(signal.SIGTERM)
        killed = False
        try:
            status = await self._wait(max(left, _EXTENSION_SECONDS))
        except subprocess.TimeoutExpired:
            killed = True
            self.process.kill()
            status = await self._wait(10)
        return Ended(status, killed, hook, time.monotonic() - began)

    def end(self) -> None:
        """End whatever is left."""
        if self._probing:
            self._probing.cancel()
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    async def _run_hook(self) -> int | None:
        """Run the hook in the container; None: the grace period was over before it was."""
        with self.log.open("ab") as log:
            hook = await asyncio.create_subprocess_exec(
                *_here(self.template.pre_stop), stdout=log, stderr=log, env=self._variables()
            )
        try:
            return await asyncio.wait_for(hook.wait(), self.template.grace)
        except TimeoutError:
            hook.kill()
            await hook.wait()
            return None

    async def _follow(self) -> None:
        failures = 0
        while True:
            failures = 0 if await self._probe(self.template.readiness) else failures + 1
            if not failures:
                self._set_ready(ready=True)
            elif failures >= self.template.readiness_failures:
                self._set_ready(ready=False)
            await asyncio.sleep(self.template.readiness_period)

    def _set_ready(self, *, ready: bool) -> None:
        if ready != self.ready:
            self.ready = ready
            self.on_ready()

    async def _probe(self, path: str) -> bool:
        url = f"http://{self.environment['CAROUSEL_METRICS_ADDRESS']}{path}"

        def ask() -> bool:
            with suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
                return bool(answer.status == 200)
            return False

        return await asyncio.to_thread(ask)

    async def _wait(self, seconds: float) -> int:
        assert self.process is not None
        return await asyncio.to_thread(self.process.wait, seconds)

    def _variables(self) -> dict[str, str]:
        others = {k: v for k, v in os.environ.items() if not k.startswith("CAROUSEL_")}
        return {**others, **self.environment}


def _here(command: Sequence[str]) -> list[str]:
    """Return a command of the image as this environment has it."""
    return [str(Path(sys.executable).parent / command[0]), *command[1:]]


async def roll(pods: Sequence[Pod], say: Callable[[str], None]) -> list[Ended]:
    """Replace all pods as a StatefulSet's rolling update does: the highest number first.

    The next one follows when the new one has been ready for `minReadySeconds`.
    """
    ends = []
    for pod in reversed(pods):
        ended = await pod.terminate()
        ends.append(ended)
        await pod.start()
        await pod.ready_for(pod.template.min_ready)
        say(f"{pod.name} was replaced; it took {ended.seconds:.1f} s to end")
    return ends
