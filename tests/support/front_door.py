"""One address before several servers, which leads each call to one of them by a header's hash.

What Envoy does with a hash policy, without Envoy: calls are passed on as they are, bytes for bytes.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import grpc

HEADER = "x-carousel-session"


class FrontDoor(grpc.GenericRpcHandler):
    """Where calls go, and what they carried."""

    def __init__(self, channels: dict[str, grpc.Channel]) -> None:
        self.address = ""
        self.servers = list(channels)
        self.seen: list[tuple[str, str, str]] = []  # method, header, server
        self._channels = channels
        self._turns = itertools.count()

    def at(self, header: str) -> str:
        """Return the server for a header: of all that are there, the highest by a hash."""

        def rank(server: str) -> bytes:
            return hashlib.sha256(f"{header} {server}".encode()).digest()

        return max(self.servers, key=rank)

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """Take any call."""
        header = str(dict(details.invocation_metadata).get(HEADER, ""))
        server = self.at(header) if header else self.servers[next(self._turns) % len(self.servers)]
        method = details.method.rpartition("/")[2]
        self.seen.append((method, header, server))
        call = self._channels[server].stream_stream(details.method)

        def forward(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            left = context.time_remaining()
            left = left if left is not None and left < 3600 else None  # it has no deadline
            answers = call(requests, timeout=left, metadata=((HEADER, header),) if header else ())
            context.add_callback(answers.cancel)
            try:
                yield from answers
            except grpc.RpcError as error:
                context.set_trailing_metadata(error.trailing_metadata() or ())
                context.abort(error.code(), error.details())

        return grpc.stream_stream_rpc_method_handler(forward)


@contextmanager
def front_door(servers: Sequence[str]) -> Iterator[FrontDoor]:
    """Run one for as long as the context lasts."""
    with ExitStack() as stack:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 100)]
        door = FrontDoor(
            {
                server: stack.enter_context(grpc.insecure_channel(server, options))
                for server in servers
            }
        )
        proxy = grpc.server(stack.enter_context(ThreadPoolExecutor(64)), handlers=[door])
        door.address = f"127.0.0.1:{proxy.add_insecure_port('127.0.0.1:0')}"
        proxy.start()
        try:
            yield door
        finally:
            proxy.stop(0).wait(10)
