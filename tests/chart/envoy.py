"""The chart's Envoy, as it is rendered and as it runs on this machine."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import yaml

from carousel.v1 import server_pb2, server_pb2_grpc
from tests.chart import tools
from tests.chart.tools import one, render


def files(values: Mapping[str, Any]) -> dict[str, str]:
    """Return Envoy's files by name."""
    return one(render(values), "ConfigMap", "release-front-door")["data"]


def bootstrap(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return its listeners and clusters."""
    return yaml.safe_load(files(values)["envoy.yaml"])["static_resources"]


def placed(values: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Write Envoy's files where they can be read without being root; return their texts."""
    texts = {}
    for name, text in files(values).items():
        here = text.replace("/etc/envoy/", f"{folder}/")
        texts[name] = here.replace("/etc/carousel/tls", f"{folder}/tls")
        (folder / name).write_text(texts[name])
    return texts


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback address on which nobody listens."""
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one_of_them in found:
            one_of_them.bind(("127.0.0.1", 0))
        return [one_of_them.getsockname()[1] for one_of_them in found]


def on_this_machine(
    text: str, servers: Sequence[str], grpc_port: int, probe_port: int
) -> dict[str, Any]:
    """Return the chart's configuration with other addresses, and nothing else changed."""
    found = yaml.safe_load(text)
    del found["admin"]
    listeners = found["static_resources"]["listeners"]
    for listener, port in zip(listeners, (grpc_port, probe_port), strict=True):
        listener["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": port}
    (cluster,) = found["static_resources"]["clusters"]
    (group,) = cluster["load_assignment"]["endpoints"]
    hosts = [server.rpartition(":") for server in servers]
    group["lb_endpoints"] = [
        {"endpoint": {"address": {"socket_address": {"address": h, "port_value": int(p)}}}}
        for h, _, p in hosts
    ]
    return found


@contextlib.contextmanager
def run_envoy(configuration: Mapping[str, Any], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run it for as long as the context lasts."""
    path = folder / "envoy.yaml"
    path.write_text(yaml.safe_dump(configuration))
    with (folder / "envoy.log").open("w") as log:
        command = [tools.ENVOY, "-c", path, "--concurrency", "1", "--use-dynamic-base-id"]
        process = subprocess.Popen([str(word) for word in command], stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(20)


def server_id(channel: grpc.Channel, session: str = "any") -> int:
    """Return the id of the server that a session's calls come to."""
    stub = server_pb2_grpc.ServerServiceStub(channel)
    header = [("x-carousel-session", session)]
    found: int = stub.Info(
        server_pb2.InfoRequest(), metadata=header, timeout=20, wait_for_ready=True
    ).server_id
    return found
