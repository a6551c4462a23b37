"""How hard, and by which dice."""

from __future__ import annotations

import random
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.chaos.crowd import FEATURES, MODEL
from tests.support import models


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="fewer sessions and fewer failures")
    parser.addoption("--seed", type=int, help="the seed of an earlier run, to repeat it")


def pytest_configure(config: pytest.Config) -> None:
    if config.option.seed is None:
        config.option.seed = secrets.randbelow(10**6)


def pytest_report_header(config: pytest.Config) -> str:
    seed = config.option.seed
    quick = " --quick" if config.option.quick else ""
    return f"chaos: seed {seed}; to repeat: make chaos CHAOS='--seed {seed}{quick}'"


@dataclass(frozen=True)
class Scale:
    """How much happens."""

    quick: bool

    def of(self, full: float, quick: float) -> float:
        """Return the one or the other."""
        return quick if self.quick else full

    @property
    def sessions(self) -> int:
        """How many sessions stream."""
        return 30 if self.quick else 200


@pytest.fixture(scope="session")
def scale(pytestconfig: pytest.Config) -> Scale:
    return Scale(pytestconfig.option.quick)


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """Dice of this test's own, which fall as they did in an earlier run with the same seed."""
    return random.Random(f"{request.config.option.seed} {request.node.name}")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the model that all servers have."""
    return models.put(
        tmp_path_factory.mktemp("models"), models.lstm(features=FEATURES, outputs=2), MODEL
    )


@pytest.fixture
def say(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]):
    """Tell people what happens, at once."""
    began = time.monotonic()

    def line(text: str) -> None:
        with capsys.disabled():
            print(f"\n  {time.monotonic() - began:6.1f} s  {text}", end="", flush=True)

    return line
