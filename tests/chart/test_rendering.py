"""Every shape in ci/ is rendered, is valid in every version of Kubernetes, and twice the same."""

from __future__ import annotations

import copy
import json

import pytest
import yaml

from tests.chart import tools
from tests.chart.tools import CHART, SHAPES, VERSIONS, render, shape

#: Kinds that Kubernetes' own schemas don't have: package and name of their TypeScript type.
OWN = {
    "PodMonitor": (
        "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1",
        "IPodMonitor",
    ),
    "ServiceMonitor": (
        "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1",
        "IServiceMonitor",
    ),
    "PrometheusRule": (
        "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1",
        "IPrometheusRule",
    ),
    "BackendTrafficPolicy": (
        "@kubernetes-models/envoy-gateway/gateway.envoyproxy.io/v1alpha1",
        "IBackendTrafficPolicy",
    ),
    "ScaledObject": ("@kubernetes-models/keda/keda.sh/v1alpha1", "IScaledObject"),
    "GRPCRoute": (
        "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1alpha2",
        "IGRPCRoute",
    ),
}


def as_modelled(manifest):
    """Return a manifest as its model has it: that of GRPCRoute is of v1alpha2, before it was v1.

    Nothing that the chart uses has changed in between.
    """
    if manifest["kind"] != "GRPCRoute":
        return manifest
    assert manifest["apiVersion"] == "gateway.networking.k8s.io/v1"
    return manifest | {"apiVersion": "gateway.networking.k8s.io/v1alpha2"}


def every_manifest(*, own):
    """Return what all shapes render to, each manifest once for each version."""
    found = {}
    for name in SHAPES:
        for version in VERSIONS:
            for manifest in render(shape(name), version=version):
                if (manifest["kind"] in OWN) == own:
                    found[version, json.dumps(manifest, sort_keys=True)] = (name, manifest)
    return [(version, name, manifest) for (version, _), (name, manifest) in found.items()]


def test_there_are_shapes():
    assert len(SHAPES) >= 12


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_passes_lint(name):
    done = tools.helm("lint", "--strict", CHART, "--values", "-", given=yaml.safe_dump(shape(name)))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout


def test_every_manifest_is_valid_in_every_version():
    asked = every_manifest(own=False)
    assert len({version for version, _, _ in asked}) == 7
    problems = tools.kubernetes([(version, manifest) for version, _, manifest in asked])
    found = {
        f"{name}, {version}: {manifest['kind']} {problem}"
        for (version, name, manifest), problem in zip(asked, problems, strict=True)
        if problem
    }
    assert found == set()


def test_a_field_too_many_an_unknown_kind_and_an_unknown_version_are_told_of():
    policy = tools.one(render({}), "PodDisruptionBudget")
    typo = copy.deepcopy(policy)
    typo["spec"]["maxUnavailabel"] = 1
    unknown = policy | {"kind": "PodDisruptionBudgets"}
    problems = tools.kubernetes(
        [("1.30", policy), ("1.30", typo), ("1.30", unknown), ("1.99", policy)]
    )
    assert problems[0] is None
    assert "maxUnavailabel" in problems[1]
    assert "PodDisruptionBudgets" in problems[2]
    assert problems[3] == "there are no schemas of Kubernetes 1.99"


def test_every_manifest_of_another_kind_is_valid_for_its_own_model():
    asked = [(name, as_modelled(manifest)) for _, name, manifest in every_manifest(own=True)]
    assert {manifest["kind"] for _, manifest in asked} == set(OWN)
    problems = tools.own_models([manifest for _, manifest in asked])
    told = [(name, problem) for (name, _), problem in zip(asked, problems, strict=True) if problem]
    assert told == []


def module(manifests):
    """Return a TypeScript module that has each manifest as a value of its type."""
    lines = [
        f'import type {{ {name} }} from "{package}";' for package, name in sorted(set(OWN.values()))
    ]
    lines += [
        f"export const m{n}: {OWN[manifest['kind']][1]} = {json.dumps(manifest)};"
        for n, manifest in enumerate(manifests)
    ]
    return "\n".join(lines)


def test_no_manifest_of_another_kind_has_a_field_that_its_type_has_not():
    manifests = [as_modelled(manifest) for _, _, manifest in every_manifest(own=True)]
    assert tools.typescript(module(manifests), "manifests") == ""


def nested(kind):
    """Return a manifest with a wrong field, inside the first list of its spec if there is one."""
    manifest = copy.deepcopy(
        next(
            as_modelled(manifest)
            for _, _, manifest in every_manifest(own=True)
            if manifest["kind"] == kind
        )
    )
    place = next((v for v in manifest["spec"].values() if isinstance(v, list)), None)
    target = place[0] if place else manifest["spec"]
    target["noSuchField"] = 1
    return manifest


def test_a_field_too_many_is_seen_in_each_of_them():
    said = tools.typescript(module([nested(kind) for kind in OWN]), "wrong")
    assert said.count('"noSuchField"\' does not exist') == len(OWN), said


def parsed(files):
    """Return Helm 4's files as manifests, NOTES left out."""
    return [
        manifest
        for path, text in files.items()
        if path.endswith(".yaml")
        for manifest in yaml.safe_load_all(text)
        if manifest
    ]


def in_order(manifests):
    return sorted(manifests, key=lambda m: (m["kind"], m["metadata"]["name"]))


def test_helm_4_renders_the_same():
    answers = tools.helm4([shape(name) for name in SHAPES])
    for name, answer in zip(SHAPES, answers, strict=True):
        assert answer["lint"] == [], name
        assert in_order(parsed(answer["files"])) == in_order(render(shape(name))), name


def test_rendering_twice_gives_the_same():
    for name in SHAPES:
        words = ["template", "release", CHART, "--kube-version", "1.34", "--values", "-"]
        texts = {tools.helm(*words, given=yaml.safe_dump(shape(name))).stdout for _ in range(2)}
        assert len(texts) == 1, name


def test_what_is_packaged_renders_the_same(tmp_path):
    assert tools.helm("package", CHART, "--destination", tmp_path).returncode == 0
    (archive,) = tmp_path.iterdir()
    assert render(shape("production"), chart=archive) == render(shape("production"))
