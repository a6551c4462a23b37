"""Validate manifests under Kubernetes' strict schemas, which are in an environment of their own.

In: JSON `[[VERSION, MANIFEST], ...]` on standard input. Out: a JSON list with null or what is wrong
for each; a kind that the schemas don't know is wrong.
"""

from __future__ import annotations

import functools
import json
import sys
from typing import Any

import kubernetes_validate
from kubernetes_validate import utils

# It would read one file of some megabytes for every manifest.
utils.schema_contents = functools.lru_cache(maxsize=None)(utils.schema_contents)


def problem(version: str, manifest: dict[str, Any]) -> str | None:
    """Return what is wrong with a manifest, or nothing."""
    try:
        used = kubernetes_validate.validate(manifest, version, strict=True)
    except utils.ValidationError as error:
        return f"{'.'.join(map(str, error.path))}: {error.message}"
    except utils.SchemaNotFoundError as error:
        return str(error.message)
    except utils.VersionNotSupportedError:
        return f"there are no schemas of Kubernetes {version}"
    # It takes an older version's schemas where it does not have those that were asked for.
    return None if used == version else f"there are no schemas of Kubernetes {version}"


if __name__ == "__main__":
    json.dump([problem(*asked) for asked in json.load(sys.stdin)], sys.stdout)
