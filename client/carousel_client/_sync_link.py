"""The thread-safe link: plain gRPC, a stream for each server in use, and a thread that reads it.

Every entry to the exchange is under one lock, and so is every stretch of a flow between two calls.
A thread lives while its stream does. One more looks for servers while sessions need one.
"""

from __future__ import annotations

import contextlib
import copy
import socket
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

import grpc

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
    """One stream: what is to be sent, what reads it, and the thread in which that happens."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.outbox: SimpleQueue[pb.StreamRequest | None] = SimpleQueue()
        self.stream: Any = None
        self.thread: threading.Thread


class Link(LinkBase):
    """One client's connections; all methods may be called from any thread."""

    def __init__(self, given: Sequence[str], options: Options) -> None:
        super().__init__(given, options)
        self._channels: dict[tuple[str, int], grpc.Channel] = {}
        self._lock = threading.Lock()  # guards the exchange, the flows and everything below
        self._lanes: set[Lane] = set()
        self._mover: threading.Thread | None = None
        self._timer: threading.Timer | None = None
        self._timer_at = 0.0
        self._closed = False
        self._closing = threading.Event()  # ends every sleep
        try:
            self.run(self.flows.find_server())
        except BaseException:
            self.close()
            raise

    def run(self, flow: Flow[T]) -> T:
        """Run a flow to its end."""
        go_on: Callable[[], Any] = partial(next, flow)
        try:
            while True:
                with self._lock:
                    command = go_on()
                    self._flush()
                self._tell()
                go_on = self._do(flow, command)
        except StopIteration as stop:
            value: T = stop.value
            return value
        finally:
            with self._lock:
                flow.close()
                self._flush()
            self._tell()

    def ask(self, block: Block, *, grouped: bool) -> Any:
        """Submit a block and return its answers, as `result` does."""
        return self.wait(block, self.start(block), grouped=grouped)

    def start(self, block: Waiting) -> threading.Lock:
        """Submit a block, and return the lock that is free once it is answered.

        Raises ClientClosed, ReplayFull.
        """
        ready = threading.Lock()
        ready.acquire()
        block.done = ready.release
        with self._lock:
            self._check_open()
            try:
                self.exchange.submit(block)
            finally:
                if self._should_refresh():
                    threading.Thread(target=self._refresh, daemon=True).start()
            self._flush()
        return ready

    def wait(self, block: Block, ready: threading.Lock, *, grouped: bool) -> Any:
        """Return a started block's answers, or raise its error."""
        limit = -1.0
        if block.deadline is not None:
            limit = max(block.deadline - time.monotonic(), 0) + GRACE
        try:
            answered = ready.acquire(timeout=limit)
        except BaseException:  # Ctrl-C, say: nobody waits any more
            self._forget(block, ClientClosed("the call was interrupted"))
            raise
        if answered:
            return result(block, grouped=grouped)
        unanswered = late(block)
        with self._lock:
            self.exchange.abandon(block, unanswered)
            self._flush()
            return result(block, grouped=grouped, unanswered=unanswered)

    def control(self, control: Control, roster: Roster, rows: Ints) -> Result:
        """Make a call about rows (n,) once what was submitted before is answered."""
        return self.run(self.flows.control(control, roster, rows))

    def fork(self, roster: Roster, ids: Sequence[str | None], *, resume: bool | None) -> Roster:
        """Open copies of a roster's session once what was submitted before is answered."""
        return self.run(self.flows.fork(roster, ids, resume=resume))

    def close(self) -> None:
        """End the streams and the connections; those who wait get ClientClosed."""
        with self._lock:
            self._closed = True
            self._closing.set()
            self.exchange.give_up(lambda: ClientClosed("the client was closed"))
            self._flush()
            lanes, mover = list(self._lanes), self._mover
            for lane in lanes:
                lane.outbox.put(None)
                lane.stream.cancel()
            if self._timer is not None:
                self._timer.cancel()
        for channel in self._channels.values():
            channel.close()
        threads = {lane.thread for lane in lanes} | ({mover} if mover else set())
        # Two of them may be closing it at the same time, from `on_drain` and `on_failover`: neither
        # waits for the other.
        if threading.current_thread() not in threads:
            for thread in threads:
                thread.join()

    def _do(self, flow: Flow[T], command: Any) -> Callable[[], Any]:
        """Do what a flow asks for, without the lock, and return how it goes on."""
        if isinstance(command, Call):
            try:
                return partial(flow.send, self._unary(command))
            except grpc.RpcError as error:
                return partial(flow.throw, command.failure(error))
        if isinstance(command, Resolve):
            return partial(flow.send, _look_up(command.name))
        if isinstance(command, Enter):
            self._enter(command)
        elif isinstance(command, Sleep):
            self._closing.wait(command.seconds)
            self._check_open()
        return partial(next, flow)

    def _enter(self, command: Enter) -> None:
        entered, barrier = threading.Event(), command.barrier
        with self._lock:
            if barrier.entered or barrier.failure is not None:
                return
            self._check_open()
            barrier.done = entered.set
        entered.wait()

    def _forget(self, block: Waiting, error: CarouselError) -> None:
        with self._lock:
            self.exchange.forget(block, error)
            self._flush()

    def _check_open(self) -> None:
        if self._closed:
            raise ClientClosed("the client is closed; connect again")

    def _flush(self) -> None:
        """Send what can be sent and wake who can go on, with the lock held."""
        self._post()
        for wake in self.exchange.woken():
            wake()
        if self.exchange.astray and self._mover is None and not self._closed:
            self._mover = threading.Thread(target=self._move, name="carousel-move", daemon=True)
            self._mover.start()

    def _post(self) -> None:
        """Send what can be sent, with the lock held, so that messages keep their order."""
        if self._closed:
            return
        for host in self.exchange.dark():
            self._open_lane(host)
        for host, message in self.exchange.messages(time.monotonic()):
            host.lane.outbox.put(message)
        at = self.exchange.wakeup()
        if at is not None and (self._timer is None or at < self._timer_at):
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = at
            self._timer = threading.Timer(max(at - time.monotonic(), 0), self._wake)
            self._timer.daemon = True
            self._timer.start()

    def _wake(self) -> None:
        with self._lock:
            self._timer = None
            self._flush()

    def _open_lane(self, host: Host) -> None:
        """Open a stream to a host, with the lock held."""
        lane = Lane(host)
        lane.stream = self._channel(host.address).stream_stream(
            STREAM,
            request_serializer=pb.StreamRequest.SerializeToString,
            response_deserializer=pb.StreamResponse.FromString,
        )(iter(lane.outbox.get, None), metadata=self._metadata())
        lane.thread = threading.Thread(
            target=self._serve, args=[lane], name="carousel-stream", daemon=True
        )
        if host.lane is not None:
            host.lane.stream.cancel()
        host.lane, host.online = lane, True
        self._lanes.add(lane)
        lane.thread.start()

    def _serve(self, lane: Lane) -> None:
        """Read a stream to its end."""
        error: CarouselError = Unavailable("the server ended the stream")
        try:
            for response in lane.stream:
                self._receive(lane.host, response)
        except grpc.RpcError as failure:
            error = faults.from_rpc_error(failure, subject="session")
        finally:
            with self._lock:
                lane.outbox.put(None)
                self._lanes.discard(lane)
                if lane.host.lane is lane:
                    self._broke(lane.host, error)
                self._flush()
            self._tell()

    def _receive(self, host: Host, response: pb.StreamResponse) -> None:
        if response.HasField("step"):
            with self._lock:
                self.exchange.receive(host, response.step, time.monotonic())
                self._post()
                woken = self.exchange.woken()
                if self.exchange.astray:
                    self._flush()
            for wake in woken:  # without the lock, which they will want at once
                wake()
            self._tell()
        elif response.HasField("draining"):
            with self._lock:
                self.exchange.drain(host)
                self._flush()
            self._drained(host, response.draining)

    def _move(self) -> None:
        """Look for servers until nobody needs one."""
        try:
            self.run(self.moving.run())
        except BaseException as error:
            failure = error if isinstance(error, CarouselError) else _failed(error)
            with self._lock:
                self.exchange.give_up(lambda: copy.copy(failure))
            if failure is not error:
                raise
        finally:
            with self._lock:
                self._mover = None
                self._flush()

    def _refresh(self) -> None:
        """Ask what the store covers; nobody waits for it, so nobody hears that it failed."""
        with contextlib.suppress(CarouselError):
            self.run(self.flows.refresh())

    def _unary(self, call: Call) -> Any:
        with self._lock:
            self._check_open()
            channel = self._channel(call.address)
        method = channel.unary_unary(
            call.method.path,
            request_serializer=call.method.request.SerializeToString,
            response_deserializer=call.method.response.FromString,
        )
        try:
            return method(call.request, timeout=call.timeout, metadata=self._metadata())
        except ValueError:  # what gRPC raises on a channel that was closed meanwhile
            self._check_open()
            raise

    def _channel(self, address: str) -> grpc.Channel:
        # Channels with older credentials may be in use still, and let go of idle connections.
        key = (address, self._trust.renew())
        if key not in self._channels:
            self._channels[key] = self._open_channel(address)
        return self._channels[key]

    def _open_channel(self, address: str) -> grpc.Channel:
        options = self.options.channel(self.flows.name_of(address))
        if self._trust.credentials is None:
            return grpc.insecure_channel(address, options)
        return grpc.secure_channel(address, self._trust.credentials, options)


def _look_up(name: str) -> list[str]:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [str(place[4][0]) for place in found]


def _failed(error: BaseException) -> ServerError:
    return ServerError(f"the client failed: {error!r}", code="INTERNAL")
