"""What the chart says of a container, as podman's flags.

Each key of the chart's manifests becomes a flag, is known to need none, or fails here: what runs in
these tests is what the chart asks for, and nothing of it is passed over.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.chart.variables import filled_in

Manifest = dict[str, Any]

_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}

#: Of pods and containers: what schedules, names or watches them, or is asked for elsewhere.
_POD_NEEDS_NONE = {
    *("automountServiceAccountToken", "serviceAccountName", "enableServiceLinks", "restartPolicy"),
    *("topologySpreadConstraints", "terminationGracePeriodSeconds", "activeDeadlineSeconds"),
}
_CONTAINER_NEEDS_NONE = {
    *("name", "image", "imagePullPolicy", "ports", "lifecycle"),
    *("startupProbe", "readinessProbe", "livenessProbe"),
}


def podman_flags(
    pod: Manifest,
    container: Manifest,
    *,
    folders: Mapping[str, Path],
    fields: Mapping[str, str],
    secrets: Mapping[str, str],
    limits_memory: bool,
) -> list[str]:
    """Return the flags of `podman run` for a container of a pod.

    Args:
        pod: its `spec`.
        container: one of its containers.
        folders: by volume, what is mounted where the volume is none of the pod's own.
        fields: what the downward API has, by path.
        secrets: the values of variables that come from Secrets, by the Secret's name.
        limits_memory: whether the kernel can.

    """
    pod, container = dict(pod), dict(container)
    flags = _security({**pod.pop("securityContext"), **container.pop("securityContext")})
    flags += _memory(container.pop("resources"), limits_memory=limits_memory)
    volumes = {volume.pop("name"): volume for volume in map(dict, pod.pop("volumes"))}
    for mount in container.pop("volumeMounts"):
        flags += _mount(mount, volumes[mount["name"]], folders)
    told = {v["name"]: v.get("value", v.get("valueFrom")) for v in container.pop("env", [])}
    for name, value in filled_in(told, fields=fields, secrets=secrets).items():
        flags += ["--env", f"{name}={value}"]
    if "command" in container:
        flags += ["--entrypoint", json.dumps(container.pop("command"))]
    container.pop("args", None)
    pod.pop("containers")
    unknown = {*pod} - _POD_NEEDS_NONE | {*container} - _CONTAINER_NEEDS_NONE
    assert not unknown, f"the chart says {sorted(unknown)}, and nothing here does it"
    return flags


def _security(context: Manifest) -> list[str]:
    context = dict(context)
    assert context.pop("runAsNonRoot") is True
    assert context.pop("seccompProfile") == {"type": "RuntimeDefault"}, "podman's own default"
    assert context.pop("fsGroupChangePolicy") == "OnRootMismatch", "which volumes here do not need"
    assert context.pop("allowPrivilegeEscalation") is False
    assert context.pop("readOnlyRootFilesystem") is True
    flags = [
        *("--user", f"{context.pop('runAsUser')}:{context.pop('runAsGroup')}"),
        *("--group-add", str(context.pop("fsGroup"))),
        *("--security-opt", "no-new-privileges", "--read-only", "--read-only-tmpfs=false"),
    ]
    for capability in context.pop("capabilities")["drop"]:
        flags += ["--cap-drop", capability]
    assert not context, f"the chart says {sorted(context)}, and nothing here does it"
    return flags


def _memory(resources: Manifest, *, limits_memory: bool) -> list[str]:
    """Return the limit, with no swap beyond it; requests are for the scheduler."""
    limits = dict(resources["limits"])
    memory = bytes_of(limits.pop("memory"))
    assert not limits, f"the chart limits {sorted(limits)}, and nothing here does"
    return ["--memory", str(memory), "--memory-swap", str(memory)] if limits_memory else []


def _mount(mount: Manifest, volume: Manifest, folders: Mapping[str, Path]) -> list[str]:
    assert {*mount} <= {"name", "mountPath", "readOnly"}
    if "emptyDir" in volume:
        size = bytes_of(volume["emptyDir"]["sizeLimit"])
        return ["--tmpfs", f"{mount['mountPath']}:size={size},mode=1777"]
    how = "ro" if mount.get("readOnly") else "rw"
    return ["--volume", f"{folders[mount['name']]}:{mount['mountPath']}:{how}"]


def bytes_of(quantity: str) -> int:
    """Return a Kubernetes quantity of memory in bytes."""
    return int(quantity[:-2]) * _UNITS[quantity[-2:]]
