"""Pods keep to Kubernetes' pod security standard "restricted", and reach no more than they must."""

from __future__ import annotations

import pytest

from tests.chart.tools import SHAPES, one, render, shape

#: Volumes that "restricted" allows.
VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def pods(manifests):
    """Return the pod specs of all manifests, with the manifests' names."""
    found = []
    for manifest in manifests:
        spec = manifest.get("spec", {})
        if manifest["kind"] == "Pod":
            found.append((manifest["metadata"]["name"], spec))
        elif "template" in spec:
            found.append((manifest["metadata"]["name"], spec["template"]["spec"]))
    return found


def breaches(pod):
    """Return what "restricted" would refuse of a pod."""
    told = [key for key in ("hostNetwork", "hostPID", "hostIPC") if pod.get(key)]
    context = pod["securityContext"]
    if not context.get("runAsNonRoot") or not context.get("runAsUser"):
        told.append("root")
    if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        told.append("seccomp")
    for volume in pod.get("volumes", []):
        told += [kind for kind in volume if kind not in VOLUMES | {"name"}]
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        context = container["securityContext"]
        if context.get("allowPrivilegeEscalation") is not False:
            told.append("privilege escalation")
        if "ALL" not in context.get("capabilities", {}).get("drop", []):
            told.append("capabilities")
        if context.get("privileged") or "hostPort" in str(container.get("ports")):
            told.append("privileged")
    return told


@pytest.mark.parametrize("name", SHAPES)
def test_pods_are_restricted(name):
    allowed = ["hostPath"] if name == "kind" else []  # said in NOTES and in values.yaml
    found = [breach for _, pod in pods(render(shape(name))) for breach in breaches(pod)]
    assert found == allowed


@pytest.mark.parametrize("name", SHAPES)
def test_no_pod_has_a_token_or_services_variables_or_a_file_system_to_write_to(name):
    for owner, pod in pods(render(shape(name))):
        assert pod["automountServiceAccountToken"] is False, owner
        assert pod["enableServiceLinks"] is False, owner
        for container in pod["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, owner
            assert container["resources"]["limits"]["memory"], owner


def test_breaches_would_be_seen():
    (_, pod), *_ = pods(render({}))
    assert breaches(pod) == []
    pod["securityContext"].pop("seccompProfile")
    pod["containers"][0]["securityContext"]["capabilities"] = {"drop": ["NET_RAW"]}
    pod["hostNetwork"] = True
    assert breaches(pod) == ["hostNetwork", "seccomp", "capabilities"]


def test_the_bundled_redis_is_for_servers_alone():
    manifests = render(shape("envoy"))
    rule = one(manifests, "NetworkPolicy", "release-redis")["spec"]
    (ingress,) = rule["ingress"]
    (peer,) = ingress["from"]
    assert peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "server"
    redis = one(manifests, "StatefulSet", "release-redis")["spec"]["template"]["metadata"]
    assert rule["podSelector"]["matchLabels"].items() <= redis["labels"].items()
    assert rule["egress"] == []


def test_helms_test_and_the_front_door_are_let_in_with_the_clients():
    rule = one(render(shape("envoy")), "NetworkPolicy", "release")["spec"]["ingress"][0]
    components = [
        peer["podSelector"]["matchLabels"].get("app.kubernetes.io/component")
        for peer in rule["from"]
    ]
    assert components == [None, "test", "front-door"]


def test_no_secret_is_in_what_is_rendered():
    for name in SHAPES:
        assert "Secret" not in {manifest["kind"] for manifest in render(shape(name))}
