"""The SDK against the server itself: that the two read the protocol alike."""

import asyncio
import signal
import threading

import numpy as np
import pytest

import carousel_client as carousel
from tests.support import models
from tests.support.server import run_server


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    models.put(folder, models.running_sum(), "sum")
    models.put(folder, models.lstm(), "lstm")
    models.put(folder, models.exploding(), "exploding")
    return folder


@pytest.fixture(scope="module")
def server(repository, tmp_path_factory):
    log = tmp_path_factory.mktemp("server") / "log"
    with run_server(repository, "--max-sessions", "64", "--max-chunk", "50", log=log) as running:
        yield running


@pytest.fixture
def real(server):
    with carousel.connect(server.address) as made:
        yield made


def test_sessions_groups_and_streams_agree(real):
    x = np.random.default_rng(0).normal(size=(8, 120, 3)).astype(np.float32)
    x = x[..., : real.model("lstm").inputs[0].shape[0]]
    with real.open_many("lstm", 8) as group, real.open("lstm") as one, real.open("lstm") as live:
        together = group.step(x)
        alone = one.step(x[3])
        streamed = np.array(list(live.stream(x[3], window=7)))
        assert np.allclose(together[3], alone, atol=1e-5)
        assert np.allclose(streamed, alone, atol=1e-5)
        assert group.applied.tolist() == [120] * 8
    assert real.sessions() == []


async def test_coalesced_steps_agree(server):
    async with carousel.aio.connect(server.address) as client:
        sessions = [await client.open("sum") for _ in range(20)]
        for session in sessions:
            await session.step([1, 2])
        group = await client.attach_many("sum", [session.id for session in sessions])
        assert (await group.step(np.ones((20, 2)))).tolist() == [[2, 3]] * 20
        with pytest.raises(carousel.StaleHandle):
            await sessions[0].step([1, 1])
        await group.close()


def test_refusals_have_their_classes(real):
    with pytest.raises(carousel.ModelNotFound, match="lstm"):
        real.open("nothing")
    with pytest.raises(carousel.SessionNotFound):
        real.attach("sum", "nobody")
    with pytest.raises(carousel.ResourceExhausted) as full:
        real.open_many("sum", 1000)
    assert full.value.retry_after
    with real.open("sum", "one") as session:
        with pytest.raises(carousel.SessionExists):
            real.open("sum", "one")
        with pytest.raises(carousel.InvalidInput, match="finite"):
            session.step([np.nan, 1])
        assert session.step([1, 2]).tolist() == [1, 2]
        session.reset()
        assert session.step([1, 2], timeout=5).tolist() == [1, 2]
    with real.open("exploding") as session, pytest.raises(carousel.NumericFault):
        session.step(np.full((500, 2), 1e30))


def test_a_drain_is_told_and_its_sessions_are_lost(repository, tmp_path):
    told = threading.Event()
    with (
        run_server(repository, log=tmp_path / "log") as running,
        carousel.connect(running.address, timeout=1, on_drain=lambda notice: told.set()) as client,
    ):
        session = client.open("sum")
        session.step([1, 2])
        client.info()  # the server has now put the step's answer behind it
        running.process.send_signal(signal.SIGTERM)
        assert told.wait(10), running.log_text()
        assert running.process.wait(20) == 0
        with pytest.raises(carousel.Unavailable):
            session.step([1, 2])


async def test_of_chunks_that_wait_those_before_a_faulty_one_are_answered(server):
    """Chunks that waited together travel as one, which the server refuses as a whole."""
    rng = np.random.default_rng(0)
    chunks = [rng.normal(size=(4, 2)).astype(np.float32) for _ in range(6)]
    chunks[2][1, 0] = np.nan
    expected = np.cumsum(np.concatenate(chunks[:2]), axis=0)
    async with carousel.aio.connect(server.address) as client:
        session = await client.open("sum")
        told = await asyncio.gather(*map(session.step, chunks), return_exceptions=True)
        np.testing.assert_allclose(np.concatenate(told[:2]), expected, rtol=1e-5)
        assert isinstance(told[2], carousel.InvalidInput)
        assert "nan at step 1 of the row" in str(told[2])
        assert all(isinstance(error, carousel.OutOfOrder) for error in told[3:])
        assert len({str(error) for error in told[3:]}) == 1, "each says it of the same one"
        assert session.applied == 8
        on = await session.step(chunks[0])
        np.testing.assert_allclose(on, expected[-1] + np.cumsum(chunks[0], axis=0), rtol=1e-4)
        await session.close()
