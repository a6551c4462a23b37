"""What the chart takes for granted of the image is what the Dockerfile makes."""

from __future__ import annotations

import json
import re
import tomllib

import pytest
import yaml

from tests.chart.tools import CHART, SHAPES, environment, one, render, server, shape
from tests.docs.pages import ROOT, text


@pytest.fixture(scope="module")
def stage():
    """The instructions of the server's stage: the last one, so that it is built by default."""
    lines = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text()).splitlines()
    begin = max(number for number, line in enumerate(lines) if line.startswith("FROM "))
    assert lines[begin].endswith(" AS server")
    return [line.split(maxsplit=1) for line in lines[begin:] if line and line[0] != "#"]


def said(stage, instruction):
    return [rest for word, rest in stage if word == instruction]


def variables(stage):
    return dict(word.split("=", 1) for line in said(stage, "ENV") for word in line.split())


def pods(manifests):
    """Return the pods that run the server's image: servers, and helm's test."""
    return [
        one(manifests, "StatefulSet", server_set(manifests))["spec"]["template"]["spec"],
        next(m["spec"] for m in manifests if m["kind"] == "Pod"),
    ]


def server_set(manifests):
    return next(
        m["metadata"]["name"]
        for m in manifests
        if m["kind"] == "StatefulSet"
        and m["spec"]["template"]["spec"]["containers"][0]["name"] == "carousel"
    )


@pytest.mark.parametrize("name", SHAPES)
def test_pods_run_as_the_images_user(stage, name):
    (user,) = said(stage, "USER")
    for pod in pods(render(shape(name))):
        context = pod["securityContext"]
        assert f"{context['runAsUser']}:{context['runAsGroup']}" == user
        assert context["fsGroup"] == context["runAsGroup"]


def test_ports_are_those_that_the_image_names(stage):
    ports = [str(port["containerPort"]) for port in server(render({}))["ports"]]
    assert said(stage, "EXPOSE") == [" ".join(ports)]


def test_models_are_where_the_image_looks(stage):
    told = environment(render({}))
    assert variables(stage)["CAROUSEL_MODELS"] == told["CAROUSEL_MODELS"]


@pytest.mark.parametrize("name", SHAPES)
def test_the_image_starts_the_server_by_itself(stage, name):
    """The chart gives arguments, never a command, and the hook's is the same program."""
    container = server(render(shape(name)))
    (entry,) = (json.loads(found) for found in said(stage, "ENTRYPOINT"))
    assert "command" not in container
    assert container["lifecycle"]["preStop"]["exec"]["command"] == [*entry, "drain"]
    scripts = tomllib.loads(text("server/pyproject.toml"))["project"]["scripts"]
    assert set(entry) <= set(scripts)


def test_the_environments_programs_are_found_by_name(stage):
    """`carousel-server` and `python` of the hook and of helm's test."""
    assert variables(stage)["PATH"].startswith("/opt/carousel/bin:")
    assert any(copied.endswith(" /opt/carousel /opt/carousel") for copied in said(stage, "COPY"))


@pytest.mark.parametrize("name", SHAPES)
def test_nothing_is_mounted_over_the_images_own_files(name):
    for pod in pods(render(shape(name))):
        for mount in pod["containers"][0]["volumeMounts"]:
            top = mount["mountPath"].split("/")[1]
            assert top not in {"", "opt", "usr", "bin", "lib", "lib64", "proc", "sys", "dev"}


def test_the_kubelet_sends_the_signal_that_drains(stage):
    """It takes the image's."""
    assert said(stage, "STOPSIGNAL") == ["SIGTERM"]


def test_names_of_images_are_those_that_the_docs_build():
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    page = text("docs/operations.md")
    for values, tag in (({}, version), ({"gpu": {"enabled": True}}, f"{version}-gpu")):
        image = server(render(values))["image"]
        assert image == f"carousel-server:{tag}"
        assert f"--tag REGISTRY/{image} " in page
