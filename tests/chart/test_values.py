"""values.yaml, its schema and its README name the same values, each with a comment."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import yaml

from tests.chart.tools import CHART, TOOLS


def keys(tree, path=()):
    """Return the paths of all values that values.yaml names, down to free mappings."""
    if not isinstance(tree, dict) or not tree:
        return {path}
    return {path} | {p for key, value in tree.items() for p in keys(value, (*path, key))}


def accepted(schema, path=()):
    if "$ref" in schema:
        schema = DEFINITIONS[schema["$ref"].rpartition("/")[2]]
    found = {path}
    for key, below in schema.get("properties", {}).items():
        found |= accepted(below, (*path, key))
    return found


DEFINITIONS = json.loads((CHART / "values.schema.json").read_text())["definitions"]
#: Accepted, and with no default to name: what Helm and Kubernetes bring along.
UNNAMED = {"global", "claims"}


def test_schema_and_values_name_the_same():
    named = keys(yaml.safe_load((CHART / "values.yaml").read_text()))
    schema = accepted(json.loads((CHART / "values.schema.json").read_text()))
    inside = {path for path in named if path[-1:] and path[-1] in {"cpu", "memory"}}
    labels = {path for path in named if "labels" in path[:-1]}
    assert named - schema - inside - labels == set()
    # A subset: `resources.limits.cpu` is accepted and not set.
    assert {p for p in schema - named if not UNNAMED & {*p} and p[-1] != "cpu"} == set()


def test_every_object_of_the_schema_refuses_what_it_does_not_name():
    def closed(schema, path):
        if "properties" in schema and path[-1:] not in (("requests",), ("limits",)):
            assert schema.get("additionalProperties") is False, path
        for key, below in schema.get("properties", {}).items():
            closed(below, (*path, key))

    schema = json.loads((CHART / "values.schema.json").read_text())
    closed(schema, ())
    for name, definition in DEFINITIONS.items():
        closed(definition, (name,))


def test_a_value_without_a_comment_is_told_of(tmp_path):
    shutil.copytree(TOOLS, tmp_path / "tools", ignore=shutil.ignore_patterns("node_modules"))
    shutil.copytree(CHART, tmp_path / "carousel")
    values = tmp_path / "carousel" / "values.yaml"
    values.write_text(values.read_text() + "undocumented: 1\n")
    done = subprocess.run(
        [sys.executable, tmp_path / "tools" / "readme.py"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "undocumented has no comment" in done.stderr
