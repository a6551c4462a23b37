"""Render the chart with Helm 4's library, which is in an environment of its own.

In: JSON `{"chart": FOLDER, "values": [VALUES, ...]}` on standard input. Out: a JSON list with
`{"files": {PATH: TEXT}}` or `{"error": TEXT}` for each.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import helm_python
from helm_python.chart import lint


def render(chart: helm_python.Chart, values: dict[str, Any]) -> dict[str, Any]:
    """Return the chart's files for these values, or why there are none."""
    try:
        chart.validate_schema(values)
        return {"files": chart.render(values, name="release", namespace="space")}
    except helm_python.HelmError as error:
        return {"error": str(error)}


def main() -> None:
    """Answer what is asked on standard input."""
    asked = json.load(sys.stdin)
    with helm_python.Chart.load(asked["chart"]) as chart:
        rendered = [render(chart, values) for values in asked["values"]]
    linted = [
        lint(asked["chart"], values, strict=True, kube_version="v1.34.0")
        for values in asked["values"]
    ]
    for answer, report in zip(rendered, linted, strict=True):
        answer["lint"] = report["errors"]
    json.dump(rendered, sys.stdout)


if __name__ == "__main__":
    main()
