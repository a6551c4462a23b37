"""The thread-safe link: plain gRPC, one stream, and one thread that reads it.

Every entry to the exchange is under one lock. The thread lives while the stream does; when the
stream breaks it reconnects if somebody waits, and ends if nobody does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any, TypeVar

import grpc

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
    """One client's connection; all methods may be called from any thread."""

    def __init__(self, addresses: list[str], options: Options) -> None:
        super().__init__(addresses, options)
        self._channels: dict[int, grpc.Channel] = {}
        self._lock = threading.Lock()  # guards the exchange and everything below
        self._attaching = threading.Lock()  # one at a time: each makes earlier handles stale
        self._thread: threading.Thread | None = None
        self._outbox: SimpleQueue[pb.StreamRequest | None] = SimpleQueue()
        self._stream: Any = None
        self._timer: threading.Timer | None = None
        self._timer_at = 0.0
        self._broken = False
        self._heard = False
        self._closed = False
        self._closing = threading.Event()  # ends every sleep
        try:
            self._found(*self.run(self.flows.find_server()))
        except BaseException:
            self.close()
            raise

    def run(self, flow: Flow[T]) -> T:
        """Run a flow to its end."""
        try:
            command = next(flow)
            while True:
                if isinstance(command, Sleep):
                    self._closing.wait(command.seconds)
                    command = next(flow)
                    continue
                try:
                    response = self._unary(command)
                except grpc.RpcError as error:
                    command = flow.throw(faults.from_rpc_error(error, subject=command.subject))
                else:
                    command = flow.send(response)
        except StopIteration as stop:
            value: T = stop.value
            return value

    def ask(self, block: Block, *, grouped: bool) -> Any:
        """Submit a block and return its answers, as `result` does."""
        return self.wait(block, self.start(block), grouped=grouped)

    def start(self, block: Waiting) -> threading.Lock:
        """Submit a block, and return the lock that is free once it is answered.

        Raises ClientClosed, or what attaching raises where the server must be asked first.
        """
        ready = threading.Lock()
        ready.acquire()
        block.done = ready.release
        with self._lock:
            self._check_open()
            self.exchange.submit(block)
            self._flush()
            if isinstance(block, Block) and self.exchange.busy and self._thread is None:
                self._thread = threading.Thread(
                    target=self._serve, name="carousel-stream", daemon=True
                )
                self._thread.start()
            stuck = self.exchange.online and self.exchange.must_attach(block.roster)
        if stuck:
            try:
                self._attach([block.roster])
            except CarouselError as error:
                self._forget(block, error)
                raise
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
        with self._turn(roster):
            done, result = self.run(self.flows.control(control, roster, rows))
            with self._lock:
                note(control, roster, done, result)
            return result

    def fork(self, roster: Roster, ids: Sequence[str | None]) -> Roster:
        """Open copies of a roster's session once what was submitted before is answered."""
        with self._turn(roster):
            return self.run(self.flows.fork(roster, ids))

    @contextmanager
    def _turn(self, roster: Roster) -> Generator[None, None, None]:
        """Hold a roster's line once what was submitted before is answered, with it attached."""
        barrier = Barrier(roster)
        ready = self.start(barrier)
        try:
            ready.acquire()
            if barrier.failure is not None:
                raise barrier.failure
            if self._broken and self._thread is None:  # is it still the same server?
                address, server = self.run(self.flows.find_server(self._address))
                with self._lock:
                    self._found(address, server)
            self._attach([roster])
            yield
        finally:
            self._forget(barrier, ClientClosed("the call was interrupted"))

    def close(self) -> None:
        """End the stream and the connection; those who wait get ClientClosed."""
        with self._lock:
            self._closed = True
            self._closing.set()
            if hasattr(self, "exchange"):
                self.exchange.give_up(lambda: ClientClosed("the client was closed"))
                self._flush()
            self._outbox.put(None)
            if self._stream is not None:
                self._stream.cancel()
            if self._timer is not None:
                self._timer.cancel()
            thread = self._thread
        for channel in self._channels.values():
            channel.close()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

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

    def _post(self) -> None:
        """Send what can be sent, with the lock held, so that messages keep their order."""
        for message in self.exchange.messages(time.monotonic()):
            self._outbox.put(message)
        at = self.exchange.wakeup()
        if at is not None and not self._closed and (self._timer is None or at < self._timer_at):
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

    def _serve(self) -> None:
        """Keep a stream for as long as anybody waits."""
        attempts = Attempts(self.options)
        while True:
            try:
                self._prepare()
                error = self._converse()
            except CarouselError as failure:  # after as many attempts as there was time for
                self._rest(failure)
                return
            delay = attempts.next(error, heard=self._heard, now=time.monotonic())
            if self._rest(error if delay is None else None):
                return
            self._closing.wait(delay)

    def _rest(self, error: CarouselError | None) -> bool:
        """End the thread if there is an error for those who wait, or if nobody does."""
        with self._lock:
            self._broken = True
            if error is not None:
                self.exchange.give_up(self._ended(error))
                self._flush()
            elif self.exchange.busy and not self._closed:
                return False
            self._thread = None
            return True

    def _prepare(self) -> None:
        """Find the server again, and attach to the sessions that somebody waits for."""
        if self._broken:
            address, server = self.run(self.flows.find_server(self._address))
            with self._lock:
                self._found(address, server)
        while True:
            with self._lock:
                self._check_open()
                rosters = self.exchange.unattached()
                if not rosters:  # from here on, who needs attaching sees to it in `start`
                    self._outbox = SimpleQueue()
                    self.exchange.online = True
                    self._flush()
                    return
            self._attach(rosters)

    def _converse(self) -> CarouselError:
        """Hold one stream until it ends, and return why it did."""
        with self._lock:
            self._check_open()
            self._broken, self._heard = False, False
            self._stream = self._channel(self._address).stream_stream(
                STREAM,
                request_serializer=pb.StreamRequest.SerializeToString,
                response_deserializer=pb.StreamResponse.FromString,
            )(iter(self._outbox.get, None))
        try:
            for response in self._stream:
                self._receive(response)
        except grpc.RpcError as error:
            return faults.from_rpc_error(error, subject="session")
        else:
            return Unavailable("the server ended the stream")
        finally:
            with self._lock:
                self._outbox.put(None)
                self.exchange.disconnect()

    def _receive(self, response: pb.StreamResponse) -> None:
        if response.HasField("step"):
            self._heard = True
            with self._lock:
                self.exchange.receive(response.step, time.monotonic())
                self._post()
                woken = self.exchange.woken()
            for wake in woken:  # without the lock, which they will want at once
                wake()
        elif response.HasField("draining"):
            self._drained(response.draining)

    def _attach(self, rosters: Sequence[Roster]) -> None:
        with self._attaching:
            with self._lock:
                needed = [roster for roster in rosters if self.exchange.must_attach(roster)]
                server = self.server
            if not needed:
                return
            results = self.run(self.flows.reattach(needed, server))
            with self._lock:
                for roster, found in results:
                    self.exchange.attached(roster, server.server_id, found)
                self._flush()

    def _unary(self, call: Call) -> Any:
        with self._lock:
            self._check_open()
            index = self._address if call.address is None else call.address
            channel = self._channel(index)
        method = channel.unary_unary(
            call.method.path,
            request_serializer=call.method.request.SerializeToString,
            response_deserializer=call.method.response.FromString,
        )
        try:
            return method(call.request, timeout=call.timeout)
        except ValueError:  # what gRPC raises on a channel that was closed meanwhile
            self._check_open()
            raise

    def _channel(self, index: int) -> grpc.Channel:
        if index not in self._channels:
            self._channels[index] = self._open_channel(self.flows.addresses[index])
        return self._channels[index]

    def _open_channel(self, address: str) -> grpc.Channel:
        if self.options.credentials is None:
            return grpc.insecure_channel(address, self.options.channel())
        return grpc.secure_channel(address, self.options.credentials, self.options.channel())
