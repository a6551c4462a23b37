"""A real Prometheus for tests: on 127.0.0.1 and a free port, ended with the test."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support.redis import needed_tool

_START_SECONDS = 30


@dataclass(frozen=True)
class Sample:
    """One value of a query's answer."""

    labels: dict[str, str]
    value: float


@dataclass(frozen=True)
class RunningPrometheus:
    """Where a Prometheus answers."""

    url: str

    def query(self, expression: str) -> list[Sample]:
        """Return what an expression gives now."""
        found = self.get("query", query=expression)["result"]
        return [Sample(one["metric"], float(one["value"][1])) for one in found]

    def alerts(self) -> dict[str, str]:
        """Return the state of each alert that is not at rest: "pending" or "firing"."""
        found = self.get("alerts")["alerts"]
        return {one["labels"]["alertname"]: one["state"] for one in found}

    def rules(self) -> list[dict[str, Any]]:
        """Return its rules, and how their last evaluations went."""
        groups = self.get("rules")["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def get(self, path: str, **asked: str) -> Any:
        """Ask its HTTP API, and return what the answer has under `data`."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(asked)}"
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{path} {asked}: {error.read().decode()}") from error


@contextmanager
def run_prometheus(
    folder: Path,
    targets: Mapping[str, Mapping[str, str]],
    *,
    rules: Sequence[Mapping[str, Any]] = (),
    seconds: float = 1.0,
) -> Iterator[RunningPrometheus]:
    """Run one that scrapes and evaluates every so many seconds, for as long as the context lasts.

    `targets` are HOST:PORT with the labels that their series get; `rules` are groups of rules.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    configuration = _configuration(folder, targets, rules, f"{round(seconds * 1000)}ms")
    command = [
        *(needed_tool("prometheus"), f"--config.file={configuration}"),
        *(f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={address}"),
    ]
    log = folder / "prometheus.log"
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    running = RunningPrometheus(f"http://{address}")
    try:
        _wait(running, process, log)
        yield running
    finally:
        process.terminate()
        process.wait(20)


def _configuration(
    folder: Path,
    targets: Mapping[str, Mapping[str, str]],
    rules: Sequence[Mapping[str, Any]],
    every: str,
) -> Path:
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": list(rules)}))
    path = folder / "prometheus.yaml"
    static = [{"targets": [target], "labels": {**labels}} for target, labels in targets.items()]
    jobs = [{"job_name": "carousel", "static_configs": static}]
    every_time = {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every}
    path.write_text(
        yaml.safe_dump({"global": every_time, "rule_files": ["rules.yaml"], "scrape_configs": jobs})
    )
    return path


def _wait(running: RunningPrometheus, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"{running.url}/-/ready", timeout=5):
                return
        except OSError:
            if time.monotonic() > until or process.poll() is not None:
                raise AssertionError(log.read_text()) from None
            time.sleep(0.05)
