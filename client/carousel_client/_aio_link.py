"""The asyncio link: grpc.aio, a stream for each server in use, and a task that reads it.

Everything happens on one event loop, so there are no locks. What is submitted in one turn of the
loop is sent at its end, rows of different sessions sharing messages.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import socket
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeVar

import grpc
import grpc.aio

from carousel.v1 import sessions_pb2 as pb
from carousel_client import _faults as faults
from carousel_client._block import Block, Roster, Waiting
from carousel_client._calls import Call, Enter, Flow, Resolve, Sleep
from carousel_client._columns import Ints
from carousel_client._controls import Control, Result
from carousel_client._errors import CarouselError, ClientClosed, ServerError, Unavailable
from carousel_client._hosts import Host
from carousel_client._link import STREAM, LinkBase
from carousel_client._options import Options
from carousel_client._waiting import GRACE, late, result

T = TypeVar("T")


class Lane:
    """One stream: what is to be sent, and the task that reads it."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.outbox: asyncio.Queue[pb.StreamRequest | None] = asyncio.Queue()
        self.task: asyncio.Task[None]


class Link(LinkBase):
    """One client's connections; belongs to the event loop that it was made on."""

    def __init__(self, given: Sequence[str], options: Options) -> None:
        super().__init__(given, options)
        self._channels: dict[tuple[str, int], grpc.aio.Channel] = {}
        self._loop = asyncio.get_running_loop()
        self._lanes: set[Lane] = set()
        self._mover: asyncio.Task[None] | None = None
        self._refresher: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._flushing = False
        self._closed = False

    async def connect(self) -> None:
        """Find the server. Raises Unavailable."""
        await self.run(self.flows.find_server())

    async def run(self, flow: Flow[T]) -> T:
        """Run a flow to its end."""
        self._check_loop()
        try:
            command: Any = next(flow)
            while True:
                self._flush_soon()
                self._tell()
                if isinstance(command, Call):
                    try:
                        response = await self._unary(command)
                    except grpc.RpcError as error:
                        command = flow.throw(command.failure(error))
                    else:
                        command = flow.send(response)
                elif isinstance(command, Resolve):
                    command = flow.send(await self._look_up(command.name))
                else:
                    await self._wait_for(command)
                    command = next(flow)
        except StopIteration as stop:
            value: T = stop.value
            return value
        finally:
            flow.close()
            self._flush_soon()
            self._tell()

    async def ask(self, block: Block, *, grouped: bool) -> Any:
        """Submit a block and return its answers, as `result` does."""
        return await self.wait(block, self.start(block), grouped=grouped)

    def start(self, block: Waiting) -> asyncio.Future[None]:
        """Submit a block, and return what is done once it is answered.

        Raises ClientClosed, ReplayFull.
        """
        self._check_open()
        ready: asyncio.Future[None] = self._loop.create_future()
        block.done = lambda: None if ready.done() else ready.set_result(None)
        try:
            self.exchange.submit(block)
        finally:
            if self._should_refresh():
                self._refresher = self._loop.create_task(self._refresh())
        self._flush_soon()
        return ready

    async def wait(self, block: Block, ready: asyncio.Future[None], *, grouped: bool) -> Any:
        """Return a started block's answers, or raise its error."""
        try:
            if block.deadline is None:
                await ready
            else:
                async with asyncio.timeout(block.deadline - time.monotonic() + GRACE):
                    await ready
        except TimeoutError:
            unanswered = late(block)
            self._forget(block, unanswered)
            return result(block, grouped=grouped, unanswered=unanswered)
        except BaseException:
            self._forget(block, ClientClosed("the call was cancelled"))
            raise
        return result(block, grouped=grouped)

    async def control(self, control: Control, roster: Roster, rows: Ints) -> Result:
        """Make a call about rows (n,) once what was submitted before is answered."""
        self._check_open()
        return await self.run(self.flows.control(control, roster, rows))

    async def fork(
        self, roster: Roster, ids: Sequence[str | None], *, resume: bool | None
    ) -> Roster:
        """Open copies of a roster's session once what was submitted before is answered."""
        self._check_open()
        return await self.run(self.flows.fork(roster, ids, resume=resume))

    async def close(self) -> None:
        """End the streams and the connections; those who wait get ClientClosed."""
        self._closed = True
        self.exchange.give_up(lambda: ClientClosed("the client was closed"))
        self._wake()
        if self._timer is not None:
            self._timer.cancel()
        tasks = [lane.task for lane in self._lanes]
        tasks += [task for task in (self._mover, self._refresher) if task is not None]
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for channel in self._channels.values():
            await channel.close(None)

    async def _wait_for(self, command: Sleep | Enter) -> None:
        if isinstance(command, Sleep):
            await asyncio.sleep(command.seconds)
            return
        barrier = command.barrier
        if barrier.entered or barrier.failure is not None:
            return
        self._check_open()
        entered = asyncio.Event()
        barrier.done = entered.set
        await entered.wait()

    async def _look_up(self, name: str) -> list[str]:
        try:
            found = await self._loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except OSError:
            return []
        return [str(place[4][0]) for place in found]

    def _forget(self, block: Waiting, error: CarouselError) -> None:
        self.exchange.forget(block, error)
        self._flush_soon()

    def _check_loop(self) -> None:
        if asyncio.get_running_loop() is not self._loop:
            raise ClientClosed(
                "this client belongs to the event loop that it was made on, and was called on "
                "another; make one with carousel.aio.connect() on each"
            )

    def _check_open(self) -> None:
        self._check_loop()
        if self._closed:
            raise ClientClosed("the client is closed; connect again")

    def _flush_soon(self) -> None:
        if not self._flushing and not self._closed:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Send what can be sent, and wake who can go on."""
        self._flushing = False
        self._wake()
        if self._closed:
            return
        for host in self.exchange.dark():
            self._open_lane(host)
        for host, message in self.exchange.messages(time.monotonic()):
            host.lane.outbox.put_nowait(message)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at = self.exchange.wakeup()
        if at is not None:
            self._timer = self._loop.call_later(max(at - time.monotonic(), 0), self._flush)
        if self.exchange.astray and self._mover is None:
            self._mover = self._loop.create_task(self._move(), name="carousel-move")

    def _wake(self) -> None:
        for wake in self.exchange.woken():
            wake()

    def _open_lane(self, host: Host) -> None:
        lane = Lane(host)
        if host.lane is not None:
            host.lane.task.cancel()
        host.lane, host.online = lane, True
        self._lanes.add(lane)
        lane.task = self._loop.create_task(self._serve(lane), name="carousel-stream")

    async def _serve(self, lane: Lane) -> None:
        """Hold one stream until it ends."""
        error: CarouselError = Unavailable("the server ended the stream")
        stream = self._channel(lane.host.address).stream_stream(
            STREAM,
            request_serializer=pb.StreamRequest.SerializeToString,
            response_deserializer=pb.StreamResponse.FromString,
        )(_drain(lane.outbox), metadata=self._metadata())
        try:
            async for response in stream:
                self._receive(lane.host, response)
        except grpc.RpcError as failure:
            error = faults.from_rpc_error(failure, subject="session")
        finally:
            lane.outbox.put_nowait(None)
            stream.cancel()
            self._lanes.discard(lane)
            if lane.host.lane is lane:
                self._broke(lane.host, error)
            self._flush_soon()
            self._tell()

    def _receive(self, host: Host, response: pb.StreamResponse) -> None:
        if response.HasField("step"):
            self.exchange.receive(host, response.step, time.monotonic())
            self._flush()
            self._tell()
        elif response.HasField("draining"):
            self.exchange.drain(host)
            self._flush_soon()
            self._drained(host, response.draining)

    async def _move(self) -> None:
        """Look for servers until nobody needs one."""
        try:
            await self.run(self.moving.run())
        except CarouselError as error:
            failure = error
            self.exchange.give_up(lambda: copy.copy(failure))
        except Exception as error:
            broken = ServerError(f"the client failed: {error!r}", code="INTERNAL")
            self.exchange.give_up(lambda: copy.copy(broken))
            raise
        finally:
            self._mover = None
            self._flush_soon()

    async def _refresh(self) -> None:
        """Ask what the store covers; nobody waits for it, so nobody hears that it failed."""
        with contextlib.suppress(CarouselError):
            await self.run(self.flows.refresh())

    async def _unary(self, call: Call) -> Any:
        self._check_open()
        method = self._channel(call.address).unary_unary(
            call.method.path,
            request_serializer=call.method.request.SerializeToString,
            response_deserializer=call.method.response.FromString,
        )
        return await method(call.request, timeout=call.timeout, metadata=self._metadata())

    def _channel(self, address: str) -> grpc.aio.Channel:
        # Channels with older credentials may be in use still, and let go of idle connections.
        key = (address, self._trust.renew())
        if key not in self._channels:
            self._channels[key] = self._open_channel(address)
        return self._channels[key]

    def _open_channel(self, address: str) -> grpc.aio.Channel:
        options = self.options.channel(self.flows.name_of(address))
        if self._trust.credentials is None:
            return grpc.aio.insecure_channel(address, options)
        return grpc.aio.secure_channel(address, self._trust.credentials, options)


async def _drain(
    outbox: asyncio.Queue[pb.StreamRequest | None],
) -> AsyncIterator[pb.StreamRequest]:
    while (message := await outbox.get()) is not None:
        yield message
