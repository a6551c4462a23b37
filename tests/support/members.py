"""Servers that share a store, in one process and on one clock, without gRPC between."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from carousel.v1 import manifest_pb2, sessions_pb2, states_pb2, tensor_pb2
from carousel_server.catalog import Catalog, Served
from carousel_server.engine import transfers
from carousel_server.engine.checkpoints import SavePolicy
from carousel_server.engine.directory import Directory
from carousel_server.engine.limits import EngineLimits
from carousel_server.engine.status import RowStatus
from carousel_server.keeping.keeping import Keeping
from carousel_server.keeping.lease import Lease
from carousel_server.lifecycle import Lifecycle
from carousel_server.rpc.sessions import SessionService
from carousel_server.rpc.snapshots import Snapshots
from carousel_server.rpc.steps import StepGate
from carousel_server.rpc.stream import OpenStreams
from carousel_server.store.interface import Owner
from tests.support.bench import Bench, Clock
from tests.support.driven import ALWAYS_INLINE, driven
from tests.support.kept import engine_keeper, keeping
from tests.support.recurrence import RecurrenceRunner
from tests.support.stores import SharedStore

LEASE = 2.0  # seconds


@dataclass
class Taken:
    """Sessions that a member opened or attached to."""

    member: Member
    version: str
    ids: list[str]
    handles: list[int]
    applied: list[int]
    durable: list[int]
    status: list[RowStatus]
    moved: dict[str, str] = field(default_factory=dict)

    def call(self, rows: Sequence[int] | None = None) -> dict[str, Any]:
        """Return the fields of a call for the sessions."""
        chosen = self.handles if rows is None else [self.handles[row] for row in rows]
        return {
            "model": "m",
            "version": self.version,
            "server_id": self.member.lifecycle.server_id,
            "handles": np.array(chosen, "<u8").tobytes(),
        }

    async def step(
        self, xs: np.ndarray, *, row: int = 0, first: int | None = None, delivered: int = -1
    ) -> Stepped:
        """Step one session through `xs` [T, 2]."""
        request = sessions_pb2.StepRequest(
            id=1,
            lengths=np.array([len(xs)], "<u4").tobytes(),
            inputs=[
                tensor_pb2.Tensor(
                    name="x",
                    dtype=tensor_pb2.DATA_TYPE_FLOAT64,
                    shape=xs.shape,
                    data=np.ascontiguousarray(xs, "<f8").tobytes(),
                )
            ],
            **self.call([row]),
        )
        if first is not None:
            request.first_step = np.array([first], "<u8").tobytes()
        if delivered >= 0:
            request.delivered = np.array([delivered], "<u8").tobytes()
        answer = await self.member.service.Step(request, None)
        assert not answer.HasField("error"), answer.error
        y = np.frombuffer(answer.outputs[0].data) if answer.outputs else np.zeros(0)
        return Stepped(
            RowStatus((answer.status or b"\0")[0]),
            _counts(answer.applied)[0],
            _counts(answer.durable)[0],
            y.reshape(-1, 2),
        )


@dataclass
class Stepped:
    """What became of a row."""

    status: RowStatus
    applied: int
    durable: int
    y: np.ndarray


@dataclass(eq=False)
class Member:
    """One server."""

    service: SessionService
    bench: Bench
    served: Served
    catalog: Catalog
    directory: Directory
    lifecycle: Lifecycle
    keeping: Keeping
    lease: Lease | None
    alive: bool = True

    async def open(self, *ids: str, **more: Any) -> Taken:
        """Open sessions."""
        response = await self.service.Open(
            sessions_pb2.OpenRequest(model="m", ids=ids, **more), None
        )
        handles = np.frombuffer(response.handles, "<u8").tolist()
        zeros = [0] * len(handles)
        ok = [RowStatus.OK] * len(handles)
        return Taken(self, response.version, list(response.ids), handles, zeros, zeros, ok)

    async def attach(
        self, *ids: str, delivered: Sequence[int] | None = None, each: bool = False, model="m"
    ) -> Taken:
        """Take sessions up."""
        counts = b"" if delivered is None else np.array(delivered, "<u8").tobytes()
        response = await self.service.Attach(
            sessions_pb2.AttachRequest(model=model, ids=ids, delivered=counts, each=each), None
        )
        return Taken(
            self,
            response.version,
            list(ids),
            np.frombuffer(response.handles, "<u8").tolist(),
            _counts(response.applied),
            _counts(response.durable),
            [RowStatus(code) for code in response.status or bytes(len(ids))],
            {one.id: one.address for one in response.moved},
        )

    async def close(self, taken: Taken, *, keep: bool = False) -> list[int]:
        """Close sessions; return the status column."""
        request = sessions_pb2.CloseRequest(keep=keep, **taken.call())
        return list((await self.service.Close(request, None)).status)

    async def mark(self, taken: Taken, name: str) -> list[int]:
        """Mark sessions; return where."""
        response = await self.service.Mark(states_pb2.MarkRequest(name=name, **taken.call()), None)
        return _counts(response.applied)

    async def rewind(self, taken: Taken, **to: Any) -> tuple[list[int], list[int]]:
        """Put sessions back; return statuses and counts."""
        request = states_pb2.RewindRequest(**to, **taken.call())
        response = await self.service.Rewind(request, None)
        count = len(taken.handles)
        return list(response.status or bytes(count)), _counts(response.applied)

    async def saved(self) -> None:
        """Wait until all that was gathered is written, and the engine knows of it."""
        waited = True
        while waited:
            waited = self.keeping.waiting_bytes > 0
            await self.keeping.load([])  # behind what was said of the last write
        await self.served.driver.control(transfers.Ids())


class World:
    """A store, a clock, and the servers that live."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.store: Any = SharedStore(self.clock)
        self.members: list[Member] = []
        self._stack = AsyncExitStack()

    async def member(self, name: str, **options: Any) -> Member:
        """Start a server."""
        made = await self._stack.enter_async_context(self._member(name, **options))
        self.members.append(made)
        if made.lease:
            made.lease.renew()
        return made

    async def pair(self) -> tuple[Member, Member]:
        """Start two servers that may take sessions over."""
        pair = await self.member("a"), await self.member("b")
        self.let_pass(2 * LEASE)
        return pair

    def let_pass(self, seconds: float) -> None:
        """Let time pass; the living renew their leases."""
        left = seconds
        while left > 0:
            self.clock.now += min(0.5, left)
            left -= 0.5
            for member in self.members:
                if member.alive and member.lease:
                    member.lease.renew()

    def crash(self, member: Member) -> None:
        """Let a server be silent till its lease is over."""
        member.alive = False
        self.let_pass(LEASE + 0.1)

    async def close(self) -> None:
        self.store.away = False
        self.store.open.set()
        await self._stack.aclose()

    @asynccontextmanager
    async def _member(
        self,
        name: str,
        *,
        version: str = "1",
        runner: Any = None,
        sessions: int = 50,
        saves: SavePolicy | None = None,
        shared: bool = True,
        server_id: int | None = None,
        key: bytes = b"",
    ) -> AsyncIterator[Member]:
        directory, runner = Directory(sessions), runner or RecurrenceRunner()
        lease = None
        if shared:
            owner = Owner(name, f"{name}:8001")
            lease = Lease(self.store, owner, seconds=LEASE, on_lapse=lambda: None, clock=self.clock)
        store = self.store if shared else None
        async with keeping(store, server=name, lease=lease) as kept, AsyncExitStack() as stack:
            keeper = engine_keeper(kept, runner.spec, version=version)
            bench = Bench(
                runner,
                directory=directory,
                clock=self.clock,
                max_steps_per_tick=4,
                saves=saves or SavePolicy(steps=4, counted_only=not shared),
                keeper=keeper,
            )
            driver = await stack.enter_async_context(driven(bench, ALWAYS_INLINE))
            keeper.connect(driver)
            served = Served(
                name="m",
                version=version,
                number=3,
                sha256="0" * 64,
                manifest=manifest_pb2.ModelManifest(),
                spec=bench.runner.spec,
                engine=bench.engine,
                driver=driver,
                keeper=keeper,
            )
            catalog = Catalog([served])
            lifecycle = Lifecycle(server_id=server_id or abs(hash(name)) + 1)
            gate = StepGate(catalog, lifecycle=lifecycle, limits=EngineLimits(), clock=self.clock)
            service = SessionService(
                catalog,
                directory,
                gate=gate,
                streams=OpenStreams(),
                lifecycle=lifecycle,
                keeping=kept,
                snapshots=Snapshots(key),
            )
            yield Member(service, bench, served, catalog, directory, lifecycle, kept, lease)
            self.store.away = False


def _counts(data: bytes) -> list[int]:
    return np.frombuffer(data, "<u8").tolist()
