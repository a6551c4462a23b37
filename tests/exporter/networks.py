"""Networks as others write them, and running a model file beside them in random chunks."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

from carousel_exporter.driving import random_cuts
from carousel_exporter.manifest import load_model, read_manifest
from carousel_exporter.runner import Runner

WORDS = 30


class Stack(nn.Module):
    """Recurrent layers of any kind and a linear head: (T, B, 3) to (T, B, 2), state in and out."""

    def __init__(self, kind="GRU", *, hidden=8, layers=2, **options):
        super().__init__()
        self.rnn = getattr(nn, kind)(3, hidden, layers, **options)
        self.fc = nn.Linear(options.get("proj_size") or hidden, 2)

    def forward(self, x, state=None):
        top, state = self.rnn(x, state)
        return self.fc(top), state


class Tagger(nn.Module):
    """An embedding, a GRU and two heads: token ids (T, B) to (T, B, 4) and (T, B, 1)."""

    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(WORDS, 5)
        self.rnn = nn.GRU(5, 8)
        self.tag = nn.Linear(8, 4)
        self.score = nn.Linear(8, 1, bias=False)

    def forward(self, x, state=None):
        top, state = self.rnn(self.emb(x), state)
        return self.tag(top), self.score(top), state


def seeded(make, *arguments, seed=0, **options):
    """Make a network with weights of its own, in evaluation mode, large enough to matter."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make(*arguments, **options).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.5)
    return network


def run_torch(network, *inputs):
    """Return all that a network answers, as arrays: (T, B, …) each."""
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "LSTM with projections")
        found = network(*(torch.from_numpy(x) for x in inputs))
    return [part.numpy() for part in found if isinstance(part, torch.Tensor)]


def stream(path: Path, *, seed: int = 0, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Run (T, B, …) through a model file, each row alone and in random chunks of its own."""
    runner = Runner(path, read_manifest(load_model(path), path))
    rng = np.random.default_rng(seed)
    steps, rows = next(iter(inputs.values())).shape[:2]
    answers = []
    for row in range(rows):
        state, start, parts = runner.new_state(), 0, []
        for length in random_cuts(steps, rng):
            chunk = {name: x[start : start + length, row] for name, x in inputs.items()}
            (answer,), (state,) = runner.advance([chunk], [state])
            parts.append(answer)
            start += length
        answers.append({n: np.concatenate([part[n] for part in parts]) for n in parts[0]})
    return {name: np.stack([a[name] for a in answers], axis=1) for name in answers[0]}


def assert_equal(found: np.ndarray, expected: np.ndarray) -> None:
    """What Carousel calls equal in single precision."""
    assert found.shape == expected.shape
    assert (np.abs(found - expected) <= 1e-5 * np.maximum(1, np.abs(expected))).all()


def save_script(module: nn.Module, path: Path) -> Path:
    """Write a TorchScript file, which PyTorch would rather have us not do any more."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module).save(path)
    return path


def save_exported(module: nn.Module, path: Path, *arguments: torch.Tensor) -> Path:
    """Write a .pt2 file whose axis 1 is open in all arguments."""
    axes = [{1: torch.export.Dim("batch")} for _ in arguments]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own layers assign attributes while exported
        exported = torch.export.export(module, arguments, dynamic_shapes=tuple(axes))
    torch.export.save(exported, path)
    return path
