"""Sessions that outlive their server, over real connections: both clients."""

import asyncio
import logging
import socket
import threading
from contextlib import asynccontextmanager

import numpy as np
import pytest
from google.protobuf import duration_pb2

import carousel_client as carousel
from carousel.v1 import sessions_pb2 as pb
from carousel_client._addresses import host_name, numbered
from tests.client.fake import Fake
from tests.client.store import Store


@pytest.fixture
def pair():
    """Two servers with one store, which save every ten steps."""
    store = Store()
    servers = [Fake(store), Fake(store)]
    for server in servers:
        server.switches.save_every = 10
        server.start()
        server.advertised = server.address
    yield servers
    for server in servers:
        server.stop()


@pytest.fixture
def addresses(pair):
    return [server.address for server in pair]


def test_a_loop_of_steps_does_not_notice_that_its_server_died(pair, addresses, quick, caplog):
    told = []
    with (
        caplog.at_level(logging.WARNING),
        carousel.connect(addresses, on_failover=told.append, **quick) as client,
    ):
        session, group = client.open("sum"), client.open_many("sum", 3)
        for i in range(1, 36):
            if i == 15:
                pair[0].stop()
            assert session.step([1, 2]).tolist() == [i, 2 * i]
            assert group.step(np.ones((3, 2))).tolist() == [[i, i]] * 3
        assert session.applied == 35
        assert group.applied.tolist() == [35] * 3
    (event,) = {one for one in told if one.sessions == 1}
    assert event.replayed == 4
    assert (event.sources, event.targets) == ((addresses[0],), (addresses[1],))
    assert f"went on from {addresses[0]} to {addresses[1]} after" in caplog.text


def test_threads_and_a_stream_do_not_notice_either(pair, addresses, quick):
    failures = []
    with carousel.connect(addresses, **quick) as client:
        sessions = [client.open("sum") for _ in range(4)]

        def work(session):
            try:
                for i in range(1, 101):
                    assert session.step([1, 2]).tolist() == [i, 2 * i]
            except BaseException as error:  # noqa: BLE001, told below
                failures.append(error)

        threads = [threading.Thread(target=work, args=[session]) for session in sessions]
        for thread in threads:
            thread.start()
        answers = []
        for number, answer in enumerate(client.open("sum").stream([[1, 0]] * 200, window=5)):
            if number == 50:
                pair[0].stop()
            answers.append(int(answer[0]))
        for thread in threads:
            thread.join()
    assert not failures
    assert answers == list(range(1, 201))


async def test_asyncio_goes_on_too(pair, addresses, quick):
    told = []
    async with carousel.aio.connect(addresses, on_failover=told.append, **quick) as client:
        sessions = [await client.open("sum") for _ in range(8)]

        halfway = asyncio.Event()

        async def work(session):
            for i in range(1, 61):
                assert (await session.step([1, 2])).tolist() == [i, 2 * i]
                if i == 25:
                    halfway.set()

        tasks = [asyncio.create_task(work(session)) for session in sessions]
        await halfway.wait()
        await asyncio.to_thread(pair[0].stop)
        await asyncio.gather(*tasks)
        assert sum(event.sessions for event in told) >= 8
        again = await client.open("sum")  # at the server that there is
        assert (await again.step([1, 1])).tolist() == [1, 1]
        await again.mark("here")
        await asyncio.to_thread(pair[1].stop)
        await asyncio.to_thread(pair[0].start)
        await again.step([1, 1])
        assert await again.rewind("here") == 1


async def test_a_drained_server_is_left(pair, addresses, quick):
    notice = pb.DrainNotice(leaves_in=duration_pb2.Duration(seconds=30), saved_to="the store")
    pair[0].switches.drain = notice
    seen = asyncio.Event()
    async with carousel.aio.connect(addresses, on_drain=lambda _: seen.set(), **quick) as client:
        session = await client.open("sum", "one")
        first = asyncio.create_task(session.step([1, 1]))
        await seen.wait()
        assert (await first).tolist() == [1, 1]
        held = pair[0].sessions["one"]
        second = asyncio.create_task(session.step([1, 1]))
        await asyncio.sleep(0.05)
        assert len(pair[0].requests) <= 1
        pair[0].detach(held)
        assert (await second).tolist() == [2, 2]
        assert "one" in pair[1].sessions


@asynccontextmanager
async def forwarded(address):
    """Forward connections to an address until `silent` is set: then nothing comes any more."""
    silent, ends, tasks = asyncio.Event(), [], []

    async def copy(reader, writer):
        while data := await reader.read(65536):
            if not silent.is_set():
                writer.write(data)
        writer.close()

    async def connected(reader, writer):
        there, back = await asyncio.open_connection(*address.split(":"))
        ends.extend([back, writer])
        tasks.extend(asyncio.create_task(copy(*way)) for way in ((reader, back), (there, writer)))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", silent
    finally:
        server.close()
        for end in ends:
            end.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_connection_that_falls_silent_is_left(pair, addresses, quick):
    options = quick | {"timeout": 5, "keepalive": 0.2, "keepalive_timeout": 0.2}
    async with (
        forwarded(addresses[0]) as (address, silent),
        carousel.aio.connect([address, addresses[1]], **options) as client,
    ):
        session = await client.open("sum")
        for i in range(1, 13):
            assert (await session.step([1, 2])).tolist() == [i, 2 * i]
        silent.set()
        # The other server says where it is: at its own address, where it does answer.
        assert (await session.step([1, 2], timeout=20)).tolist() == [13, 26]
        assert session.id in pair[0].sessions


def test_resume_can_be_asked_for_and_refused(pair, addresses, quick, fake):
    with carousel.connect(addresses, **quick) as client:
        for resume in (None, True):
            client.open("sum", resume=resume).step([1, 1])
            assert len(pair[0].requests[-1].delivered) == 8
        plain = client.open("sum", "plain", resume=False)
        plain.step([1, 1])
        assert not pair[0].requests[-1].delivered
        client.attach("sum", "plain").step([1, 1])
        assert np.frombuffer(pair[0].requests[-1].delivered, "<u8").tolist() == [1]
    with carousel.connect(fake.address, **quick) as client:
        client.open("sum").step([1, 1])
        assert not fake.requests[-1].delivered
        session = client.open("sum", resume=True)
        session.step([1, 1])
        fake.switches.breaks = ["after"]  # the server lives: its answer was lost, and is made again
        assert session.step([1, 1]).tolist() == [2, 2]


def test_sessions_at_another_server_are_found(pair, addresses, quick):
    with (
        carousel.connect(addresses[0], **quick) as one,
        carousel.connect(addresses[1], **quick) as other,
    ):
        one.open("sum", "a").step([1, 1])
        other.open("sum", "b").step([2, 2])
        assert other.attach("sum", "a").step([1, 1]).tolist() == [2, 2]
        group = one.attach_many("sum", ["a", "b"])
        assert group.step(np.ones((2, 2))).tolist() == [[3, 3], [3, 3]]
        assert group.step(np.ones((2, 2))).tolist() == [[4, 4], [4, 4]]
        assert {name for server in pair for name in server.sessions} == {"a", "b"}


def test_names_stand_for_all_their_addresses(pair, quick, monkeypatch):
    ports = [int(server.address.rpartition(":")[2]) for server in pair]
    asked = []

    def look_up(name, port, **_):
        asked.append(name)
        places = ["127.0.0.2", "127.0.0.1", "127.0.0.1"]
        return [(socket.AF_INET, 1, 6, "", (place, 0)) for place in places]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with carousel.connect(f"dns:///carousel.example:{ports[0]}", **quick) as client:
        assert client.open("sum").step([1, 1]).tolist() == [1, 1]
        assert repr(client) == f"<Client of 127.0.0.1:{ports[0]}>"
    assert set(asked) == {"carousel.example"}


def test_addresses_that_may_stand_for_several():
    assert host_name("carousel:8001") == host_name("dns:///carousel:8001") == "carousel"
    for address in ("10.0.0.1:8001", "[::1]:8001", "unix:/tmp/socket", "ipv4:10.0.0.1:1", "name"):
        assert host_name(address) == ""
    assert numbered("name:1", ["10.0.0.2", "10.0.0.1", "10.0.0.2"]) == ["10.0.0.1:1", "10.0.0.2:1"]
    assert numbered("name:1", ["10.0.0.1", "::1"]) == numbered("name:1", []) == ["name:1"]
    assert numbered("dns:///name:1", ["fe::1", "fe::2"]) == ["[fe::1]:1", "[fe::2]:1"]


@pytest.mark.parametrize("name", ["failover_timeout", "replay_bytes"])
def test_options_are_checked(name):
    with pytest.raises(carousel.InvalidInput, match=name):
        carousel.connect("x:1", **{name: 0})


def test_a_callback_that_fails_is_logged(pair, addresses, quick, caplog):
    with carousel.connect(addresses, on_failover=lambda _: 1 / 0, **quick) as client:
        session = client.open("sum")
        session.step([1, 1])
        pair[0].stop()
        assert session.step([1, 1]).tolist() == [2, 2]
        session.step([1, 1])
    assert "on_failover failed" in caplog.text


def test_closing_a_client_whose_servers_are_gone_does_not_wait(pair, addresses, quick):
    client = carousel.connect(addresses, **quick)
    session, seen = client.open("sum"), []
    session.step([1, 1])
    for server in pair:
        server.stop()

    def wait():
        try:
            session.step([1, 1])
        except carousel.CarouselError as error:
            seen.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    while not client._link.exchange.astray:
        pass
    client.close()
    waiting.join(5)
    assert [type(error) for error in seen] == [carousel.ClientClosed]


async def fill(step):
    """Step until the client may hold no more, and return how often it could."""
    for i in range(26):
        try:
            await step([1, 1])
        except carousel.ReplayFull:
            return i
    raise AssertionError("held more than it may")


async def until_there_is_room(step):
    for _ in range(200):
        try:
            return (await step([1, 1])).tolist()
        except carousel.ReplayFull:
            await asyncio.sleep(0.02)
    raise AssertionError("never found out")


def save_all(server):
    for held in server.sessions.values():
        server.save(held)  # nobody tells the client


async def test_a_full_client_finds_out_what_the_store_covers_by_now(pair, addresses, quick):
    pair[0].switches.save_every = 0
    async with carousel.aio.connect(addresses, replay_bytes=200, **quick) as client:
        session = await client.open("sum")
        assert await fill(session.step) == 25
        save_all(pair[0])
        assert await until_there_is_room(session.step) == [26, 26]
    with carousel.connect(addresses, replay_bytes=200, **quick) as client:
        session = client.open("sum")

        async def step(x):
            return await asyncio.to_thread(session.step, x)

        assert await fill(step) == 25
        save_all(pair[0])
        assert await until_there_is_room(step) == [26, 26]
