"""Bad values are refused, by both Helms, with a message that names the value."""

from __future__ import annotations

import pytest

from tests.chart import tools
from tests.chart.tools import Refused, render

#: Values, and what the message must have in it.
BAD = [
    ({"replcas": 3}, ["replcas"]),
    ({"server": {"slot": 3}}, ["server", "slot"]),
    ({"replicas": 0}, ["replicas", "1"]),
    ({"replicas": "two"}, ["replicas", "integer"]),
    ({"server": {"slots": 1.5}}, ["slots", "integer"]),
    ({"server": {"slots": 0}}, ["slots"]),
    ({"server": {"durability": "eventual"}}, ["durability", "strict"]),
    ({"server": {"device": "tpu"}}, ["device"]),
    ({"server": {"drainSeconds": -1}}, ["drainSeconds"]),
    ({"server": {"stateDtype": "float8"}}, ["stateDtype", "float16"]),
    ({"server": {"otlpTracesEndpoint": "collector:4317"}}, ["otlpTracesEndpoint"]),
    ({"listen": "127.0.0.1"}, ["listen", "podIP"]),
    ({"advertise": "no-port"}, ["advertise"]),
    ({"image": {"repository": "a b"}}, ["repository"]),
    ({"image": {"digest": "sha256:12"}}, ["digest"]),
    ({"models": {"source": "git"}}, ["source", "existingClaim"]),
    ({"models": {"claim": {"size": "much"}}}, ["size"]),
    ({"models": {"claim": {"accessModes": ["ReadManyWrite"]}}}, ["accessModes", "ReadWriteMany"]),
    ({"models": {"source": "hostPath", "hostPath": "models"}}, ["hostPath"]),
    ({"models": {"source": "existingClaim"}}, ["models.existingClaim is empty"]),
    ({"models": {"source": "hostPath"}}, ["models.hostPath is empty"]),
    ({"models": {"source": "image"}}, ["models.image.repository is empty"]),
    ({"store": {"kind": "file"}}, ["kind", "redis"]),
    ({"store": {"kind": "redis"}}, ["store.redis.secretName is empty"]),
    ({"tls": {"enabled": True}}, ["tls.secretName is empty"]),
    ({"tls": {"enabled": "yes"}}, ["enabled", "boolean"]),
    ({"tls": {"clientAuth": True}}, ["tls.clientAuth", "tls.enabled"]),
    ({"service": {"port": 70000}}, ["port", "65535"]),
    ({"service": {"annotations": {"a": 1}}}, ["annotations", "string"]),
    ({"resources": {"request": {}}}, ["request"]),
    ({"resources": {"requests": {"cpu": "many"}}}, ["cpu"]),
    ({"gpu": {"count": 0}}, ["count"]),
    ({"tolerations": "all"}, ["tolerations", "array"]),
    ({"podSecurity": {"runAsUser": 0}}, ["runAsUser"]),
    ({"graceExtraSeconds": 0}, ["graceExtraSeconds", "5"]),
    ({"podDisruptionBudget": {"maxUnavailable": "some"}}, ["maxUnavailable"]),
    ({"autoscaling": {"kind": "vpa"}}, ["kind", "keda"]),
    ({"autoscaling": {"kind": "hpa", "min": 5, "max": 3}}, ["autoscaling.min is 5", "3"]),
    (
        {"autoscaling": {"kind": "hpa", "metric": "slots"}, "server": {"parkAfter": 0}},
        ["server.parkAfter"],
    ),
    ({"autoscaling": {"kind": "keda", "metric": "slots"}}, ["autoscaling.prometheusAddress"]),
    (
        {"autoscaling": {"kind": "hpa"}, "resources": {"requests": {"cpu": None}}},
        ["resources.requests.cpu"],
    ),
    (
        {"monitoring": {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}},
        ["scraped twice"],
    ),
    ({"monitoring": {"podMonitor": {"interval": "often"}}}, ["interval"]),
    ({"monitoring": {"rules": {"latencySeconds": "0.3"}}}, ["latencySeconds", "0.25"]),
    ({"monitoring": {"rules": {"latencyPercent": 100}}}, ["latencyPercent"]),
    ({"frontDoor": {"kind": "nginx"}}, ["kind", "envoy"]),
    ({"frontDoor": {"envoy": {"policy": "ROUND_ROBIN"}}}, ["policy", "MAGLEV"]),
    ({"frontDoor": {"kind": "gateway"}}, ["frontDoor.gateway.parentRefs"]),
    ({"frontDoor": {"header": "X Session"}}, ["header"]),
    ({"extraEnv": [{"value": "x"}]}, ["extraEnv", "name"]),
    ({"podLabels": {"a": True}}, ["podLabels", "string"]),
]


@pytest.mark.parametrize(("values", "words"), BAD, ids=lambda v: str(v)[:60])
def test_helm_3_refuses(values, words):
    with pytest.raises(Refused) as refused:
        render(values)
    told = str(refused.value)
    assert [word for word in words if word not in told] == []


def test_helm_4_refuses_the_same():
    for (values, words), answer in zip(BAD, tools.helm4([v for v, _ in BAD]), strict=True):
        assert "error" in answer, values
        assert words[0].split(".")[-1].split()[0] in answer["error"], (values, answer["error"])


def test_an_older_kubernetes_is_refused():
    with pytest.raises(Refused, match=r"1\.28"):
        render({}, version="1.27")
