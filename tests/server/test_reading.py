"""States that are there, and states of which some are still to come."""

from __future__ import annotations

import numpy as np

from carousel_server.reading import Here, Partly


class Coming:
    nbytes, done = 0, False

    def get(self):
        self.done = True
        return {"h": np.array([[2.0], [3.0]]), "n": np.array([20, 30])}


def test_what_is_here():
    states = {"h": np.zeros((3, 2), np.float32), "n": np.zeros(3, np.int64)}
    here = Here(states)
    assert here.done
    assert here.get() is states
    assert here.nbytes == 3 * 2 * 4 + 3 * 8


def test_what_is_partly_here():
    states = {"h": np.array([[1.0], [0.0], [0.0]]), "n": np.array([10, 0, 0])}
    partly = Partly(states, np.array([False, True, True]), Coming())
    assert not partly.done
    assert partly.nbytes == 48
    for _ in range(2):
        assert partly.get()["h"].tolist() == [[1.0], [2.0], [3.0]]
        assert partly.get()["n"].tolist() == [10, 20, 30]
    assert partly.done
