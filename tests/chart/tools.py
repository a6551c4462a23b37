"""The tools that look at the chart, and how they are asked."""

from __future__ import annotations

import functools
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.docs.pages import ROOT
from tests.support.redis import needed_tool

CHART = ROOT / "helm" / "carousel"
TOOLS = ROOT / "helm" / "tools"
SHAPES = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*.yaml"))
VERSIONS = [f"1.{minor}" for minor in range(28, 35)]
_HELM = TOOLS / "node_modules" / ".bin" / "helm"
_TSC = TOOLS / "node_modules" / ".bin" / "tsc"
_OTHERS = ROOT / ".venv-chart" / "bin"
ENVOY = _OTHERS / "envoy"

#: What the chart is installed as, and where.
RELEASE, NAMESPACE = "release", "space"

Manifest = dict[str, Any]


class Refused(Exception):
    """Helm did not render; the text is what it said."""


def ask(*command: object, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command with text on its standard input."""
    words = [str(word) for word in command]
    # Helm would read and write the home folder of whoever runs the tests.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HELM_")}
    return subprocess.run(
        words, input=given, capture_output=True, text=True, check=False, env=environment
    )


def ask_json(*command: object, given: object) -> Any:
    """Run a command that takes and gives JSON."""
    done = ask(*command, given=json.dumps(given))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def shape(name: str) -> dict[str, Any]:
    """Return the values of one of the shapes in ci/."""
    return yaml.safe_load((CHART / "ci" / f"{name}-values.yaml").read_text()) or {}


def render(
    values: Mapping[str, Any], *, version: str = "1.34", chart: Path = CHART
) -> list[Manifest]:
    """Return what Helm 3 makes of the chart with these values.

    Raises:
        Refused: it does not; the text is what it says.

    """
    return json.loads(_rendered(json.dumps(values), version, chart))


@functools.cache
def _rendered(values: str, version: str, chart: Path) -> str:
    """JSON in and out, so that what is kept can't be changed by a test."""
    done = ask(
        *(_HELM, "template", RELEASE, chart, "--namespace", NAMESPACE),
        *("--kube-version", version, "--values", "-"),
        given=values,
    )
    if done.returncode:
        raise Refused(done.stderr)
    return json.dumps([found for found in yaml.safe_load_all(done.stdout) if found])


def helm(*words: object, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run Helm 3."""
    return ask(_HELM, *words, given=given)


def helm4(values: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return, for each of the values, `{"files": ...}` or `{"error": ...}`, and `"lint"`."""
    asked = {"chart": str(CHART), "values": list(values)}
    answers: list[dict[str, Any]] = ask_json(_OTHERS / "python", TOOLS / "helm4.py", given=asked)
    return answers


def kubernetes(asked: Sequence[tuple[str, Manifest]]) -> list[str | None]:
    """Return what Kubernetes' strict schemas say against each manifest, of a version."""
    answers: list[str | None] = ask_json(
        _OTHERS / "python", TOOLS / "kubernetes.py", given=list(asked)
    )
    return answers


def own_models(manifests: Sequence[Manifest]) -> list[str | None]:
    """Return what the models of kinds that Kubernetes does not have say against each manifest."""
    answers: list[str | None] = ask_json(
        needed_tool("node"), TOOLS / "kinds.mjs", given=list(manifests)
    )
    return answers


def typescript(text: str, name: str) -> str:
    """Return what TypeScript's compiler says against a module, which may import what there is."""
    folder = TOOLS / ".checked"  # beside node_modules, where the compiler looks for imports
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.ts"
    path.write_text(text)
    done = ask(
        *(_TSC, "--noEmit", "--strict", "--skipLibCheck", "--target", "es2022"),
        *("--module", "nodenext", "--moduleResolution", "nodenext", path),
    )
    return done.stdout + done.stderr


def envoy(*words: object) -> subprocess.CompletedProcess[str]:
    """Run Envoy."""
    return ask(ENVOY, *words)


def promtool(*words: object, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run promtool."""
    return ask(needed_tool("promtool"), *words, given=given)


def one(manifests: Sequence[Manifest], kind: str, name: str | None = None) -> Manifest:
    """Return the one manifest of a kind (and a name)."""
    (found,) = (
        manifest
        for manifest in manifests
        if manifest["kind"] == kind and name in (None, manifest["metadata"]["name"])
    )
    return found


def kinds(manifests: Sequence[Manifest]) -> list[str]:
    """Return the kinds, sorted."""
    return sorted(manifest["kind"] for manifest in manifests)


def server(manifests: Sequence[Manifest]) -> Manifest:
    """Return the server's container."""
    template = one(manifests, "StatefulSet", None if _single(manifests) else "release")
    found: Manifest = template["spec"]["template"]["spec"]["containers"][0]
    return found


def _single(manifests: Sequence[Manifest]) -> bool:
    return kinds(manifests).count("StatefulSet") == 1


def environment(manifests: Sequence[Manifest]) -> dict[str, Any]:
    """Return the server's variables: their values, or where they come from."""
    return {
        variable["name"]: variable.get("value", variable.get("valueFrom"))
        for variable in server(manifests)["env"]
    }


def certificate(folder: Path, *names: str) -> Path:
    """Make what cert-manager's Secret has: a certificate that is its own authority; return where.

    The names are as OpenSSL takes them: `DNS:a.b`, `IP:127.0.0.1`.
    """
    folder.mkdir()
    done = ask(
        *(needed_tool("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
        *("-subj", "/CN=carousel", "-addext", f"subjectAltName={','.join(names)}"),
        *("-keyout", folder / "tls.key", "-out", folder / "tls.crt"),
    )
    assert done.returncode == 0, done.stderr
    (folder / "ca.crt").write_bytes((folder / "tls.crt").read_bytes())
    return folder
