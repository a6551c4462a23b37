"""Sessions that come back from the store at a fresh server, and a session that is forked."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from benchmarks import loops
from benchmarks.loops import Rows
from benchmarks.network import FEATURES, NAME
from benchmarks.processes import Running, carousel_server
from benchmarks.stores import redis_server
from carousel import wire
from carousel.v1 import sessions_pb2, sessions_pb2_grpc, states_pb2

FORKS = 1000

_GROUP = 1000  # sessions of a message, and of a part that is attached to
_TOLERANCE = 1e-5


async def measure_coming_back(models: Path, *, sessions: int) -> dict[str, float]:
    """Open many sessions, drain their server, and attach to all of them at a fresh one."""
    notes: dict[str, float] = {"sessions": sessions}
    with redis_server() as store, carousel_server(models, "--store", store.url) as fresh:
        with carousel_server(models, "--store", store.url) as old:
            ids = await _fill(old, sessions)
            began = time.perf_counter()
            old.process.terminate()
            await asyncio.to_thread(old.process.wait)
            notes["drain_seconds"] = time.perf_counter() - began
        notes["store_bytes_a_session"] = store.usage().memory_bytes / sessions
        async with loops.channel(fresh.address) as connected:
            await _may_take_over(connected)
            began = time.perf_counter()
            attached = [await _attach(connected, part, applied=1) for part in ids]
            seconds = time.perf_counter() - began
            notes["attach_seconds"] = seconds
            notes["attached_per_second"] = sessions / seconds
            await _check_answers(connected, [attached[0], attached[-1]])
    return notes


async def _fill(server: Running, sessions: int) -> list[list[str]]:
    """Open sessions, step each once, and return their ids in parts of 1,000."""
    parts = []
    async with loops.channel(server.address) as connected:
        stub = sessions_pb2_grpc.SessionServiceStub(connected)
        for _ in range(sessions // _GROUP):
            opened = await stub.Open(sessions_pb2.OpenRequest(model=NAME, count=_GROUP))
            call = loops.carousel_call(connected)
            await loops.keep_full(call, _rows(opened, applied=0), 1, 1)
            call.cancel()
            parts.append(list(opened.ids))
    return parts


async def _may_take_over(connected: grpc.aio.Channel) -> None:
    """Wait until a server that was just started has seen the store answer for a lease's time."""
    stub = sessions_pb2_grpc.SessionServiceStub(connected)
    request = sessions_pb2.AttachRequest(model=NAME, ids=["nobody"], each=True)
    while True:
        try:
            await stub.Attach(request)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            await asyncio.sleep(0.05)
        else:
            return


async def _attach(connected: grpc.aio.Channel, ids: list[str], *, applied: int) -> Rows:
    stub = sessions_pb2_grpc.SessionServiceStub(connected)
    delivered = np.full(len(ids), applied, wire.STEP_COUNT_DTYPE)
    request = sessions_pb2.AttachRequest(
        model=NAME, ids=ids, each=True, delivered=delivered.tobytes()
    )
    response = await stub.Attach(request)
    found = np.frombuffer(response.applied, wire.STEP_COUNT_DTYPE)
    if any(response.status) or (found != applied).any():
        raise RuntimeError("sessions did not come back as they were")
    return _rows(response, applied=applied)


def _rows(response: Any, *, applied: int) -> Rows:
    """Return a part of the sessions; each part gets the same inputs."""
    handles = np.frombuffer(response.handles, wire.HANDLE_DTYPE)
    return Rows(
        version=response.version,
        server_id=response.server_id,
        handles=handles,
        lengths=np.ones(len(handles), np.int64),
        at=np.full(len(handles), applied, np.uint64),
        x=_inputs(len(handles)),
    )


def _inputs(rows: int) -> bytes:
    rng = np.random.default_rng(0)
    return rng.standard_normal((rows, FEATURES), np.float32).tobytes()


async def _check_answers(connected: grpc.aio.Channel, parts: list[Rows]) -> None:
    """Refuse answers that are not those of sessions which never went anywhere."""
    stub = sessions_pb2_grpc.SessionServiceStub(connected)
    opened = await stub.Open(sessions_pb2.OpenRequest(model=NAME, count=_GROUP))
    stayed = _rows(opened, applied=0)
    await _answers(stub, stayed)
    expected = await _answers(stub, stayed)
    for part in parts:
        difference = np.abs(await _answers(stub, part) - expected).max()
        if not difference <= _TOLERANCE:
            raise RuntimeError(f"sessions that came back answer differently, by {difference}")


async def _answers(stub: Any, rows: Rows) -> NDArray[np.float32]:
    response = await stub.Step(rows.request(1).step)
    loops.check(sessions_pb2.StreamResponse(step=response), 1)
    return np.frombuffer(response.outputs[0].data, np.float32)


async def measure_forks(models: Path, *, runs: int) -> list[float]:
    """Fork one session into 1,000, again and again; return the milliseconds of each."""
    times = []
    with redis_server() as store, carousel_server(models, "--store", store.url) as server:
        async with loops.channel(server.address) as connected:
            stub = sessions_pb2_grpc.SessionServiceStub(connected)
            opened = await stub.Open(sessions_pb2.OpenRequest(model=NAME, count=1))
            rows = _rows(opened, applied=0)
            await _answers(stub, rows)
            request = states_pb2.ForkRequest(
                model=NAME,
                version=rows.version,
                server_id=rows.server_id,
                handle=int(rows.handles[0]),
                count=FORKS,
            )
            for _ in range(runs):
                began = time.perf_counter()
                response = await stub.Fork(request)
                times.append((time.perf_counter() - began) * 1e3)
                made = np.frombuffer(response.handles, wire.HANDLE_DTYPE)
                await loops.close_rows(connected, replace(rows, handles=made))
    return times
