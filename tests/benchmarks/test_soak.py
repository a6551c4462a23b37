"""What a soak finds: that its checks can fail, and that its reference steps."""

import asyncio

import numpy as np
import pytest

from benchmarks import soak
from benchmarks.network import FEATURES, write_model
from benchmarks.processes import carousel_server
from benchmarks.soak import Found, Reference, sample_at


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write_model(folder)
    return folder


@pytest.fixture(scope="module")
def model(repository):
    return repository / "lstm" / "1" / "model.onnx"


def test_answers_are_compared_with_a_tolerance_that_grows_with_them():
    found = Found(resident_bytes=[100, 101])
    expected = np.array([[0.0], [1.0], [1000.0]], np.float32)
    found.compare(expected + np.array([[9e-6], [9e-6], [5e-3]], np.float32), expected)
    assert (found.steps, found.wrong) == (3, 0)
    assert 5e-6 < found.worst <= 1e-5
    assert found.good
    found.compare(expected + np.array([[2e-5], [0], [2e-2]], np.float32), expected)
    assert (found.steps, found.wrong) == (6, 2)
    assert not found.good


def test_an_answer_that_did_not_come_is_wrong():
    found = Found(resident_bytes=[100, 100])
    found.compare(np.array([[np.nan]], np.float32), np.zeros((1, 1), np.float32))
    assert (found.wrong, found.worst) == (1, np.inf)
    assert not found.good


@pytest.mark.parametrize(
    ("resident", "growth", "good"),
    [([100, 101, 101], 0.01, True), ([100, 103, 100], 0.03, False), ([100, 90], 0.0, True)],
)
def test_growth_is_the_most_above_the_warm_up(resident, growth, good):
    found = Found(resident_bytes=resident)
    assert found.growth == pytest.approx(growth)
    assert found.good is good


@pytest.mark.parametrize("messages", [20, 101, 5000])
def test_memory_is_read_twenty_times_and_at_the_end(messages):
    samples = sorted(sample_at(messages))
    assert len(samples) == 20
    assert samples[0] == round(messages / 20)
    assert samples[-1] == messages


def test_the_reference_keeps_its_states(model):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, FEATURES), np.float32)
    reference = Reference(model, 3)
    first, second = reference.step(x), reference.step(x)
    assert first.shape == (3, 1)
    assert (first != second).all()
    assert (Reference(model, 3).step(x) == first).all()


def soaked(server, model):
    return asyncio.run(soak.soak(server, model, 20, lambda steps: None))


def test_a_short_soak_is_good_and_one_of_wrong_answers_is_not(repository, model, monkeypatch):
    with carousel_server(repository) as server:
        found = soaked(server, model)
        assert (found.steps, found.wrong) == (20_000, 0)
        assert len(found.resident_bytes) == 20
        honest = Reference.step
        monkeypatch.setattr(Reference, "step", lambda self, x: honest(self, x) + np.float32(1e-3))
        assert soaked(server, model).wrong == 20_000
