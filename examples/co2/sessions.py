"""The client's side: sessions of several speeds, side by side over one connection.

Every session is warmed up first: it gets the years before the held-out part as one chunk, as a
session that has been open since then would have had them. A cold one would forecast its first
weeks without knowing the season.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

import carousel_client as carousel

Array = NDArray[np.float32]

MODEL = "co2"


@dataclass
class Track:
    """One session and its answers so far.

    `start` is the week of the series that is the session's step 0, and `chunks` the answers in
    order, (T_i, 1) each, in ppm: answer t is the forecast made in week `start` + t.
    """

    name: str
    start: int = 0
    chunks: list[Array] = field(default_factory=list)

    def take(self, answers: Array) -> None:
        """Add answers, (T, 1) or those of one step, (1,)."""
        self.chunks.append(answers.reshape(-1, 1))

    @property
    def answers(self) -> Array:
        """All answers so far, (T, 1)."""
        return np.concatenate([np.empty((0, 1), np.float32), *self.chunks])


@dataclass
class Calendar:
    """Lets weeks come one after the other, `seconds` each, for all sessions at the same time."""

    first: int
    seconds: float
    begin: float = field(default_factory=time.monotonic)

    async def reach(self, week: int) -> None:
        """Return when the measurement of a week is there."""
        await asyncio.sleep(self.begin + (week - self.first) * self.seconds - time.monotonic())


@dataclass(frozen=True)
class Plan:
    """Who streams: three single sessions of different speeds, and a group.

    The group's sessions begin in different years, so that no two of them have the same state.
    """

    weekly: Track
    monthly: Track
    quarterly: Track
    group: list[Track]

    @property
    def tracks(self) -> list[Track]:
        """All sessions."""
        return [self.weekly, self.monthly, self.quarterly, *self.group]


def make_plan(starts: list[int]) -> Plan:
    """Plan sessions, those of the group beginning in the weeks `starts`."""
    return Plan(
        weekly=Track("1 week at a time"),
        monthly=Track("chunks of 4 weeks"),
        quarterly=Track("chunks of 13 weeks"),
        group=[Track(f"group of {len(starts)}, weekly", start) for start in starts],
    )


async def stream(address: str, series: Array, plan: Plan, *, first: int, pause: float) -> None:
    """Stream a series (N, 1), in ppm, through all sessions of a plan, held out from week `first`.

    A held-out week comes every `pause` seconds. Raises carousel.CarouselError.
    """
    async with carousel.aio.connect(address) as client:
        calendar = Calendar(first, pause)
        await asyncio.gather(
            step_weekly(client, series, calendar, plan.weekly),
            stream_chunks(client, series, calendar, plan.monthly, size=4),
            stream_chunks(client, series, calendar, plan.quarterly, size=13),
            step_group(client, series, calendar, plan.group),
        )


async def step_weekly(
    client: carousel.aio.Client, series: Array, calendar: Calendar, track: Track
) -> None:
    """Step one session by single weeks, waiting for each answer."""
    async with client.open(MODEL) as session:
        track.take(await session.step(series[: calendar.first]))  # (T, 1) -> (T, 1)
        for week in range(calendar.first, len(series)):
            await calendar.reach(week)
            track.take(await session.step(series[week]))  # (1,) -> (1,)


async def stream_chunks(
    client: carousel.aio.Client, series: Array, calendar: Calendar, track: Track, *, size: int
) -> None:
    """Stream one session in chunks of `size` weeks, each sent once its last week is there."""

    async def chunks() -> AsyncIterator[Array]:
        yield series[: calendar.first]
        for begin in range(calendar.first, len(series), size):
            chunk = series[begin : begin + size]  # the last one may be shorter
            await calendar.reach(begin + len(chunk) - 1)
            yield chunk

    async with client.open(MODEL) as session:
        async for answers in session.stream(chunks()):  # (T, 1)
            track.take(answers)


async def step_group(
    client: carousel.aio.Client, series: Array, calendar: Calendar, tracks: list[Track]
) -> None:
    """Step a group of sessions together by single weeks, each week's rows in one message."""
    async with client.open_many(MODEL, len(tracks)) as group:
        # Histories of different lengths: a list of arrays, (T_i, 1) each, in and out.
        answers = await group.step([series[track.start : calendar.first] for track in tracks])
        _take_rows(tracks, answers)
        for week in range(calendar.first, len(series)):
            await calendar.reach(week)
            same = np.broadcast_to(series[week], (len(tracks), 1))
            _take_rows(tracks, await group.step(same))  # (N, 1) -> (N, 1)


def _take_rows(tracks: list[Track], answers: list[Array] | Array) -> None:
    for track, row in zip(tracks, answers, strict=True):
        track.take(row)
