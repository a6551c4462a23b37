"""The long-memory page: its tables are what the trainings beside it came to."""

import csv

import pytest

from examples.memory.networks import NETWORKS
from examples.memory.options import LAGS
from examples.memory.problems import PROBLEMS
from examples.memory.summary import markdown, read_csv
from tests.docs.pages import ROOT, text

PLAIN = ROOT / "docs" / "long-memory.csv"


def test_the_tables_are_those_of_the_trainings():
    for part in markdown(read_csv(PLAIN)).split("\n\n"):
        assert part.strip() in text("docs/long-memory.md")


def test_every_training_is_there_once():
    runs = [outcome.run for outcome in read_csv(PLAIN)]
    assert len(runs) == len(set(runs)) == len(PROBLEMS) * len(NETWORKS) * len(LAGS) * 3


def test_streamed_scores_are_pytorchs():
    with PLAIN.open(newline="") as file:
        for line in csv.DictReader(file):
            assert float(line["streamed_score"]) == pytest.approx(float(line["score"]), abs=1e-4)
