"""The asyncio link: grpc.aio, one stream, one task that reads it.

Everything happens on one event loop, so there are no locks. What is submitted in one turn of the
loop is sent at its end, rows of different sessions sharing messages.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any, TypeVar

import grpc
import grpc.aio

from carousel.v1 import sessions_pb2 as pb
from carousel_client import _faults as faults
from carousel_client._block import Barrier, Block, Roster, Waiting
from carousel_client._calls import Call, Flow, Sleep
from carousel_client._columns import Ints
from carousel_client._controls import Control, Result, note
from carousel_client._errors import CarouselError, ClientClosed, Unavailable
from carousel_client._link import STREAM, Attempts, LinkBase
from carousel_client._options import Options
from carousel_client._waiting import GRACE, late, result

T = TypeVar("T")


class Link(LinkBase):
    """One client's connection; belongs to the event loop that it was made on."""

    def __init__(self, addresses: list[str], options: Options) -> None:
        super().__init__(addresses, options)
        self._channels: dict[int, grpc.aio.Channel] = {}
        self._loop = asyncio.get_running_loop()
        self._attaching = asyncio.Lock()  # one at a time: each makes earlier handles stale
        self._task: asyncio.Task[None] | None = None
        self._outbox: asyncio.Queue[pb.StreamRequest | None] = asyncio.Queue()
        self._timer: asyncio.TimerHandle | None = None
        self._flushing = False
        self._broken = False
        self._heard = False
        self._closed = False

    async def connect(self) -> None:
        """Find the server. Raises Unavailable."""
        self._found(*await self.run(self.flows.find_server()))

    async def run(self, flow: Flow[T]) -> T:
        """Run a flow to its end."""
        try:
            command = next(flow)
            while True:
                if isinstance(command, Sleep):
                    await asyncio.sleep(command.seconds)
                    command = next(flow)
                    continue
                try:
                    response = await self._unary(command)
                except grpc.RpcError as error:
                    command = flow.throw(faults.from_rpc_error(error, subject=command.subject))
                else:
                    command = flow.send(response)
        except StopIteration as stop:
            value: T = stop.value
            return value

    async def ask(self, block: Block, *, grouped: bool) -> Any:
        """Submit a block and return its answers, as `result` does."""
        return await self.wait(block, self.start(block), grouped=grouped)

    def start(self, block: Waiting) -> asyncio.Future[None]:
        """Submit a block, and return what is done once it is answered. Raises ClientClosed."""
        self._check_open()
        ready: asyncio.Future[None] = self._loop.create_future()
        block.done = lambda: None if ready.done() else ready.set_result(None)
        self.exchange.submit(block)
        self._flush_soon()
        if isinstance(block, Block) and self.exchange.busy and self._task is None:
            self._task = self._loop.create_task(self._serve(), name="carousel-stream")
        return ready

    async def wait(self, block: Block, ready: asyncio.Future[None], *, grouped: bool) -> Any:
        """Return a started block's answers, or raise its error."""
        try:
            if self.exchange.online and self.exchange.must_attach(block.roster):
                await self._attach([block.roster])
            if block.deadline is None:
                await ready
            else:
                async with asyncio.timeout(block.deadline - time.monotonic() + GRACE):
                    await ready
        except TimeoutError as error:
            unanswered = error if isinstance(error, CarouselError) else late(block)
            self._forget(block, unanswered)
            return result(block, grouped=grouped, unanswered=unanswered)
        except BaseException:
            self._forget(block, ClientClosed("the call was cancelled"))
            raise
        return result(block, grouped=grouped)

    async def control(self, control: Control, roster: Roster, rows: Ints) -> Result:
        """Make a call about rows (n,) once what was submitted before is answered."""
        async with self._turn(roster):
            done, result = await self.run(self.flows.control(control, roster, rows))
            note(control, roster, done, result)
            return result

    async def fork(self, roster: Roster, ids: Sequence[str | None]) -> Roster:
        """Open copies of a roster's session once what was submitted before is answered."""
        async with self._turn(roster):
            return await self.run(self.flows.fork(roster, ids))

    @contextlib.asynccontextmanager
    async def _turn(self, roster: Roster) -> AsyncGenerator[None, None]:
        """Hold a roster's line once what was submitted before is answered, with it attached."""
        barrier = Barrier(roster)
        ready = self.start(barrier)
        try:
            await ready
            if barrier.failure is not None:
                raise barrier.failure
            if self._broken and self._task is None:  # is it still the same server?
                self._found(*await self.run(self.flows.find_server(self._address)))
            await self._attach([roster])
            yield
        finally:
            self._forget(barrier, ClientClosed("the call was cancelled"))

    async def close(self) -> None:
        """End the stream and the connection; those who wait get ClientClosed."""
        self._closed = True
        if hasattr(self, "exchange"):
            self.exchange.give_up(lambda: ClientClosed("the client was closed"))
            self._wake()
        if self._timer is not None:
            self._timer.cancel()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for channel in self._channels.values():
            await channel.close(None)

    def _forget(self, block: Waiting, error: CarouselError) -> None:
        self.exchange.forget(block, error)
        self._flush_soon()

    def _check_open(self) -> None:
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
        for message in self.exchange.messages(time.monotonic()):
            self._outbox.put_nowait(message)
        at = self.exchange.wakeup()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if at is not None and not self._closed:
            self._timer = self._loop.call_later(max(at - time.monotonic(), 0), self._flush)

    def _wake(self) -> None:
        for wake in self.exchange.woken():
            wake()

    async def _serve(self) -> None:
        """Keep a stream for as long as anybody waits."""
        attempts = Attempts(self.options)
        while True:
            try:
                await self._prepare()
                error = await self._converse()
            except CarouselError as failure:  # after as many attempts as there was time for
                self._rest(failure)
                return
            delay = attempts.next(error, heard=self._heard, now=time.monotonic())
            if self._rest(error if delay is None else None):
                return
            await asyncio.sleep(delay or 0)

    def _rest(self, error: CarouselError | None) -> bool:
        """End the task if there is an error for those who wait, or if nobody does."""
        self._broken = True
        if error is not None:
            self.exchange.give_up(self._ended(error))
            self._wake()
        elif self.exchange.busy:
            return False
        self._task = None
        return True

    async def _prepare(self) -> None:
        """Find the server again, and attach to the sessions that somebody waits for."""
        if self._broken:
            self._found(*await self.run(self.flows.find_server(self._address)))
        while rosters := self.exchange.unattached():
            await self._attach(rosters)

    async def _converse(self) -> CarouselError:
        """Hold one stream until it ends, and return why it did."""
        self._broken, self._heard = False, False
        self._outbox = asyncio.Queue()
        self.exchange.online = True
        self._flush()
        stream = self._channel(self._address).stream_stream(
            STREAM,
            request_serializer=pb.StreamRequest.SerializeToString,
            response_deserializer=pb.StreamResponse.FromString,
        )(_drain(self._outbox))
        try:
            async for response in stream:
                self._receive(response)
        except grpc.RpcError as error:
            return faults.from_rpc_error(error, subject="session")
        else:
            return Unavailable("the server ended the stream")
        finally:
            self._outbox.put_nowait(None)
            stream.cancel()
            self.exchange.disconnect()

    def _receive(self, response: pb.StreamResponse) -> None:
        if response.HasField("step"):
            self._heard = True
            self.exchange.receive(response.step, time.monotonic())
            self._flush()
        elif response.HasField("draining"):
            self._drained(response.draining)

    async def _attach(self, rosters: Sequence[Roster]) -> None:
        async with self._attaching:
            needed = [roster for roster in rosters if self.exchange.must_attach(roster)]
            server = self.server
            if needed:
                for roster, found in await self.run(self.flows.reattach(needed, server)):
                    self.exchange.attached(roster, server.server_id, found)
                self._flush_soon()

    async def _unary(self, call: Call) -> Any:
        self._check_open()
        index = self._address if call.address is None else call.address
        method = self._channel(index).unary_unary(
            call.method.path,
            request_serializer=call.method.request.SerializeToString,
            response_deserializer=call.method.response.FromString,
        )
        return await method(call.request, timeout=call.timeout)

    def _channel(self, index: int) -> grpc.aio.Channel:
        if index not in self._channels:
            self._channels[index] = self._open_channel(self.flows.addresses[index])
        return self._channels[index]

    def _open_channel(self, address: str) -> grpc.aio.Channel:
        if self.options.credentials is None:
            return grpc.aio.insecure_channel(address, self.options.channel())
        return grpc.aio.secure_channel(address, self.options.credentials, self.options.channel())


async def _drain(
    outbox: asyncio.Queue[pb.StreamRequest | None],
) -> AsyncIterator[pb.StreamRequest]:
    while (message := await outbox.get()) is not None:
        yield message
