"""NOTES say what to do next, for what was chosen; only Helm 4's library shows them here."""

from __future__ import annotations

import functools

import pytest

from tests.chart import tools
from tests.chart.tools import SHAPES, one, render, shape

#: Values, what NOTES must say, and what they must not.
SAID = [
    ({}, ["the claim release-models", "--insecure", "Everybody in the cluster"], ["port-forward"]),
    ({"listen": "all"}, ["port-forward service/release 8001:8001"], []),
    ({"replicas": 2}, ["The claim is ReadWriteOnce", "its sessions end"], []),
    (shape("kind"), ["/models on the node", "privileged", "for trials", "no volume"], []),
    (shape("models-image"), ["copied out of models/forecasts"], []),
    (
        shape("production"),
        ["*.release-pods.space.svc.cluster.local", "the claim models", "appendfsync always"],
        ["--insecure", "Everybody"],
    ),
    (shape("envoy"), ["networkPolicy.clients says", "release-front-door.space.svc"], ["Everybody"]),
    (shape("gateway"), ["the Gateway"], []),
    (shape("hpa-slots"), ["files/prometheus-adapter.yaml"], []),
    (shape("hpa-cpu"), [], ["prometheus-adapter"]),
]


@functools.cache
def notes():
    answers = tools.helm4([values for values, _, _ in SAID] + [shape(name) for name in SHAPES])
    return [
        next(text for path, text in answer["files"].items() if path.endswith("NOTES.txt"))
        for answer in answers
    ]


@pytest.mark.parametrize("number", range(len(SAID)))
def test_notes_say_what_matters(number):
    _, said, unsaid = SAID[number]
    text = " ".join(notes()[number].split())
    assert [word for word in said if word not in text] == []
    assert [word for word in unsaid if word in text] == []


def test_the_certificates_names_are_the_ones_that_are_used():
    text = notes()[len(SAID) + SHAPES.index("envoy-tls")]
    manifests = render(shape("envoy-tls"))
    host = one(manifests, "Pod")["spec"]["containers"][0]["args"][0].partition(":")[0]
    assert f"     {host}\n" in text
    assert "     *.release-pods.space.svc.cluster.local\n" in text
    assert "     release-front-door.space.svc.cluster.local\n" in text
    envoy = one(manifests, "ConfigMap", "release-front-door")["data"]["envoy.yaml"]
    assert "exact: release-pods.space.svc.cluster.local" in envoy


def test_lines_fit_a_terminal():
    for text in notes():
        assert [line for line in text.splitlines() if len(line) > 125] == []
