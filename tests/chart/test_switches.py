"""Each switch changes what it should and nothing else; a new chart alone restarts nothing."""

from __future__ import annotations

import shutil

import pytest
import yaml

from tests.chart.differing import changed, unexpected
from tests.chart.tools import CHART, SHAPES, one, render, server, shape

SET = "StatefulSet/release spec"
POD = f"{SET}.template.spec"
ENV = f"{POD}.containers[carousel].env"
MAIN = f"{POD}.containers[carousel]"
TEST = "Pod/release-test spec"
MEMORY = f"{MAIN}.resources"
REDIS = ["Service/release-redis ", "StatefulSet/release-redis ", "NetworkPolicy/release-redis "]
NET = "NetworkPolicy/release spec"
FRONT = [f"{kind}/release-front-door " for kind in ("ConfigMap", "Service", "Deployment")]


def env(*names):
    return [f"{ENV}[CAROUSEL_{name}]" for name in names]


#: What is set, and where something may and must change.
SWITCHES = [
    ({"replicas": 3}, [f"{SET}.replicas"]),
    ({"minReadySeconds": 30}, [f"{SET}.minReadySeconds"]),
    ({"image": {"tag": "9"}}, [f"{MAIN}.image", f"{TEST}.containers[session].image"]),
    (
        {"image": {"pullPolicy": "Always"}},
        [f"{MAIN}.imagePullPolicy", f"{TEST}.containers[session].imagePullPolicy"],
    ),
    (
        {"image": {"pullSecrets": [{"name": "s"}]}},
        [f"{POD}.imagePullSecrets", f"{TEST}.imagePullSecrets"],
    ),
    ({"server": {"slots": 5}}, env("SLOTS")),
    ({"server": {"device": "cpu"}}, env("DEVICE")),
    ({"server": {"threads": 3}}, env("THREADS")),
    ({"server": {"parkAfter": 0.5}}, env("PARK_AFTER")),
    (
        {"server": {"otlpTracesEndpoint": "http://collector:4317/"}},
        [*env("OTLP_TRACES_ENDPOINT"), f"{NET}.egress[1]"],
    ),
    (
        {"server": {"drainSeconds": 100}},
        [*env("DRAIN_SECONDS"), f"{POD}.terminationGracePeriodSeconds"],
    ),
    ({"graceExtraSeconds": 20}, [f"{POD}.terminationGracePeriodSeconds"]),
    ({"listen": "all"}, env("ADDRESS", "METRICS_ADDRESS")),
    ({"ipFamily": "IPv6"}, env("ADDRESS", "METRICS_ADDRESS")),
    ({"advertise": "$(POD_IP):8001"}, env("ADVERTISE")),
    ({"clusterDomain": "x.y"}, [*env("ADVERTISE"), f"{TEST}.containers[session].args"]),
    (
        {"models": {"source": "existingClaim", "existingClaim": "c"}},
        ["PersistentVolumeClaim/release-models ", f"{POD}.volumes[models]"],
    ),
    (
        {"models": {"source": "hostPath", "hostPath": "/m"}},
        ["PersistentVolumeClaim/release-models ", f"{POD}.volumes[models]"],
    ),
    (
        {"models": {"source": "image", "image": {"repository": "m"}}},
        [
            "PersistentVolumeClaim/release-models ",
            f"{POD}.volumes[models]",
            f"{POD}.initContainers[models]",
        ],
    ),
    (
        {"models": {"claim": {"size": "7Gi", "storageClassName": "s"}}},
        ["PersistentVolumeClaim/release-models spec"],
    ),
    (
        {"models": {"claim": {"keep": False}}},
        ["PersistentVolumeClaim/release-models metadata.annotations"],
    ),
    ({"models": {"subPath": "a/b"}}, [f"{MAIN}.volumeMounts[models].subPath"]),
    (
        {"store": {"kind": "redis", "redis": {"secretName": "s"}}},
        [*env("STORE"), f"{NET}.egress[1]"],
    ),
    ({"store": {"kind": "bundled"}}, [*env("STORE"), f"{NET}.egress[1]", *REDIS]),
    (
        {"snapshotKey": {"secretName": "s"}},
        [
            *env("SNAPSHOT_KEY_FILE"),
            f"{MAIN}.volumeMounts[snapshots]",
            f"{POD}.volumes[snapshots]",
        ],
    ),
    (
        {"tls": {"enabled": True, "secretName": "s"}},
        [
            *env("TLS_CERT", "TLS_KEY", "INSECURE"),
            f"{MAIN}.volumeMounts[tls]",
            f"{POD}.volumes[tls]",
            f"{TEST}.containers[session].args",
            f"{TEST}.containers[session].volumeMounts[tls]",
            f"{TEST}.volumes[tls]",
            "Service/release spec.ports[grpc].appProtocol",
        ],
    ),
    (
        {"service": {"type": "LoadBalancer", "port": 443, "annotations": {"a": "b"}}},
        [
            "Service/release spec.type",
            "Service/release spec.ports[grpc].port",
            "Service/release metadata.annotations",
            f"{TEST}.containers[session].args",
        ],
    ),
    (
        {"serviceAccount": {"create": False}},
        ["ServiceAccount/release ", f"{POD}.serviceAccountName"],
    ),
    ({"serviceAccount": {"annotations": {"a": "b"}}}, ["ServiceAccount/release metadata.annot"]),
    ({"resources": {"limits": {"memory": "9Gi"}}}, [f"{MEMORY}.limits.memory"]),
    ({"resources": {"requests": {"cpu": "4"}}}, [f"{MEMORY}.requests.cpu", *env("THREADS")]),
    (
        {"gpu": {"enabled": True, "count": 2}},
        [
            f"{MEMORY}.limits.nvidia.com/gpu",
            f"{MAIN}.image",
            f"{TEST}.containers[session].image",
            *env("DEVICE"),
        ],
    ),
    ({"runtimeClassName": "nvidia"}, [f"{POD}.runtimeClassName"]),
    ({"nodeSelector": {"a": "b"}}, [f"{POD}.nodeSelector"]),
    ({"tolerations": [{"operator": "Exists"}]}, [f"{POD}.tolerations"]),
    ({"affinity": {"podAffinity": {}}}, [f"{POD}.affinity"]),
    ({"priorityClassName": "p"}, [f"{POD}.priorityClassName"]),
    ({"topologySpread": "none"}, [f"{POD}.topologySpreadConstraints"]),
    (
        {"podSecurity": {"runAsUser": 7}},
        [
            f"{place}.securityContext.{what}"
            for place in (POD, TEST)
            for what in ("runAsUser", "runAsGroup", "fsGroup")
        ],
    ),
    ({"podSecurity": {"tmpSize": "1Mi"}}, [f"{POD}.volumes[tmp]"]),
    ({"probes": {"startupSeconds": 61}}, [f"{MAIN}.startupProbe.failureThreshold"]),
    ({"probes": {"readinessPeriod": 9}}, [f"{MAIN}.readinessProbe.periodSeconds"]),
    ({"probes": {"livenessPeriod": 9}}, [f"{MAIN}.livenessProbe.periodSeconds"]),
    ({"podDisruptionBudget": {"enabled": False}}, ["PodDisruptionBudget/release "]),
    (
        {"podDisruptionBudget": {"maxUnavailable": "20%"}},
        ["PodDisruptionBudget/release spec.maxUnavailable"],
    ),
    ({"autoscaling": {"kind": "hpa"}}, ["HorizontalPodAutoscaler/release ", f"{SET}.replicas"]),
    ({"autoscaling": {"kind": "keda"}}, ["ScaledObject/release ", f"{SET}.replicas"]),
    ({"networkPolicy": {"enabled": False}}, ["NetworkPolicy/release "]),
    ({"networkPolicy": {"clients": [{"podSelector": {}}]}}, [f"{NET}.ingress[0].from"]),
    ({"networkPolicy": {"monitoring": [{"podSelector": {}}]}}, [f"{NET}.ingress[1].from"]),
    ({"networkPolicy": {"extraEgress": [{"ports": [{"port": 1}]}]}}, [f"{NET}.egress[1]"]),
    ({"monitoring": {"serviceMonitor": {"enabled": True}}}, ["ServiceMonitor/release "]),
    ({"monitoring": {"podMonitor": {"enabled": True}}}, ["PodMonitor/release "]),
    ({"monitoring": {"rules": {"enabled": True}}}, ["PrometheusRule/release "]),
    ({"monitoring": {"dashboard": {"enabled": True}}}, ["ConfigMap/release-dashboard "]),
    ({"frontDoor": {"kind": "envoy"}}, FRONT),
    (
        {"frontDoor": {"kind": "gateway", "gateway": {"parentRefs": [{"name": "g"}]}}},
        ["GRPCRoute/release ", "BackendTrafficPolicy/release "],
    ),
    ({"test": {"model": "m"}}, [f"{TEST}.containers[session].args"]),
    ({"extraEnv": [{"name": "A", "value": "b"}]}, [f"{ENV}[A]"]),
    ({"extraEnvFrom": [{"secretRef": {"name": "s"}}]}, [f"{MAIN}.envFrom"]),
    ({"extraArgs": ["--slots", "9"]}, [f"{MAIN}.args"]),
    ({"extraVolumes": [{"name": "v"}]}, [f"{POD}.volumes[v]"]),
    ({"extraVolumeMounts": [{"name": "v", "mountPath": "/v"}]}, [f"{MAIN}.volumeMounts[v]"]),
    ({"extraInitContainers": [{"name": "i"}]}, [f"{POD}.initContainers"]),
    ({"podLabels": {"a": "b"}}, [f"{SET}.template.metadata.labels.a"]),
    ({"podAnnotations": {"a": "b"}}, [f"{SET}.template.metadata.annotations.a"]),
]


@pytest.mark.parametrize(("values", "expected"), SWITCHES, ids=lambda v: str(v)[:60])
def test_a_switch_changes_what_it_should_and_nothing_else(values, expected):
    extra, missing = unexpected(changed(render({}), render(values)), expected)
    assert (extra, missing) == (set(), set())


def test_labels_and_annotations_are_on_everything_and_on_no_pod():
    after = render({"labels": {"a": "b"}, "annotations": {"c": "d"}})
    assert all(manifest["metadata"]["labels"]["a"] == "b" for manifest in after)
    assert all(manifest["metadata"]["annotations"]["c"] == "d" for manifest in after)
    template = one(after, "StatefulSet")["spec"]["template"]
    assert template == one(render({}), "StatefulSet")["spec"]["template"]


#: Kinds that say how to run pods, and how they may not change once they are there.
FIXED = ("serviceName", "podManagementPolicy", "selector", "volumeClaimTemplates")


def templates(manifests):
    return {
        (m["kind"], m["metadata"]["name"]): m["spec"]["template"]
        for m in manifests
        if "template" in m.get("spec", {})
    }


def newer(folder, **changes):
    """Return a copy of the chart that says another version of itself."""
    chart = folder / "carousel"
    shutil.copytree(CHART, chart)
    about = yaml.safe_load((chart / "Chart.yaml").read_text())
    (chart / "Chart.yaml").write_text(yaml.safe_dump(about | changes))
    return chart


@pytest.mark.parametrize("name", SHAPES)
def test_an_upgrade_of_the_chart_alone_leaves_pods_as_they_are(name, tmp_path):
    before = render(shape(name))
    after = render(shape(name), chart=newer(tmp_path, version="7.8.9"))
    # As text: the kubelet's hash is over all of it.
    assert yaml.safe_dump(templates(after)) == yaml.safe_dump(templates(before))
    only = {path for path in changed(before, after) if "helm.sh/chart" not in path}
    assert only == set()


def test_a_new_server_changes_the_image_alone(tmp_path):
    after = render({}, chart=newer(tmp_path, appVersion="7.8.9"))
    assert server(after)["image"].endswith(":7.8.9")
    found = changed(render({}), after)
    assert {p for p in found if "labels.app.kubernetes.io/version" not in p} == {
        f"{MAIN}.image",
        f"{TEST}.containers[session].image",
    }


@pytest.mark.parametrize("name", SHAPES)
def test_what_selects_pods_is_on_them_and_never_changes(name):
    for manifest in render(shape(name)):
        if "template" in manifest.get("spec", {}):
            spec = manifest["spec"]
            labels = spec["template"]["metadata"]["labels"]
            assert spec["selector"]["matchLabels"].items() <= labels.items()
            assert set(spec["selector"]["matchLabels"]) == {
                "app.kubernetes.io/name",
                "app.kubernetes.io/instance",
                "app.kubernetes.io/component",
            }


def test_what_kubernetes_refuses_to_change_does_not_change():
    def fixed(values):
        spec = one(render(values), "StatefulSet", "release")["spec"]
        return {key: spec.get(key) for key in FIXED}

    named = {"nameOverride", "fullnameOverride"}  # another name is another release
    for name in SHAPES:
        values = {key: value for key, value in shape(name).items() if key not in named}
        assert fixed(values) == fixed({}), name
