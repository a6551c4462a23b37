"""Front doors lead by the session's header; a real Envoy takes its configuration."""

from __future__ import annotations

import subprocess

import pytest
import yaml

from tests.chart import tools
from tests.chart.tools import one, render, shape
from tests.support.redis import needed_tool


def files(values):
    return one(render(values), "ConfigMap", "release-front-door")["data"]


def bootstrap(values):
    return yaml.safe_load(files(values)["envoy.yaml"])["static_resources"]


def certificate(folder):
    """Make a certificate that is its own authority, as files of cert-manager's names."""
    subprocess.run(
        [
            *(
                needed_tool("openssl"),
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "1",
            ),
            *("-subj", "/CN=x", "-keyout", folder / "tls.key", "-out", folder / "tls.crt"),
        ],
        check=True,
        capture_output=True,
    )
    (folder / "ca.crt").write_bytes((folder / "tls.crt").read_bytes())


@pytest.mark.parametrize(
    "values",
    [
        shape("envoy"),
        shape("envoy") | {"ipFamily": "IPv6"},
        shape("envoy-tls"),
        shape("envoy") | {"tls": {"enabled": True, "secretName": "tls"}},
    ],
    ids=["plain", "ipv6", "mutual", "tls"],
)
def test_envoy_takes_it(values, tmp_path):
    certificate(tmp_path)
    for name, text in files(values).items():
        here = text.replace("/etc/envoy/", f"{tmp_path}/").replace(
            "/etc/carousel/tls", str(tmp_path)
        )
        (tmp_path / name).write_text(here)
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
    assert cluster["lb_policy"] == "RING_HASH"
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
