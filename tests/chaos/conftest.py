"""How hard, and by which dice."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import pytest

from tests.chaos.crowd import FEATURES, MODEL
from tests.chaos.world import Scale, World, run_world
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
def chaos(
    model: Path,
    tmp_path: Path,
    chance: random.Random,
    say: Callable[[str], None],
    pytestconfig: pytest.Config,
) -> Callable[..., AbstractAsyncContextManager[World]]:
    """`run_world` of this test: what is left to say are its options."""
    scale = Scale(quick=pytestconfig.option.quick)
    return partial(run_world, model, tmp_path, chance, say, scale)
