"""The workloads: what clients do, and the ceiling that is measured beside each.

W1, W2, W3 and W4 go through the generated stubs, the echo through the same loops; what the SDK
reaches stands beside them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

import carousel_client as carousel
from benchmarks import loops
from benchmarks.loops import Mixed, Rows
from benchmarks.measure import Bench, Run, Workload
from benchmarks.network import FEATURES, NAME, STATE_BYTES, Bare, best_ragged

_ONE = [1]
_SESSIONS = 64
_GROUP = 1000
_MANY = 100_000
_SLOTS = 16_384
_WINDOW = 3
# Of a lone session's chunks two run as one, so that two more are to be there when they are done.
_LONE_WINDOW = 4


async def ping_pong(bench: Bench) -> Run:
    """W1: one session, one step a message."""
    messages = bench.count(4000)
    (rows,) = await loops.open_rows(bench.carousel, _ONE)
    echoed = await loops.ping_pong(loops.echo_call(bench.echo), rows, messages)
    rows.at[:] = 0
    times = await loops.ping_pong(loops.carousel_call(bench.carousel), rows, messages)
    await loops.close_rows(bench.carousel, rows)
    solo = Bare(bench.model, rows=1, steps=1).seconds()
    async with (
        carousel.aio.connect(bench.server.address) as client,
        client.open(NAME) as session,
    ):
        x, sdk = np.zeros(FEATURES, np.float32), []
        for _ in range(messages // 4):
            began = time.perf_counter()
            await session.step(x)
            sdk.append(time.perf_counter() - began)
    echo_p50 = float(np.median(echoed))
    return Run(
        ours=float(np.median(times)) * 1e6,
        ceiling=(echo_p50 + solo) * 1e6,
        more={
            "p99_us": float(np.percentile(times, 99)) * 1e6,
            "steps_per_second": 1 / float(np.mean(times)),
            "echo_p50_us": echo_p50 * 1e6,
            "solo_run_us": solo * 1e6,
            "sdk_p50_us": float(np.median(sdk)) * 1e6,
        },
    )


async def many_streams(bench: Bench) -> Run:
    """W2: 64 sessions on 64 streams, each waits for its answers."""
    messages = bench.count(250)
    groups = await loops.open_rows(bench.carousel, *[_ONE] * _SESSIONS)
    echoed, _ = await _side_by_side(loops.echo_call, bench.echo, groups, messages)
    for rows in groups:
        rows.at[:] = 0
    rate, times = await _side_by_side(loops.carousel_call, bench.carousel, groups, messages)
    await loops.close_rows(bench.carousel, *groups)
    return Run(rate, echoed, {"p99_ms": float(np.percentile(times, 99)) * 1e3})


async def one_client(bench: Bench) -> Run:
    """W2b: the same 64 sessions through one client's SDK, against W2's own rate."""
    beside = (await many_streams(bench)).ours
    messages = bench.count(250)
    x = np.zeros(FEATURES, np.float32)
    async with carousel.aio.connect(bench.server.address) as client:
        sessions = [await client.open(NAME) for _ in range(_SESSIONS)]

        async def stream(session: carousel.aio.Session) -> None:
            for _ in range(messages):
                await session.step(x)

        began = time.perf_counter()
        await asyncio.gather(*map(stream, sessions))
        rate = _SESSIONS * messages / (time.perf_counter() - began)
        await asyncio.gather(*(session.close() for session in sessions))
    return Run(rate, beside)


async def gateway(bench: Bench) -> Run:
    """W3: 1,000 sessions of one gateway, a step of each in a message."""
    messages = bench.count(400)
    (rows,) = await loops.open_rows(bench.carousel, np.ones(_GROUP, np.int64))
    bare = Bare(bench.model, rows=_GROUP, steps=1)
    before = bare.seconds()
    call = loops.carousel_call(bench.carousel)
    await loops.keep_full(call, rows, 10, _WINDOW)
    seconds = await loops.keep_full(call, rows, messages, _WINDOW)
    ceiling = _GROUP / float(np.mean([before, bare.seconds()]))
    await loops.close_rows(bench.carousel, rows)
    x = np.zeros((_GROUP, FEATURES), np.float32)
    async with (
        carousel.aio.connect(bench.server.address) as client,
        client.open_many(NAME, _GROUP) as group,
    ):
        began = time.perf_counter()
        for _ in range(messages // 4):
            await group.step(x)
        sdk = _GROUP * (messages // 4) / (time.perf_counter() - began)
    return Run(_GROUP * messages / seconds, ceiling, {"sdk_steps_per_second": sdk})


async def long_chunks(bench: Bench) -> Run:
    """W4: one session, chunks of 100 steps, the next ones under way while some are run."""
    messages = bench.count(400)
    (rows,) = await loops.open_rows(bench.carousel, [100])
    bare = Bare(bench.model, rows=1, steps=100)
    before = bare.seconds()
    call = loops.carousel_call(bench.carousel)
    seconds = await loops.keep_full(call, rows, messages, _LONE_WINDOW)
    ceiling = 100 / float(np.mean([before, bare.seconds()]))
    await loops.close_rows(bench.carousel, rows)
    return Run(100 * messages / seconds, ceiling)


async def ragged_chunks(bench: Bench) -> Run:
    """W4: 64 sessions with chunks of 1 to 100 steps in a message."""
    messages = bench.count(60)
    lengths = np.random.default_rng(0).integers(1, 101, _SESSIONS)
    (rows,) = await loops.open_rows(bench.carousel, lengths)
    before = best_ragged(bench.model, lengths)
    seconds = await loops.keep_full(loops.carousel_call(bench.carousel), rows, messages, _WINDOW)
    best = float(np.mean([before, best_ragged(bench.model, lengths)]))
    await loops.close_rows(bench.carousel, rows)
    return Run(rows.steps * messages / seconds, rows.steps / best)


async def beside_a_glutton(bench: Bench) -> Run:
    """W5: p99 of 64 streams while one client sends chunks of 10,000 steps, against theirs alone."""
    messages = bench.count(250)
    groups = await loops.open_rows(bench.carousel, *[_ONE] * _SESSIONS, [10_000])
    glutton = groups.pop()
    alone, times = await _side_by_side(loops.carousel_call, bench.carousel, groups, messages)
    before = float(np.percentile(times, 99))
    async with loops.channel(bench.server.address) as apart:
        gorging = asyncio.create_task(_gorge(loops.carousel_call(apart), glutton))
        await asyncio.sleep(0.05)
        rate, times = await _side_by_side(loops.carousel_call, bench.carousel, groups, messages)
        gorging.cancel()
        await asyncio.gather(gorging, return_exceptions=True)
    await loops.close_rows(bench.carousel, *groups, glutton)
    return Run(
        float(np.percentile(times, 99)) * 1e3,
        before * 1e3,
        {"steps_per_second": rate, "steps_per_second_alone": alone},
    )


async def more_than_slots(bench: Bench) -> Run:
    """W6: 100,000 open sessions on 16,384 slots; half of each message's rows were parked."""
    messages = bench.count(300)
    (rows,) = await loops.open_rows(bench.carousel, np.ones(_GROUP, np.int64))
    call = loops.carousel_call(bench.carousel)
    seconds = await loops.keep_full(call, rows, messages, _WINDOW)
    beside = _GROUP * messages / seconds
    await loops.close_rows(bench.carousel, rows)

    # Of the first run: what it frees, the next one uses again.
    resident = bench.notes.setdefault("resident", bench.server.resident_bytes())
    everybody = await loops.open_rows(bench.carousel, *[np.ones(_GROUP, np.int64)] * 100)
    for group in everybody:
        await loops.keep_full(call, group, 1, 1)
    grown = bench.server.resident_bytes() - resident
    mixed = _half_returning(everybody)
    seconds = await loops.keep_full(call, mixed, messages, _WINDOW)
    await loops.close_rows(bench.carousel, *everybody)
    return Run(
        _GROUP * messages / seconds,
        beside,
        {
            "bytes_a_session": grown / _MANY,
            "bytes_a_session_allowed": 1.25 * STATE_BYTES + 300,
        },
    )


async def churn(bench: Bench) -> Run:
    """W7: open, one step, close, from 16 tasks; RPCs a second, against the echo's messages."""
    cycles = bench.count(100)
    groups = await loops.open_rows(bench.carousel, *[_ONE] * 16)
    echoed, _ = await _side_by_side(loops.echo_call, bench.echo, groups, cycles * 3)
    await loops.close_rows(bench.carousel, *groups)

    async def come_and_go() -> None:
        for _ in range(cycles):
            (rows,) = await loops.open_rows(bench.carousel, _ONE)
            await loops.step_once(bench.carousel, rows)
            await loops.close_rows(bench.carousel, rows)

    began = time.perf_counter()
    await asyncio.gather(*(come_and_go() for _ in range(16)))
    seconds = time.perf_counter() - began
    return Run(3 * 16 * cycles / seconds, echoed, {"sessions_per_second": 16 * cycles / seconds})


async def _side_by_side(
    make_call: Callable[[grpc.aio.Channel], Any],
    channel: grpc.aio.Channel,
    groups: Sequence[Rows],
    messages: int,
) -> tuple[float, NDArray[np.float64]]:
    """Drive all groups at once; return messages a second and the seconds of each."""
    began = time.perf_counter()
    times = await asyncio.gather(
        *(loops.ping_pong(make_call(channel), rows, messages) for rows in groups)
    )
    return len(groups) * messages / (time.perf_counter() - began), np.concatenate(times)


async def _gorge(call: Any, rows: Rows) -> None:
    while True:
        await loops.keep_full(call, rows, 1, 1)


def _half_returning(groups: list[Rows]) -> list[Mixed]:
    """Return messages of which half the rows stepped lately, and half long ago."""
    hot, half = groups[0], _GROUP // 2
    return [
        Mixed([(hot, slice(0, half)), (cold, part)])
        for cold in groups[1:]
        for part in (slice(0, half), slice(half, _GROUP))
    ]


WORKLOADS = [
    Workload(
        "W1",
        "1 session, a step a message: p50",
        "us",
        "echo p50 + solo run",
        1.35,
        ping_pong,
        lower_is_better=True,
    ),
    Workload("W2", "64 sessions on 64 streams", "steps/s", "echo, 64 streams", 0.80, many_streams),
    Workload("W2b", "64 sessions through one SDK client", "steps/s", "W2", 4.0, one_client),
    Workload(
        "W3",
        "1,000 sessions of one gateway",
        "steps/s",
        "bare ONNX Runtime, batch 1,000",
        0.85,
        gateway,
    ),
    Workload("W4a", "1 session, chunks of 100", "steps/s", "bare ONNX Runtime", 0.90, long_chunks),
    Workload(
        "W4b",
        "64 sessions, chunks of 1 to 100",
        "steps/s",
        "best bare grouping",
        0.75,
        ragged_chunks,
    ),
    Workload(
        "W5",
        "W2 beside chunks of 10,000: p99",
        "ms",
        "W2 alone",
        2.0,
        beside_a_glutton,
        lower_is_better=True,
    ),
    Workload(
        "W6",
        "100,000 sessions, 16,384 slots",
        "steps/s",
        "W3's loop, nobody parked",
        0.6,
        more_than_slots,
    ),
    Workload("W7", "open, step, close", "RPCs/s", "echo, 16 streams", 0.0, churn),
]
SLOTS = _SLOTS
