"""How a server is asked to drain from beside it."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading

import pytest
from structlog.testing import capture_logs

from carousel_server import drain_command, drain_socket
from carousel_server.drain_socket import DrainError, DrainSocket, ask_to_drain

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it takes abstract Unix sockets")


class Asked:
    """A server's end, which drains when the test says so."""

    def __init__(self) -> None:
        with socket.socket() as free:  # the name is a port's, so that it is nobody else's
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.requests = 0
        self.done = asyncio.Event()
        self.socket = DrainSocket(self.address, self._drain)

    async def _drain(self) -> None:
        self.requests += 1
        await self.done.wait()

    async def ask(self, seconds: float = 10.0) -> float:
        return await asyncio.to_thread(ask_to_drain, self.address, seconds)

    async def heard(self, times: int = 1) -> None:
        async with asyncio.timeout(10):
            while self.requests < times:  # noqa: ASYNC110
                await asyncio.sleep(0.005)


@pytest.fixture
async def asked():
    asked = Asked()
    await asked.socket.start()
    yield asked
    asked.socket.stop()


async def test_it_is_answered_when_the_server_has_drained(asked):
    one, other = (asyncio.create_task(asked.ask()) for _ in range(2))
    await asked.heard(2)
    assert not one.done()
    asked.done.set()
    assert await one >= 0
    assert await other >= 0


async def test_nobody_is_there(asked):
    asked.socket.stop()
    with pytest.raises(DrainError, match="and there is none that serves"):
        await asked.ask()


async def test_it_takes_too_long(asked):
    with pytest.raises(DrainError, match=r"has not drained within 0\.05 s"):
        await asked.ask(0.05)
    asked.done.set()


async def test_a_server_that_ends_has_drained(asked):
    asking = asyncio.create_task(asked.ask())
    await asked.heard()
    for task in asyncio.all_tasks() - {asking, asyncio.current_task()}:
        task.cancel()
    assert await asking >= 0


async def test_other_users_are_refused_at_either_end(asked, monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 1234)
    monkeypatch.setattr(drain_socket, "_peer", lambda connected: 4321)
    with pytest.raises(DrainError, match=r"runs as another user \(4321\)"):
        await asked.ask()
    # The same, but the client, on a thread of its own, takes the server for root's.
    server = threading.current_thread()
    monkeypatch.setattr(
        drain_socket, "_peer", lambda _: 4321 if threading.current_thread() is server else 0
    )
    with capture_logs() as logs, pytest.raises(DrainError, match="the server runs as another user"):
        await asked.ask()
    assert asked.requests == 0
    assert {"refused to drain for another user"} == {line["event"] for line in logs}


async def test_what_is_said_must_be_to_drain(asked):
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(stranger, drain_socket._name(asked.address))
        await loop.sock_sendall(stranger, b"GET / HTTP/1.1\r\n")
        assert await loop.sock_recv(stranger, 100) == b""
    assert asked.requests == 0


async def test_a_name_that_is_taken_is_told_of(asked):
    again = DrainSocket(asked.address, asked._drain)
    with capture_logs() as logs:
        await again.start()
    again.stop()
    assert logs[0]["event"] == "`carousel-server drain` won't work"


def test_every_address_is_known_by_one_name():
    assert drain_socket._name("0.0.0.0:80") == drain_socket._name("[::]:80")
    assert drain_socket._name("127.0.0.1:80") != drain_socket._name("127.0.0.1:81")


# The command


@pytest.fixture
def asking(monkeypatch):
    """What the command asks for, and how long it waits then."""
    calls, slept = [], []

    def ask(address: str, seconds: float) -> float:
        calls.append((address, seconds))
        return 1.5

    monkeypatch.setattr(drain_command, "ask_to_drain", ask)
    monkeypatch.setattr("time.sleep", slept.append)
    for name in ("METRICS_ADDRESS", "DRAIN_SECONDS", "CONFIG"):
        monkeypatch.delenv(f"CAROUSEL_{name}", raising=False)
    return calls, slept


def test_the_command_knows_what_the_server_knows(asking, monkeypatch, tmp_path):
    calls, slept = asking
    config = tmp_path / "carousel.yaml"
    config.write_text("drain_seconds: 7\nslots: 5\nmetrics_address: 127.0.0.1:1\n")
    monkeypatch.setenv("CAROUSEL_METRICS_ADDRESS", "0.0.0.0:9002")
    monkeypatch.setenv("CAROUSEL_MODELS", "/nosuch")
    assert drain_command.main(["--config", str(config)]) == 0
    assert drain_command.main(["--metrics-address", "[::1]:3", "--at-least", "0"]) == 0
    assert calls == [("0.0.0.0:9002", 12.0), ("[::1]:3", 35.0)]
    assert slept == [3.5, 0], "it stays for what is left of --at-least"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--metrics-address", "127.0.0.1:0"], "--metrics-address: the port in the server's"),
        (["--metrics-address", "nowhere"], "--metrics-address nowhere: 'nowhere' is no HOST:PORT"),
        (["--drain-seconds", "-1"], "--drain-seconds -1: "),
        (["--config", "/nosuch"], "--config /nosuch: there is no such file"),
    ],
)
def test_the_command_says_what_is_wrong(asking, capsys, arguments, sentence):
    assert drain_command.main(arguments) == 1
    assert capsys.readouterr().err.startswith(f"carousel-server drain: {sentence}")
    assert asking == ([], [])
