"""Sessions that outlive their server: real processes over a folder and over Redis.

Every answer is compared with that of a session that nothing happened to.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2

from carousel import wire
from carousel.v1 import server_pb2, server_pb2_grpc, sessions_pb2, states_pb2
from tests.support import models, raw
from tests.support.raw import Opened, applied, output, statuses, step_request
from tests.support.redis import RunningRedis, run_redis
from tests.support.server import RunningServer, run_server

LEASE = 0.6  # seconds
FLAGS = (
    *("--lease-seconds", str(LEASE), "--checkpoint-every-steps", "5"),
    *("--checkpoint-every-ms", "200", "--slots", "512"),
)
XS = np.random.default_rng(0).integers(-9, 9, (200, 2)).astype(np.float32)
YS = XS.cumsum(axis=0)
_SECONDS = 20


@dataclass
class Fleet:
    """Servers over one store."""

    store: str
    start: Callable[..., tuple[RunningServer, raw.RawClient]]
    redis: RunningRedis | None = None


@contextmanager
def fleet_of(repository, folder, kind: str) -> Iterator[Fleet]:
    with ExitStack() as stack:
        redis = None
        if kind == "redis":
            place = folder / "redis"
            place.mkdir()
            options = ("--appendonly", "yes", "--appendfsync", "always")
            redis = stack.enter_context(run_redis(place, *options))
        store = redis.url if redis else f"file:{folder / 'store'}"
        if kind == "memory":
            store = "memory"
        number = iter(range(100))

        def start(*flags: str, models_at=repository) -> tuple[RunningServer, raw.RawClient]:
            log = folder / f"log{next(number)}"
            server = stack.enter_context(
                run_server(models_at, "--store", store, *FLAGS, *flags, log=log)
            )
            return server, stack.enter_context(raw.connect(server.address))

        yield Fleet(store, start, redis)


@pytest.fixture(params=["file", "redis"])
def fleet(request, repository, tmp_path) -> Iterator[Fleet]:
    with fleet_of(repository, tmp_path, request.param) as made:
        yield made


@pytest.fixture
def file_fleet(repository, tmp_path) -> Iterator[Fleet]:
    with fleet_of(repository, tmp_path, "file") as made:
        yield made


def attach(
    client: raw.RawClient,
    ids: Sequence[str],
    delivered: Sequence[int] | None = None,
    *,
    model: str = "sum",
    each: bool = False,
) -> tuple[Opened, sessions_pb2.AttachResponse]:
    counts = b"" if delivered is None else np.array(delivered, "<u8").tobytes()
    answer = client.stub.Attach(
        sessions_pb2.AttachRequest(model=model, ids=ids, delivered=counts, each=each),
        timeout=_SECONDS,
    )
    return (
        Opened(
            answer.model,
            answer.version,
            answer.server_id,
            list(ids),
            np.frombuffer(answer.handles, wire.HANDLE_DTYPE),
            np.frombuffer(answer.applied, wire.STEP_COUNT_DTYPE),
        ),
        answer,
    )


def eventually(call: Callable[[], object]):
    """Call until it is neither moved nor has to wait, as clients do."""
    until = time.monotonic() + _SECONDS
    while True:
        try:
            return call()
        except grpc.RpcError as error:
            if reason(error) not in ("SESSION_MOVED", "TAKE_OVER_WAITS", "STORE_AWAY"):
                raise
            if time.monotonic() > until:
                raise
        time.sleep(0.05)


def status_of(error: grpc.RpcError) -> status_pb2.Status:
    found = dict(error.trailing_metadata() or ())
    return status_pb2.Status.FromString(found["grpc-status-details-bin"])


def reason(error: grpc.RpcError) -> str:
    info = error_details_pb2.ErrorInfo()
    status_of(error).details[0].Unpack(info)
    return info.reason


def step(client: raw.RawClient, opened: Opened, begin: int, end: int, *, row: int = 0, **fields):
    """Step one session from `begin` to `end`, and compare."""
    counts = np.array([begin], "<u8").tobytes()
    request = step_request(
        opened,
        XS[begin:end],
        rows=[row],
        lengths=[end - begin],
        first_step=[begin],
        **{"delivered": counts, **fields},
    )
    answer = client.step(request)
    assert statuses(answer) == ["OK"], answer
    np.testing.assert_array_equal(output(answer), YS[begin:end])
    return answer


def durable(answer) -> int:
    return int(np.frombuffer(answer.durable, "<u8")[0])


def wait_durable(client: raw.RawClient, name: str, least: int) -> None:
    until = time.monotonic() + _SECONDS
    while time.monotonic() < until:
        session = client.stub.Get(sessions_pb2.GetSessionRequest(id=name), timeout=5).session
        if session.durable >= least:
            return
        time.sleep(0.02)
    raise AssertionError(f"{name} is durable up to {session.durable} of {session.applied}")


def test_another_server_goes_on_after_a_kill(fleet):
    a, ca = fleet.start()
    _, cb = fleet.start()
    ids = ["s0", "s1", "s2", "s3"]
    opened = ca.open("sum", ids=ids)
    ends = [7, 23, 50, 0]
    for row, end in enumerate(ends):
        for begin in range(0, end, 4):
            step(ca, opened, begin, min(begin + 4, end), row=row)
    wait_durable(ca, "s2", 50)
    a.process.kill()
    a.process.wait()
    again, answer = eventually(lambda: attach(cb, ids, ends))
    back = again.applied.tolist()
    assert all(count <= end for count, end in zip(back, ends, strict=True))
    assert np.frombuffer(answer.durable, "<u8").tolist() == back
    assert back[2] >= 46
    for row, count in enumerate(back):
        step(cb, again, count, 80, row=row)
    cb.close(again)


def test_a_living_server_keeps_its_sessions(fleet):
    a, ca = fleet.start()
    _, cb = fleet.start()
    opened = ca.open("sum", ids=["s"])
    step(ca, opened, 0, 10)
    with pytest.raises(grpc.RpcError) as caught:
        cb.open("sum", ids=["s"])
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
    until = time.monotonic() + _SECONDS
    while True:
        with pytest.raises(grpc.RpcError) as caught:
            attach(cb, ["s"])
        if reason(caught.value) != "TAKE_OVER_WAITS" or time.monotonic() > until:
            break
        time.sleep(0.05)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    moved = sessions_pb2.SessionMoved()
    status = status_of(caught.value)
    assert reason(caught.value) == "SESSION_MOVED"
    assert status.details[1].Unpack(moved)
    assert (moved.id, moved.address) == ("s", a.address)
    _, each = attach(cb, ["s", "nobody"], each=True)
    assert list(each.status) == [
        sessions_pb2.ROW_STATUS_MOVED,
        sessions_pb2.ROW_STATUS_NOT_FOUND,
    ]
    assert [(one.id, one.address) for one in each.moved] == [("s", a.address)]
    step(ca, opened, 10, 20)


def test_a_server_that_slept_too_long_lets_go(fleet):
    a, ca = fleet.start()
    _, cb = fleet.start()
    opened = ca.open("sum", ids=["s", "idle", "theirs"])
    for row in range(3):
        step(ca, opened, 0, 10, row=row)
    for name in opened.ids:
        wait_durable(ca, name, 10)
    os.kill(a.process.pid, signal.SIGSTOP)
    try:
        again, _ = eventually(lambda: attach(cb, ["s", "idle"], [10, 10]))
        assert again.applied.tolist() == [10, 10]
        step(cb, again, 10, 40)
    finally:
        os.kill(a.process.pid, signal.SIGCONT)
    for row, name in enumerate(["s", "idle"]):
        until = time.monotonic() + _SECONDS
        while time.monotonic() < until:
            request = step_request(opened, XS[:1], rows=[row], first_step=[10**6])
            if statuses(ca.step(request)) == ["MOVED"]:
                break
            time.sleep(0.02)
        assert statuses(ca.step(request)) == ["MOVED"], name
    step(ca, opened, 10, 30, row=2)
    wait_durable(ca, "theirs", 30)
    step(cb, again, 40, 60)
    wait_durable(cb, "s", 60)
    with pytest.raises(grpc.RpcError) as caught:
        eventually_moved(ca)
    assert reason(caught.value) == "SESSION_MOVED"


def eventually_moved(client: raw.RawClient) -> None:
    """Attach to a session that another server has, when taking over is allowed again."""
    until = time.monotonic() + _SECONDS
    while True:
        try:
            attach(client, ["s"], [60])
            raise AssertionError("it was attached to")
        except grpc.RpcError as error:
            if reason(error) != "TAKE_OVER_WAITS" or time.monotonic() > until:
                raise
        time.sleep(0.05)


def test_a_drained_server_leaves_many_sessions_to_the_others(fleet):
    a, ca = fleet.start()
    _, cb = fleet.start()
    ids = [f"s{number}" for number in range(1000)]
    opened = ca.open("sum", ids=ids)
    xs = np.arange(2000, dtype=np.float32).reshape(1000, 2)
    for _ in range(2):
        assert not ca.step(step_request(opened, xs)).status
    time.sleep(LEASE)  # the other one may take over by now
    assert a.stop() == 0, a.log_text()
    assert "lost=0" in a.log_text() or '"lost": 0' in a.log_text()
    again, _ = eventually(lambda: attach(cb, ids, [2] * 1000))
    assert set(again.applied.tolist()) == {2}
    answer = cb.step(step_request(again, xs))
    np.testing.assert_array_equal(output(answer), 3 * xs)


def test_a_folder_offers_its_sessions_again(file_fleet):
    a, ca = file_fleet.start()
    opened = ca.open("sum", ids=["killed", "closed"])
    step(ca, opened, 0, 12)
    step(ca, opened, 0, 8, row=1)
    wait_durable(ca, "killed", 12)
    marking = {"handles": opened.handles[:1].tobytes(), "server_id": opened.server_id}
    ca.stub.Mark(states_pb2.MarkRequest(model="sum", name="here", **marking))
    step(ca, opened, 12, 17)
    wait_durable(ca, "killed", 17)
    ca.stub.Close(
        sessions_pb2.CloseRequest(
            model="sum", server_id=opened.server_id, handles=opened.handles[1:].tobytes()
        )
    )
    a.process.kill()
    a.process.wait()
    _, cb = file_fleet.start()
    again, _ = eventually(lambda: attach(cb, ["killed"], [17]))
    assert again.applied.tolist() == [17]
    step(cb, again, 17, 30)
    answer = cb.stub.Rewind(
        states_pb2.RewindRequest(
            model="sum",
            mark="here",
            server_id=again.server_id,
            handles=again.handles.tobytes(),
        )
    )
    assert np.frombuffer(answer.applied, "<u8").tolist() == [12]
    step(cb, again, 12, 20)
    with pytest.raises(grpc.RpcError) as caught:
        attach(cb, ["closed"])
    assert reason(caught.value) == "SESSION_NOT_FOUND"
    cb.open("sum", ids=["closed"])


def test_strict_durability_loses_no_answer(fleet):
    a, ca = fleet.start("--durability", "strict")
    _, cb = fleet.start("--durability", "strict")
    opened = ca.open("sum", ids=["s"])
    for begin in range(0, 30, 3):
        answer = step(ca, opened, begin, begin + 3)
        assert durable(answer) == applied(answer)[0] == begin + 3
    a.process.kill()
    a.process.wait()
    again, _ = eventually(lambda: attach(cb, ["s"], [30]))
    assert again.applied.tolist() == [30]
    step(cb, again, 30, 40)


def test_a_drain_waits_for_answers_that_are_held(file_fleet):
    a, ca = file_fleet.start("--durability", "strict")
    opened = ca.open("sum", 100)
    stream = ca.stream()
    for number in range(20):
        stream.send(step_request(opened, np.ones((100, 2)), request_id=number))
    first = stream.receive()
    a.process.send_signal(signal.SIGTERM)
    parts = [first]
    try:
        while True:
            parts.append(stream.receive())
    except (StopIteration, grpc.RpcError):
        pass
    answers = [part.step for part in parts if part.HasField("step")]
    good = [answer for answer in answers if not answer.HasField("error")]
    assert good
    for answer in good:
        assert answer.durable == answer.applied
        assert set(statuses(answer)) == {"OK"}
    assert any(part.HasField("draining") for part in parts)
    assert a.process.wait(_SECONDS) == 0, a.log_text()
    last = max(applied(answer)[0] for answer in good)
    _, cb = file_fleet.start()
    again, _ = eventually(lambda: attach(cb, opened.ids))
    assert set(again.applied.tolist()) == {last}


def test_serving_goes_on_while_redis_is_away(repository, tmp_path):
    with fleet_of(repository, tmp_path, "redis") as fleet:
        a, ca = fleet.start()
        _, cb = fleet.start()
        opened = ca.open("sum", ids=["s"])
        step(ca, opened, 0, 10)
        wait_durable(ca, "s", 10)
        fleet.redis.kill()
        for begin in range(10, 50, 5):
            assert durable(step(ca, opened, begin, begin + 5)) == 10
        opened, _ = attach(ca, ["s"], [50])
        late = ca.open("sum", ids=["late"])
        step(ca, late, 0, 20)
        with pytest.raises(grpc.RpcError) as caught:
            attach(cb, ["s"])
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert reason(caught.value) in ("STORE_AWAY", "TAKE_OVER_WAITS")
        fleet.redis.start()
        wait_durable(ca, "s", 50)
        wait_durable(ca, "late", 20)
        step(ca, opened, 50, 60)
        a.process.kill()
        a.process.wait()
        again, _ = eventually(lambda: attach(cb, ["s", "late"], [60, 20]))
        assert again.applied.tolist()[1] == 20
        step(cb, again, int(again.applied[0]), 80)
        step(cb, again, 20, 30, row=1)


def test_many_clients_take_up_one_session_at_once(file_fleet):
    a, ca = file_fleet.start()
    opened = ca.open("sum", ids=["s", "t"])
    step(ca, opened, 0, 20)
    wait_durable(ca, "s", 20)
    a.process.kill()
    a.process.wait()
    servers = [file_fleet.start() for _ in range(2)]

    def take(number: int):
        client = servers[number % 2][1]
        try:
            return number % 2, eventually_or_moved(client)
        except grpc.RpcError as error:
            return number % 2, reason(error)

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(take, range(8)))
    winners = {server for server, found in results if not isinstance(found, str)}
    assert len(winners) == 1
    (winner,) = winners
    assert {found for server, found in results if server != winner} == {"SESSION_MOVED"}
    client = servers[winner][1]
    again, _ = attach(client, ["s", "t"], [20, 0])
    step(client, again, 20, 60)
    wait_durable(client, "s", 60)


def eventually_or_moved(client: raw.RawClient) -> Opened:
    until = time.monotonic() + _SECONDS
    while True:
        try:
            return attach(client, ["s", "t"], [20, 0])[0]
        except grpc.RpcError as error:
            waits = reason(error) == "TAKE_OVER_WAITS"
            dead = reason(error) == "SESSION_MOVED" and not _lives(error)
            if not (waits or dead) or time.monotonic() > until:
                raise
        time.sleep(0.02)


def _lives(error: grpc.RpcError) -> bool:
    """Return whether somebody is at the address that an error tells of."""
    moved = sessions_pb2.SessionMoved()
    status_of(error).details[1].Unpack(moved)
    with grpc.insecure_channel(moved.address) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=1)
        except grpc.FutureTimeoutError:
            return False
        return True


def test_another_version_with_wider_states_goes_on(file_fleet, tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    models.put(old, models.running_sum(dtype=models.FLOAT16), "sum", "1")
    models.put(new, models.running_sum(), "sum", "2")
    wider = tmp_path / "wider"
    models.put(wider, models.running_sum(width=3), "sum", "3")
    a, ca = file_fleet.start(models_at=old)
    opened = ca.open("sum", ids=["s"])
    half = {"inputs": [raw.tensor("x", XS[:6].astype(np.float16))]}
    answer = ca.step(step_request(opened, XS[:6], lengths=[6], **half))
    np.testing.assert_array_equal(output(answer), YS[:6].astype(np.float16))
    wait_durable(ca, "s", 6)
    a.process.kill()
    a.process.wait()
    _, cc = file_fleet.start(models_at=wider)
    with pytest.raises(grpc.RpcError) as caught:
        eventually(lambda: attach(cc, ["s"], [6]))
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert reason(caught.value) == "SNAPSHOT_MISMATCH"
    assert "shape [2] was saved, shape [3] is the model's" in caught.value.details()
    _, cb = file_fleet.start(models_at=new)
    again, _ = eventually(lambda: attach(cb, ["s"], [6]))
    assert (again.version, again.applied.tolist()) == ("2", [6])
    step(cb, again, 6, 30)


def test_snapshots_are_signed_with_a_key_that_servers_share(repository, tmp_path):
    key, other = tmp_path / "key", tmp_path / "other"
    key.write_text("0123456789abcdef")
    other.write_text("fedcba9876543210")
    with fleet_of(repository, tmp_path, "memory") as fleet:
        _, ca = fleet.start("--snapshot-key-file", str(key))
        _, cb = fleet.start("--snapshot-key-file", str(key))
        _, cc = fleet.start("--snapshot-key-file", str(other))
        opened = ca.open("sum", ids=["s"])
        step(ca, opened, 0, 10)
        asked = states_pb2.SnapshotRequest(
            model="sum", server_id=opened.server_id, handles=opened.handles.tobytes()
        )
        saved = list(ca.stub.Snapshot(asked).snapshots)
        request = states_pb2.RestoreRequest(model="sum", snapshots=saved, ids=["copy"])
        answer = cb.stub.Restore(request)
        handles = np.frombuffer(answer.handles, "<u8")
        copy = Opened("sum", "1", answer.server_id, ["copy"], handles, np.array([10]))
        step(cb, copy, 10, 20)
        with pytest.raises(grpc.RpcError) as caught:
            cc.stub.Restore(request)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "signature" in caught.value.details()


def test_a_client_that_counts_goes_back_at_a_server_that_has_no_shared_store(repository, tmp_path):
    with fleet_of(repository, tmp_path, "memory") as fleet:
        _, client = fleet.start()
        info = server_pb2_grpc.ServerServiceStub(client.channel).Info(server_pb2.InfoRequest())
        assert not info.resumable
        opened = client.open("sum", ids=["s"])
        step(client, opened, 0, 3)
        again, _ = attach(client, ["s"], [1])
        assert again.applied.tolist() == [0]
        for begin in range(0, 30, 3):
            step(client, again, begin, begin + 3)
        wait_durable(client, "s", 30)
        again, answer = attach(client, ["s"], [28])
        (count,) = again.applied.tolist()
        assert 0 < count <= 28
        assert np.frombuffer(answer.durable, "<u8").tolist() == [count]
        step(client, again, count, 50)
        # The id is free when it is closed, and what it left behind is nobody's.
        client.close(again)
        opened = client.open("sum", ids=["s"])
        for begin in range(0, 30, 3):
            step(client, opened, begin, begin + 3)
        wait_durable(client, "s", 30)
