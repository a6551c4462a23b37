"""The SDK and real servers that share a store: that sessions outlive their server."""

import asyncio
import signal
from contextlib import ExitStack

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
    return folder


@pytest.fixture
def start(repository, tmp_path):
    """Return what starts a server with the test's store, and ends all of them."""
    with ExitStack() as stack:

        def begin(*flags):
            log = tmp_path / f"log{len(list(tmp_path.iterdir()))}"
            shared = ("--store", f"file:{tmp_path / 'store'}", "--checkpoint-every-steps", "10")
            return stack.enter_context(
                run_server(repository, *shared, "--lease-seconds", "1", *flags, log=log)
            )

        yield begin


def test_every_answer_comes_once_though_servers_die(start):
    one, two = start(), start()
    told = []
    with carousel.connect([one.address, two.address], on_failover=told.append) as client:
        assert client.info().resumable
        x = np.random.default_rng(0).normal(size=(4, 120, 3)).astype(np.float32)
        x = x[..., : client.model("lstm").inputs[0].shape[0]]
        with client.open("lstm", resume=False) as plain:
            expected = plain.step(x[0])
        session, group = client.open("lstm"), client.open_many("lstm", 4)
        answers = []
        for i in range(120):
            if i == 57:
                one.process.send_signal(signal.SIGKILL)
            answers.append(session.step(x[0, i]))
            together = group.step(x[:, i])
            assert np.allclose(together[0], answers[-1], atol=1e-5)
        assert np.allclose(answers, expected, atol=1e-5)
        assert session.applied == 120
        assert sum(event.replayed for event in told) > 0


async def test_a_drained_server_hands_its_sessions_over(start):
    one, two = start(), start()
    told = []
    async with carousel.aio.connect([one.address, two.address], on_failover=told.append) as client:
        sessions = [await client.open("sum") for _ in range(20)]
        halfway = asyncio.Event()

        async def work(session):
            for i in range(1, 201):
                assert (await session.step([1, 2])).tolist() == [i, 2 * i]
                if i == 60:
                    halfway.set()

        tasks = [asyncio.create_task(work(session)) for session in sessions]
        await halfway.wait()
        one.process.send_signal(signal.SIGTERM)
        await asyncio.gather(*tasks)
        assert {target for event in told for target in event.targets} == {two.address}
        assert one.process.wait(20) == 0


def test_a_connection_that_breaks_is_no_loss_whatever_the_store(repository, tmp_path):
    with (
        run_server(repository, log=tmp_path / "log") as server,
        carousel.connect(server.address) as client,
    ):
        assert not client.info().resumable
        session = client.open("sum", resume=True)
        for i in range(1, 31):
            assert session.step([1, 2]).tolist() == [i, 2 * i]
            if i % 10 == 0:  # cut the stream where it is
                for lane in list(client._link._lanes):
                    lane.stream.cancel()


def test_states_go_on_at_another_server(start):
    one, two = start(), start()
    with (
        carousel.connect(one.address) as here,
        carousel.connect(two.address) as there,
        here.open("sum", "first") as session,
    ):
        session.step([1, 2])
        saved = session.snapshot()
        assert session.get_state()
        assert session.mark("one") == 1
        session.step([[1, 1]] * 5)
        with session.fork(3) as twins:
            assert twins.step(np.ones((3, 2))).tolist() == [[7, 8]] * 3
        assert session.rewind("one") == 1
        assert session.step([0, 0]).tolist() == [1, 2]
        with there.restore("sum", saved) as again:
            assert again.step([1, 1]).tolist() == [2, 3]
        for wrong, model in ((saved, "lstm"), (saved[:-1] + bytes([saved[-1] ^ 1]), "sum")):
            with pytest.raises(carousel.SnapshotMismatch):
                there.restore(model, wrong)
        with pytest.raises(carousel.MarkNotFound):
            session.rewind("two")
        taken = there.attach("sum", "first")  # follows it to where it is
        assert taken.step([1, 1]).tolist() == [2, 3]
        taken.detach()
        assert there.attach("sum", "first").rewind("one") == 1
