"""Front doors lead by the session's header; a real Envoy takes its configuration."""

from __future__ import annotations

import contextlib

import grpc
import pytest

from carousel.v1 import server_pb2, server_pb2_grpc
from tests.chart import tools
from tests.chart.envoy import (
    bootstrap,
    files,
    free_ports,
    on_this_machine,
    placed,
    run_envoy,
    server_id,
)
from tests.chart.tools import certificate, one, render, shape
from tests.support import models
from tests.support.server import run_server


@pytest.mark.parametrize(
    "values",
    [
        shape("envoy"),
        shape("envoy") | {"ipFamily": "IPv6"},
        shape("envoy") | {"frontDoor": {"kind": "envoy", "envoy": {"policy": "RING_HASH"}}},
        shape("envoy-tls"),
        shape("envoy") | {"tls": {"enabled": True, "secretName": "tls"}},
    ],
    ids=["plain", "ipv6", "ring", "mutual", "tls"],
)
def test_envoy_takes_it(values, tmp_path):
    certificate(tmp_path / "tls", "DNS:x")
    placed(values, tmp_path)
    done = tools.envoy("--mode", "validate", "-c", tmp_path / "envoy.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Deprecated" not in done.stderr


def test_it_is_the_envoy_that_is_run():
    """The version that takes the configuration here is that of the image."""
    deployment = one(render(shape("envoy")), "Deployment")
    image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    version = image.rpartition("-v")[2]
    assert f"/{version}/" in tools.envoy("--version").stdout


def test_a_field_that_envoy_does_not_know_would_be_seen(tmp_path):
    path = tmp_path / "envoy.yaml"
    path.write_text(files(shape("envoy"))["envoy.yaml"].replace("lb_policy", "lb_polizy"))
    assert tools.envoy("--mode", "validate", "-c", path).returncode != 0


@pytest.mark.parametrize(
    ("values", "header"),
    [(shape("envoy"), "x-carousel-session"), (shape("envoy-tls"), "x-stream")],
    ids=["default", "other"],
)
def test_envoy_hashes_the_sessions_header_over_single_servers(values, header):
    found = bootstrap(values)
    manager = found["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    (route,) = manager["route_config"]["virtual_hosts"][0]["routes"]
    assert route["route"]["hash_policy"] == [{"header": {"header_name": header}}]
    assert route["route"]["timeout"] == manager["stream_idle_timeout"] == "0s"
    (cluster,) = found["clusters"]
    assert cluster["lb_policy"] == "MAGLEV"
    (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    where = endpoint["endpoint"]["address"]["socket_address"]
    name = where["address"].partition(".")[0]
    assert one(render(values), "Service", name)["spec"]["clusterIP"] == "None"


def test_the_gateway_hashes_the_sessions_header():
    manifests = render(shape("gateway"))
    route = one(manifests, "GRPCRoute")
    (backend,) = route["spec"]["rules"][0]["backendRefs"]
    service = one(manifests, "Service", backend["name"])
    assert backend["port"] == service["spec"]["ports"][0]["port"]
    policy = one(manifests, "BackendTrafficPolicy")["spec"]
    assert policy["targetRefs"][0]["name"] == route["metadata"]["name"]
    assert policy["loadBalancer"] == {
        "type": "ConsistentHash",
        "consistentHash": {"type": "Header", "header": {"name": "x-carousel-session"}},
    }
    assert policy["timeout"]["http"]["requestTimeout"] == "0s"


def test_envoy_starts_anew_when_its_configuration_changes_and_only_then():
    def template(values):
        return one(render(values), "Deployment")["spec"]["template"]

    same = shape("envoy") | {"replicas": 5}
    other = shape("envoy") | {"clusterDomain": "x.y"}
    assert template(same) == template(shape("envoy"))
    assert template(other) != template(shape("envoy"))


def test_a_real_envoy_speaks_mutual_tls_on_both_sides(tmp_path):
    """With a certificate that has the names that NOTES ask for, and no other."""
    models.put(tmp_path / "models", models.running_sum(1), "sum")
    host = "release-pods.space.svc.cluster.local"
    door = "release-front-door.space.svc.cluster.local"
    tls = certificate(tmp_path / "tls", f"DNS:{host}", f"DNS:*.{host}", f"DNS:{door}")
    flags = [f"--tls-{what}={tls / name}" for what, name in TLS_FILES.items()]
    ca, key, own = ((tls / name).read_bytes() for name in ("ca.crt", "tls.key", "tls.crt"))
    options = [("grpc.ssl_target_name_override", door)]
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(
            run_server(tmp_path / "models", *flags, log=tmp_path / "server.log")
        )
        grpc_port, probe_port = free_ports(2)
        text = placed(shape("envoy-tls"), tmp_path)["envoy.yaml"]
        here = on_this_machine(text, [server.address], grpc_port, probe_port)
        stack.enter_context(run_envoy(here, tmp_path))
        address = f"127.0.0.1:{grpc_port}"
        known = grpc.ssl_channel_credentials(ca, key, own)
        with grpc.secure_channel(address, known, options) as channel:
            assert server_id(channel)
        stranger = grpc.ssl_channel_credentials(ca)
        with (
            grpc.secure_channel(address, stranger, options) as channel,
            pytest.raises(grpc.RpcError, match="UNAVAILABLE"),
        ):
            server_pb2_grpc.ServerServiceStub(channel).Info(server_pb2.InfoRequest(), timeout=20)


#: Flags of the server, and files of cert-manager's Secret.
TLS_FILES = {"cert": "tls.crt", "key": "tls.key", "client-ca": "ca.crt"}
