"""Make the chart's README from values.yaml; `--check` says whether it is current.

In values.yaml a comment that begins with `# --` documents the key below it. A value that is a
mapping with such keys inside has no line of its own; any other value must have one.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

CHART = Path(__file__).parents[1] / "carousel"
_KEY = re.compile(r"^( *)([A-Za-z]\w*):")
_HEAD = """\
# Carousel's Helm chart

Installs [Carousel](../../README.md) on Kubernetes 1.28 or newer. How to install, size, upgrade and
watch it: [docs/operations.md](../../docs/operations.md).

```
helm install carousel helm/carousel --set models.source=image --set models.image.repository=IMAGE
```

Value files for a dozen shapes are in [ci/](ci): a trial on kind, production with mutual TLS, GPUs,
autoscaling, front doors.

## Values

Made from [values.yaml](values.yaml) by `make chart-files`. What is accepted is in
[values.schema.json](values.schema.json).

| value | default | what it is |
|---|---|---|
"""


@dataclass(frozen=True)
class Value:
    """A value that can be chosen."""

    path: tuple[str, ...]
    default: object
    text: str


def values(text: str) -> list[Value]:
    """Return what values.yaml documents, in its order.

    Raises:
        ValueError: a value has no comment; the message names it.

    """
    defaults = yaml.safe_load(text)
    found: list[Value] = []
    path: list[tuple[int, str]] = []
    comment: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("# --"):
            comment = [stripped.removeprefix("# --").strip()]
        elif stripped.startswith("#") and comment:
            comment.append(stripped.removeprefix("#").strip())
        elif key := _KEY.match(line):
            depth = len(key[1])
            path = [(at, name) for at, name in path if at < depth] + [(depth, key[2])]
            keys = tuple(name for _, name in path)
            if comment:
                found.append(Value(keys, _at(defaults, keys), " ".join(comment)))
            comment = []
    _all_told(defaults, (), [value.path for value in found])
    return found


def _at(tree: object, keys: tuple[str, ...]) -> object:
    for key in keys:
        assert isinstance(tree, dict)
        tree = tree[key]
    return tree


def _all_told(tree: object, path: tuple[str, ...], told: list[tuple[str, ...]]) -> None:
    if path in told:
        return
    if not isinstance(tree, dict) or not tree:
        raise ValueError(f"values.yaml: {'.'.join(path)} has no comment that begins with '# --'")
    for key, value in tree.items():
        _all_told(value, (*path, key), told)


def readme(text: str) -> str:
    """Return the README for the text of values.yaml."""
    lines = [
        f"| `{'.'.join(value.path)}` | `{_shown(value.default)}` | {_cell(value.text)} |"
        for value in values(text)
    ]
    return _HEAD + "\n".join(lines) + "\n"


def _shown(default: object) -> str:
    return _cell(json.dumps(default, ensure_ascii=False))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    made = readme((CHART / "values.yaml").read_text())
    place = CHART / "README.md"
    if "--check" not in sys.argv:
        place.write_text(made)
    elif place.read_text() != made:
        sys.exit(f"{place} is not current: run helm/tools/readme.py")
