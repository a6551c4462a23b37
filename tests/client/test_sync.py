import numpy as np


def test_steps_and_chunks(client):
    with client.open("sum") as session:
        assert np.array_equal(session.step([1, 2]), [1, 2])
        assert np.array_equal(session.step([[1, 2], [3, 4]]), [[2, 4], [5, 8]])
        assert session.applied == 3
    assert client.sessions() == []
