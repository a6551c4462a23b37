"""Sound and models for the examples: published ones where they are at hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.published import VARIABLE, Audio, look_alikes, published


@pytest.fixture(scope="package")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Audio:
    """The files of `tests.support.published`, or look-alikes."""
    if os.environ.get(VARIABLE):
        return published()
    folder: Path = tmp_path_factory.mktemp("audio")
    return look_alikes(folder)
