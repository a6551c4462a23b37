"""Whatever asks Prometheus for something: alerts, panels, variables, autoscalers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import yaml

from tests.chart.tools import CHART, one, render, shape

#: What others give, and who: these, and no other metric, are not the server's.
FOREIGN = {
    "up": "Prometheus itself",
    "kube_statefulset_replicas": "kube-state-metrics",
    "kube_statefulset_status_replicas_ready": "kube-state-metrics",
}
#: Labels that Prometheus and its operator put on what they scrape.
SCRAPED = {"namespace", "pod"}
#: A metric and what selects its series.
SELECTOR = re.compile(r"\b([a-z][a-z_]+)\{([^}]*)\}")


def metrics_in(query: str) -> set[str]:
    """Return the names of the metrics in a query."""
    return {name for name, _ in SELECTOR.findall(query)}


def named_alerts() -> dict[str, str]:
    """Return each alert's expression."""
    values = {
        "monitoring": {"rules": {"enabled": True}},
        "tls": {"enabled": True, "secretName": "tls"},
        "gpu": {"enabled": True},
    }
    rules = one(render(values), "PrometheusRule")["spec"]["groups"][0]["rules"]
    return {rule["alert"]: rule["expr"] for rule in rules}


def alerts() -> list[str]:
    """Return the alerts' expressions."""
    return list(named_alerts().values())


def dashboard() -> dict[str, Any]:
    """Return the dashboard."""
    found: dict[str, Any] = json.loads((CHART / "files" / "dashboard.json").read_text())
    return found


def unfolded() -> list[dict[str, Any]]:
    """Return rows and panels, those that are folded in a row too."""
    return [each for panel in dashboard()["panels"] for each in (panel, *panel.get("panels", []))]


def panels() -> list[str]:
    """Return the panels' queries."""
    return [t["expr"] for panel in unfolded() for t in panel.get("targets", [])]


def variables() -> list[str]:
    """Return the series that the dashboard's variables are made of."""
    queries = [v["query"]["query"] for v in dashboard()["templating"]["list"] if "sort" in v]
    # `label_values(SERIES, LABEL)`: as a query that asks for the label too.
    return [re.sub(r"label_values\((.*), (\w+)\)", r"count by (\2) (\1)", q) for q in queries]


def keda() -> list[str]:
    """Return KEDA's query."""
    trigger = one(render(shape("keda-slots")), "ScaledObject")["spec"]["triggers"][0]
    return [trigger["metadata"]["query"]]


def adapter() -> list[str]:
    """Return prometheus-adapter's query, filled in as it does."""
    (rule,) = yaml.safe_load((CHART / "files" / "prometheus-adapter.yaml").read_text())
    query = rule["metricsQuery"].replace("<<.GroupBy>>", "pod")
    matched = 'namespace="space",pod=~"release-0|release-1"'
    return [query.replace("<<.LabelMatchers>>", matched), rule["seriesQuery"]]


SOURCES: dict[str, Callable[[], list[str]]] = {
    "alerts": alerts,
    "panels": panels,
    "variables": variables,
    "keda": keda,
    "adapter": adapter,
}


def plain(query: str) -> str:
    """Return a query without Grafana's variables, which Prometheus does not know."""
    return query.replace("$__rate_interval", "5m").replace("${", "").replace("$", "")
