"""A model made by the exporter, and pods of the chart that serve it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from carousel_exporter.conversion import Labels, convert
from carousel_exporter.source import read_source
from tests.chart.tools import one, render
from tests.exporter.networks import Stack, seeded
from tests.image.containers import RunningPod, run_pod
from tests.support.redis import run_redis

MODEL = "lstm"
#: A pod's own address is the one that leads to it here.
VALUES = {
    "advertise": "$(POD_IP):8001",
    "models": {"source": "existingClaim", "existingClaim": "models"},
    "store": {"kind": "redis", "redis": {"secretName": "store"}},
}


@pytest.fixture(scope="session")
def repository(tmp_path_factory) -> Path:
    """A repository with an LSTM of two layers that carousel-export converted from PyTorch."""
    folder = tmp_path_factory.mktemp("image")
    torch.save(seeded(Stack, "LSTM").state_dict(), folder / "weights.pt")
    made = folder / "models" / MODEL / "1" / "model.onnx"
    convert(read_source(folder / "weights.pt", ["fc=head"]), made, Labels(MODEL))
    for path in (folder / "models").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)  # the pod's user is another one
    (folder / "models").chmod(0o755)
    return folder / "models"


@pytest.fixture(scope="session")
def model(repository) -> onnx.ModelProto:
    return onnx.load(repository / MODEL / "1" / "model.onnx")


@pytest.fixture(scope="module")
def manifests() -> list:
    return render(VALUES)


@pytest.fixture
def start(manifests, repository, tmp_path) -> Iterator[Callable[[], RunningPod]]:
    """Start one server after another over one Redis; they end with the test."""
    spec = one(manifests, "StatefulSet")["spec"]["template"]["spec"]
    with ExitStack() as stack:
        redis = stack.enter_context(
            run_redis(tmp_path, "--appendonly", "yes", "--appendfsync", "always")
        )
        numbers = iter(range(100))

        def begin() -> RunningPod:
            return stack.enter_context(
                run_pod(
                    spec,
                    folders={"models": repository},
                    secrets={"store": redis.url},
                    log=tmp_path / f"pod{next(numbers)}.log",
                )
            )

        yield begin


@pytest.fixture(scope="session")
def inputs() -> np.ndarray:
    """What sessions send, (T, N, 3)."""
    return np.random.default_rng(0).normal(size=(2000, 4, 3)).astype(np.float32)
