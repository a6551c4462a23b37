"""What the chart tells servers is what servers know; it runs them as they want to be run."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict

import pytest
import yaml

from carousel_server import __version__
from carousel_server.__main__ import _parser
from carousel_server.settings import Settings, load_settings
from tests.chart import tools
from tests.chart.tools import CHART, SHAPES, certificate, environment, one, render, server, shape
from tests.chart.variables import filled_in
from tests.support import models
from tests.support.server import run_server

#: Where the server's own default is not what suits a pod, and why.
DEVIATIONS = {
    "parkAfter": "slots in use must tell of load: alerts and autoscaling go by them",
    "logFormat": "logs of pods are read by machines",
}


def camel(name):
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def chosen_values():
    return yaml.safe_load((CHART / "values.yaml").read_text())["server"]


def test_the_charts_server_is_this_one():
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == __version__


@pytest.mark.parametrize("name", SHAPES)
def test_every_variable_is_a_setting(name):
    settings = {f"CAROUSEL_{field.upper()}" for field in Settings.model_fields}
    told = {v for v in environment(render(shape(name))) if v.startswith("CAROUSEL_")}
    assert told - settings == set()


def test_every_setting_can_be_chosen():
    """By a value of its own under `server`, or by what says where things are."""
    told = {v for name in SHAPES for v in environment(render(shape(name)))}
    assert {f"CAROUSEL_{field.upper()}" for field in Settings.model_fields} - told == set()


def test_defaults_are_the_servers():
    own = {camel(name): field.default for name, field in Settings.model_fields.items()}
    different = {k for k, v in chosen_values().items() if own[k] != v}
    assert different == set(DEVIATIONS)


def test_every_flag_is_one_of_the_servers():
    flags = {flag for action in _parser()._actions for flag in action.option_strings}
    given = {
        word
        for name in SHAPES
        for word in server(render(shape(name))).get("args", [])
        if word.startswith("--")
    }
    assert given <= flags
    assert given


def plain(manifests):
    """Return the server's variables as the kubelet would fill them in."""
    variables = environment(manifests)
    ip = "fd00::1" if "[$(POD_IP)]" in str(variables) else "10.1.2.3"
    return filled_in(
        variables,
        fields={"metadata.name": "release-0", "metadata.namespace": "space", "status.podIP": ip},
        secrets=defaultdict(lambda: "redis://user:secret@redis.example:6379/0"),
    )


@pytest.mark.parametrize("name", SHAPES)
def test_the_server_takes_what_it_is_told(name, monkeypatch):
    """All variables together, as the kubelet fills them in."""
    for variable, value in plain(render(shape(name))).items():
        monkeypatch.setenv(variable, value)
    settings = load_settings({}, None)
    assert settings.advertise
    assert str(settings.models) == "/models"


def test_the_kubelet_knows_a_variable_before_it_is_used():
    for name in SHAPES:
        seen = set()
        for variable, value in environment(render(shape(name))).items():
            used = set(re.findall(r"\$\((\w+)\)", value)) if isinstance(value, str) else set()
            assert used <= seen, (name, variable)
            seen.add(variable)


def test_addresses_come_from_the_pod():
    told = plain(render({}))
    assert told["CAROUSEL_ADDRESS"] == "10.1.2.3:8001"
    assert told["CAROUSEL_METRICS_ADDRESS"] == "10.1.2.3:8002"
    assert told["CAROUSEL_ADVERTISE"] == "release-0.release-pods.space.svc.cluster.local:8001"
    assert plain(render(shape("ipv6")))["CAROUSEL_ADDRESS"] == "[fd00::1]:8001"
    assert plain(render({"listen": "all"}))["CAROUSEL_ADDRESS"] == "0.0.0.0:8001"
    assert plain(render({"listen": "all", "ipFamily": "IPv6"}))["CAROUSEL_ADDRESS"] == "[::]:8001"


def test_the_advertised_name_is_one_that_the_headless_service_gives():
    """POD.SERVICE.NAMESPACE.svc.DOMAIN is there where `serviceName` is a headless Service."""
    manifests = render({})
    name = one(manifests, "StatefulSet")["spec"]["serviceName"]
    assert one(manifests, "Service", name)["spec"]["clusterIP"] == "None"
    assert environment(manifests)["CAROUSEL_ADVERTISE"].startswith(f"$(POD_NAME).{name}.space.svc.")


@pytest.mark.parametrize("name", SHAPES)
def test_insecure_is_said_where_tls_is_off_and_only_there(name):
    tls = shape(name).get("tls", {}).get("enabled", False)
    told = environment(render(shape(name)))
    assert ("CAROUSEL_INSECURE" in told) != tls
    assert ("CAROUSEL_TLS_CERT" in told) == tls


@pytest.mark.parametrize(
    ("resources", "threads"),
    [
        ({}, "1"),
        ({"requests": {"cpu": "4"}}, "3"),
        ({"requests": {"cpu": 4}}, "3"),
        ({"requests": {"cpu": "2500m"}}, "2"),
        ({"requests": {"cpu": "100m"}}, "1"),
        ({"requests": {"cpu": "1.5"}}, "1"),
        ({"requests": {"cpu": "1"}, "limits": {"cpu": "8"}}, "7"),
        ({"requests": {"cpu": None}}, "1"),
    ],
)
def test_threads_follow_the_pods_cpus_not_the_nodes(resources, threads):
    assert environment(render({"resources": resources}))["CAROUSEL_THREADS"] == threads


def test_numbers_are_written_out():
    told = environment(render({"server": {"maxMessageBytes": 2**31 - 1, "parkAfter": 0.25}}))
    assert told["CAROUSEL_MAX_MESSAGE_BYTES"] == "2147483647"
    assert told["CAROUSEL_PARK_AFTER"] == "0.25"


@pytest.mark.parametrize("name", SHAPES)
def test_a_pod_has_time_to_drain(name):
    values = shape(name)
    pod = one(render(values), "StatefulSet", _set_name(values))["spec"]["template"]["spec"]
    drain = float(environment(render(values))["CAROUSEL_DRAIN_SECONDS"])
    assert pod["terminationGracePeriodSeconds"] >= drain + 5
    assert server(render(values))["lifecycle"]["preStop"]["exec"]["command"] == [
        "carousel-server",
        "drain",
    ]


def _set_name(values):
    return values.get("fullnameOverride", "release")


def test_paths_are_mounted():
    """Each path that a variable names is in a volume of the container."""
    for name in SHAPES:
        container = server(render(shape(name)))
        mounted = [mount["mountPath"] for mount in container["volumeMounts"]]
        for variable, value in environment(render(shape(name))).items():
            if isinstance(value, str) and value.startswith("/"):
                assert any(f"{value}/".startswith(f"{m}/") for m in mounted), (name, variable)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chart")
    models.put(folder / "models", models.running_sum(3), "sum")
    models.put(folder / "models", models.lstm(features=2), "lstm")
    with run_server(folder / "models", log=folder / "log") as found:
        yield found


def test_probes_and_monitors_ask_for_paths_that_are_there(running):
    container = server(render({}))
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"grpc": 8001, "http": 8002}
    probes = [container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")]
    monitored = [
        one(render(shape("production")), "ServiceMonitor")["spec"]["endpoints"][0],
        one(render(shape("hpa-slots")), "PodMonitor")["spec"]["podMetricsEndpoints"][0],
    ]
    for asked in [*probes, *monitored]:
        assert asked["port"] == "http"
        done = tools.ask("curl", "--fail", "--silent", f"http://{running.http}{asked['path']}")
        assert done.returncode == 0, asked


def test_each_monitor_finds_the_servers_once():
    manifests = render(shape("production"))
    labels = one(manifests, "ServiceMonitor")["spec"]["selector"]["matchLabels"]
    found = [
        manifest["metadata"]["name"]
        for manifest in manifests
        if manifest["kind"] == "Service"
        and labels.items() <= manifest["metadata"]["labels"].items()
    ]
    assert found == ["release-pods"]
    pods = one(render(shape("hpa-slots")), "PodMonitor")["spec"]["selector"]["matchLabels"]
    template = one(render(shape("hpa-slots")), "StatefulSet")["spec"]["template"]
    assert pods.items() <= template["metadata"]["labels"].items()


def session_test(*words):
    return subprocess.run(
        [sys.executable, CHART / "files" / "session.py", *words],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("model", ["", "sum", "lstm"])
def test_helms_test_opens_a_session_and_steps_it(running, model):
    done = session_test(running.address, model)
    assert done.returncode == 0, done.stderr
    assert "stepped it twice" in done.stdout
    assert model in done.stdout


def test_helms_test_fails_where_there_is_no_such_model(running):
    done = session_test(running.address, "other")
    assert done.returncode != 0
    assert "other" in done.stderr


def test_helms_test_shows_the_servers_certificate_where_one_is_asked_for(tmp_path):
    """With files of the names that the chart sets, and the chart's variables' flags."""
    tls = certificate(tmp_path / "tls", "IP:127.0.0.1")
    told = environment(render(shape("production")))
    flags = []
    for setting in ("TLS_CERT", "TLS_KEY", "TLS_CLIENT_CA"):
        path = told[f"CAROUSEL_{setting}"].replace("/etc/carousel/tls", str(tls))
        flags += [f"--{setting.lower().replace('_', '-')}", path]
    models.put(tmp_path / "models", models.running_sum(3), "sum")
    with run_server(tmp_path / "models", *flags, log=tmp_path / "log") as server:
        done = session_test(server.address, "sum", str(tls))
        assert done.returncode == 0, done.stderr


def test_helms_test_needs_nothing_but_what_the_image_has():
    """The image has no SDK."""
    imports = re.findall(
        r"^(?:import|from) (\w+)", (CHART / "files" / "session.py").read_text(), re.MULTILINE
    )
    assert set(imports) <= {"sys", "pathlib", "grpc", "numpy", "carousel"}
    (test,) = one(render({}), "Pod")["spec"]["containers"]
    assert test["image"] == server(render({}))["image"]
    assert test["command"] == ["python", "/test/session.py"]
    assert test["args"] == ["release.space.svc.cluster.local:8001", ""]
