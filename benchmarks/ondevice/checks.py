"""That ours computes what PyTorch does on the CPU, before anything is measured."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.ondevice.budget import Budget
from benchmarks.ondevice.cases import FEATURES
from benchmarks.ondevice.models import Torch
from carousel_server import log
from carousel_server.runtime.ondevice.devicemodel import DeviceModel
from carousel_server.runtime.ondevice.proof import TOLERANCE

_ROUNDS = 3
_LONGEST = 8
_TEST_TOOLS = ("pytest", "hypothesis", "pytest_asyncio", "pytest_timeout")
_PATIENCE = 10.0  # until tests that were interrupted have ended what they started


@dataclass(frozen=True, slots=True)
class Check:
    """What was compared, the largest difference, and how large it may be."""

    what: str
    worst: float
    allowed: float

    @property
    def passed(self) -> bool:
        """Whether it is small enough."""
        return self.worst <= self.allowed


@torch.inference_mode()
def against_torch(model: DeviceModel, network: Torch, *, sessions: int, math: str) -> Check:
    """Stream ragged chunks of many sessions through both; every other one is parked on the way.

    Parked: its state is read to the host and written back to another slot. Differences are relative
    to the larger of 1 and the value.
    """
    rng = np.random.default_rng(0)
    slots = rng.permutation(np.arange(1, model.slots + 1))[:sessions]
    free = np.setdiff1d(np.arange(1, model.slots + 1), slots)
    zeros = {s.name: np.zeros((sessions, *s.shape), s.dtype) for s in model.spec.states}
    model.write(slots, zeros)
    shape = (network.network.layers, sessions, network.network.hidden)
    h, c = torch.zeros(shape), torch.zeros(shape)
    worst = 0.0
    for _ in range(_ROUNDS):
        lengths = rng.integers(1, _LONGEST + 1, sessions)
        x = rng.normal(size=(lengths.max(), sessions, FEATURES)).astype(np.float32)
        came, bad = model.run(slots, lengths, {"x": x})
        if bad.any():
            return Check("a row came out not finite", float("inf"), 0.0)
        expected, h, c = _ragged(network, x, lengths, h, c)
        within = np.arange(len(x))[:, None] < lengths
        difference = np.abs(came["y"] - expected) / np.maximum(1, np.abs(expected))
        worst = max(worst, float(difference[within].max()))
        moved = min(len(free), sessions // 2)
        model.write(free[:moved], model.read(slots[:moved]))
        slots[:moved], free[:moved] = free[:moved], slots[:moved].copy()
    what = f"{sessions} sessions in ragged chunks with parking, against PyTorch on the CPU"
    return Check(what, worst, TOLERANCE[math])


def _ragged(
    network: Torch, x: np.ndarray, lengths: np.ndarray, h: torch.Tensor, c: torch.Tensor
) -> tuple[np.ndarray, torch.Tensor, torch.Tensor]:
    """Advance each row by its own length, a step at a time."""
    answers = np.zeros((*x.shape[:2], 1), np.float32)
    for time, values in enumerate(x):
        y, next_h, next_c = network(torch.from_numpy(values)[None], h, c)
        goes_on = torch.from_numpy(lengths > time)[None, :, None]
        h, c = torch.where(goes_on, next_h, h), torch.where(goes_on, next_c, c)
        answers[time] = y[0].numpy()
    return answers, h, c


def gpu_tests() -> list[str]:
    """Return the files that have tests for GPUs; the others import what need not be installed."""
    files = Path("tests").rglob("test_*.py")
    return sorted(str(path) for path in files if "needs_gpu" in path.read_text())


def run_tests(budget: Budget) -> Check | None:
    """Run the project's tests for GPUs; None, and a line, where they can't be, or take too long."""
    missing = [name for name in _TEST_TOOLS if importlib.util.find_spec(name) is None]
    if missing:
        log.get().warning("the tests for GPUs are not run", missing=missing)
        return None
    tests = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", *gpu_tests()]
    status = status_within(tests, budget)
    if status is None:
        log.get().warning("the tests for GPUs did not end", seconds=round(budget.spent))
        return None
    return Check("the project's tests for GPUs (exit status)", status, 0.0)


def status_within(command: Sequence[str], budget: Budget) -> int | None:
    """Return a command's exit status; None where time ran out: it is ended, with its children."""
    process = subprocess.Popen(command, start_new_session=True)
    try:
        return process.wait(budget.left)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE)
        return None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
