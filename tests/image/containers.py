"""Containers of the built image, run by podman as the chart's pods would be run by a kubelet."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.chart.tools import Manifest
from tests.docs.pages import ROOT
from tests.image.flags import podman_flags
from tests.support.redis import needed_tool

IMAGE = "localhost/carousel-server"
_STORE = ROOT / ".image" / "store"
_SECONDS = 60

#: The kernel's way to bound a container's memory, version 1 or 2; without it limits are left out.
LIMITS_MEMORY = any(
    path.exists() and (path.name != "cgroup.controllers" or "memory" in path.read_text().split())
    for path in (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/cgroup.controllers"),
    )
)

#: A root without CAP_SYS_RESOURCE could not raise these to what podman asks for by itself.
_ULIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")

#: Nothing may need a shell: these can't be run.
_NO_SHELL = [
    word for shell in ("dash", "bash") for word in ("--volume", f"/dev/null:/usr/bin/{shell}:ro")
]


def podman(*words: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run podman on the store that scripts/build-image made."""
    if os.geteuid() != 0 or not _STORE.exists():
        pytest.fail("these tests need root, and the image that `make image` builds first")
    command = [
        *(needed_tool("podman"), "--root", _STORE / "root", "--runroot", _STORE / "run"),
        *("--cgroup-manager", "cgroupfs", *words),
    ]
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False
    )
    assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done


def run(*flags: object, command: Sequence[object] = ()) -> subprocess.CompletedProcess[str]:
    """Run a container of the image until it ends; its output is returned, not judged."""
    return podman("run", "--rm", *_always(), *flags, IMAGE, *command, check=False)


def _always() -> tuple[str, ...]:
    return ("--runtime", needed_tool("runc"), "--network", "host", *_ULIMITS, *_NO_SHELL)


@dataclass
class RunningPod:
    """A pod of one container."""

    name: str
    ip: str
    spec: Manifest

    @property
    def container(self) -> Manifest:
        """The container's part of the manifest."""
        (found,) = self.spec["containers"]
        return found

    @property
    def address(self) -> str:
        """Where it serves gRPC."""
        return f"{self.ip}:{self._port('grpc')}"

    def probe(self, kind: str) -> int | None:
        """Return what a probe is answered, as an HTTP status; None: nobody answers."""
        asked = self.container[f"{kind}Probe"]["httpGet"]
        url = f"http://{self.ip}:{self._port(asked['port'])}{asked['path']}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:
            return None

    def wait_until_ready(self) -> None:
        """Wait for what the kubelet waits for."""
        until = time.monotonic() + _SECONDS
        while self.probe("startup") != 200 or self.probe("readiness") != 200:
            if time.monotonic() > until or not self.inspect("State")["Running"]:
                raise AssertionError(f"{self.name} did not become ready:\n{self.logs()}")
            time.sleep(0.05)

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container, as a hook would be."""
        return podman("exec", self.name, *command, check=False)

    def run_hook(self) -> subprocess.CompletedProcess[str]:
        """Run what the chart has run before a stop."""
        return self.execute(*self.container["lifecycle"]["preStop"]["exec"]["command"])

    def stop(self) -> int:
        """Send the image's stop signal, after the pod's grace SIGKILL; return the exit status."""
        podman("stop", "--time", self.spec["terminationGracePeriodSeconds"], self.name)
        return int(self.inspect("State")["ExitCode"])

    def logs(self) -> str:
        """Return what it wrote so far."""
        done = podman("logs", self.name, check=False)
        return done.stdout + done.stderr

    def inspect(self, part: str) -> Any:
        """Return a part of what podman knows of the container."""
        return json.loads(podman("inspect", "--type", "container", self.name).stdout)[0][part]

    def _port(self, name: str) -> int:
        (found,) = (p["containerPort"] for p in self.container["ports"] if p["name"] == name)
        return int(found)


@contextmanager
def run_pod(
    spec: Manifest, folders: Mapping[str, Path], secrets: Mapping[str, str], log: Path
) -> Iterator[RunningPod]:
    """Run a pod with an address of its own on the loopback network, for as long as the context."""
    pod = RunningPod(f"pod-{uuid.uuid4().hex[:8]}", _free_ip(spec), spec)
    fields = {
        "metadata.name": pod.name,
        "metadata.namespace": "space",
        "status.podIP": pod.ip,
    }
    flags = podman_flags(
        spec,
        pod.container,
        folders=folders,
        fields=fields,
        secrets=secrets,
        limits_memory=LIMITS_MEMORY,
    )
    podman(
        *("run", "--detach", "--name", pod.name, "--log-driver", "k8s-file", *_always(), *flags),
        *(IMAGE, *pod.container.get("args", [])),
    )
    try:
        pod.wait_until_ready()
        yield pod
    finally:
        log.write_text(pod.logs())
        podman("rm", "--force", "--time", "0", pod.name)


def _free_ip(spec: Manifest) -> str:
    """Return a loopback address at which nobody has the pod's ports, which the chart fixes."""
    ports = [port["containerPort"] for port in spec["containers"][0]["ports"]]
    for _ in range(100):
        ip = f"127.{random.randint(1, 254)}.{random.randint(0, 255)}.{random.randint(1, 254)}"
        try:
            for port in ports:
                with socket.socket() as tried:
                    tried.bind((ip, port))
        except OSError:
            continue
        return ip
    raise AssertionError(f"no loopback address with the ports {ports} free was found")
