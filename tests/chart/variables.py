"""What the kubelet makes of a container's variables before it starts the container."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_REFERENCE = re.compile(r"\$\((\w+)\)")


def filled_in(
    variables: Mapping[str, Any], *, fields: Mapping[str, str], secrets: Mapping[str, str]
) -> dict[str, str]:
    """Return each variable's value.

    Args:
        variables: values, or where they come from, in the container's order.
        fields: by path, what the downward API has of the pod.
        secrets: by the Secret's name, the value of the one key that is asked for.

    """
    filled: dict[str, str] = {}
    for name, value in variables.items():
        if isinstance(value, str):
            filled[name] = _REFERENCE.sub(lambda found: filled[found[1]], value)
        elif "fieldRef" in value:
            filled[name] = fields[value["fieldRef"]["fieldPath"]]
        else:
            filled[name] = secrets[value["secretKeyRef"]["name"]]
    return filled
