"""A small server to test the client against: real gRPC, a running sum for a model, and switches.

It honours the wire as the protocol's comments state it, and fails on demand in every way that they
allow: by rows, by messages, by streams, by processes.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import deque
from dataclasses import dataclass, field

import grpc
import grpc.aio
import numpy as np
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from carousel import wire
from carousel.v1 import manifest_pb2 as mf
from carousel.v1 import (
    models_pb2,
    models_pb2_grpc,
    server_pb2,
    server_pb2_grpc,
    sessions_pb2_grpc,
    tensor_pb2,
)
from carousel.v1 import sessions_pb2 as pb

F32, I64 = tensor_pb2.DATA_TYPE_FLOAT32, tensor_pb2.DATA_TYPE_INT64


def model(name, inputs, outputs, version="1", is_default=True):
    states = [mf.StateSpec(name="total", output="total_out", dtype=F32, shape=inputs[0].shape)]
    manifest = mf.ModelManifest(
        format=1, name=name, form=mf.MODEL_FORM_STEP, inputs=inputs, outputs=outputs, states=states
    )
    return models_pb2.Model(
        name=name,
        version=version,
        manifest=manifest,
        sha256="0" * 64,
        state_bytes=8,
        is_default=is_default,
    )


def spec(name, shape, dtype=F32, columns=()):
    return mf.TensorSpec(name=name, dtype=dtype, shape=shape, columns=columns)


MODELS = [
    model("both", [spec("a", [2]), spec("k", [], I64)], [spec("y", [2]), spec("n", [], I64)]),
    model("scalar", [spec("x", [])], [spec("y", [])]),
    model("sum", [spec("x", [2], columns=["a", "b"])], [spec("y", [2], columns=["a", "b"])], "2"),
    model("sum", [spec("x", [2])], [spec("y", [2])], is_default=False),
    model("co2", [spec("x", [1], columns=["co2"])], [spec("y", [1], columns=["co2"])]),
]


@dataclass
class Held:
    """One session: its running sum and how many steps it holds."""

    id: str
    handle: int
    model: models_pb2.Model
    total: np.ndarray
    applied: int = 0


@dataclass
class Switches:
    """What goes wrong next. Lists are used up from the front."""

    rows: dict[str, list[tuple[int, int]]] = field(default_factory=dict)  # id: [(status, steps)]
    messages: list[status_pb2.Status] = field(default_factory=list)
    breaks: list[str] = field(default_factory=list)  # "before" or "after" running, or "" for none
    calls: dict[str, list[status_pb2.Status]] = field(default_factory=dict)  # by method
    after_calls: dict[str, list[status_pb2.Status]] = field(default_factory=dict)
    parts: int = 1  # answer each message in so many parts, shuffled
    hold: asyncio.Event | None = None  # answers wait for it
    delay: float = 0.0
    retry_after_ms: int = 5
    drain: pb.DrainNotice | None = None


def status(code, message="told so", reason="", retry=None):
    found = status_pb2.Status(code=code, message=message)
    if reason:
        found.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain="carousel"))
    if retry is not None:
        delay = duration_pb2.Duration(nanos=int(retry * 1e9))
        detail = any_pb2.Any()
        detail.Pack(error_details_pb2.RetryInfo(retry_delay=delay))
        found.details.append(detail)
    return found


class Servicer:
    def __init__(self, fake):
        self.fake = fake

    async def _may_fail(self, method, context, table):
        waiting = table.get(method)
        if waiting:
            await context.abort_with_status(rpc_status.to_status(waiting.pop(0)))


class Server(Servicer, server_pb2_grpc.ServerServiceServicer):
    async def Info(self, request, context):
        await self._may_fail("Info", context, self.fake.switches.calls)
        return server_pb2.InfoResponse(
            version="0.1.0",
            server_id=self.fake.server_id,
            limits=self.fake.limits,
            draining=self.fake.draining,
        )


class Models(Servicer, models_pb2_grpc.ModelServiceServicer):
    async def List(self, request, context):
        await self._may_fail("Models", context, self.fake.switches.calls)
        return models_pb2.ListModelsResponse(models=MODELS)

    async def Get(self, request, context):
        found = self.fake.find(request.name, request.version)
        if found is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such model; there are: both, sum")
        return models_pb2.GetModelResponse(model=found)


class Sessions(Servicer, sessions_pb2_grpc.SessionServiceServicer):
    async def Open(self, request, context):
        fake = self.fake
        await self._may_fail("Open", context, fake.switches.calls)
        found = fake.find(request.model, request.version)
        if found is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such model; there are: both, sum")
        ids = list(request.ids)
        for name in ids:
            if name in fake.sessions:
                await context.abort(grpc.StatusCode.ALREADY_EXISTS, f"{name!r} is open")
        shape = tuple(found.manifest.states[0].shape)
        totals = np.zeros((len(ids), *shape), np.float32)
        for tensor in request.initial_states:
            totals = np.frombuffer(tensor.data, "<f4").reshape(tensor.shape).copy()
        for name, total in zip(ids, totals, strict=True):
            fake.sessions[name] = Held(name, fake.new_handle(), found, total)
        await self._may_fail("Open", context, fake.switches.after_calls)
        return pb.OpenResponse(
            server_id=fake.server_id,
            model=found.name,
            version=found.version,
            ids=ids,
            handles=np.array([fake.sessions[i].handle for i in ids], "<u8").tobytes(),
        )

    async def Attach(self, request, context):
        fake = self.fake
        fake.attaches.append(list(request.ids))
        await self._may_fail("Attach", context, fake.switches.calls)
        missing = [name for name in request.ids if name not in fake.sessions]
        if missing:
            reason = "SESSION_EXPIRED" if missing[0] in fake.expired else ""
            found = status(code_pb2.NOT_FOUND, f"not here: {missing}", reason)
            await context.abort_with_status(rpc_status.to_status(found))
        held = [fake.sessions[name] for name in request.ids]
        for one in held:
            one.handle = fake.new_handle()
        return pb.AttachResponse(
            server_id=fake.server_id,
            model=request.model,
            version=held[0].model.version,
            handles=np.array([one.handle for one in held], "<u8").tobytes(),
            applied=np.array([one.applied for one in held], "<u8").tobytes(),
            durable=np.zeros(len(held), "<u8").tobytes(),
        )

    async def Reset(self, request, context):
        return pb.ResetResponse(status=self._control(request, self._reset))

    async def Close(self, request, context):
        await self._may_fail("Close", context, self.fake.switches.calls)
        return pb.CloseResponse(status=self._control(request, self._close))

    def _reset(self, held):
        held.total, held.applied = np.zeros_like(held.total), 0

    def _close(self, held):
        del self.fake.sessions[held.id]

    def _control(self, request, act):
        by_handle = {held.handle: held for held in self.fake.sessions.values()}
        handles = np.frombuffer(request.handles, "<u8").tolist()
        found = [by_handle.get(handle) for handle in handles]
        for held in found:
            if held is not None:
                act(held)
        return bytes(0 if held else pb.ROW_STATUS_STALE_HANDLE for held in found)

    async def List(self, request, context):
        found = [
            held
            for _, held in sorted(self.fake.sessions.items())
            if request.model in ("", held.model.name)
        ]
        begin = int(request.page_token or 0)
        end = begin + self.fake.page_size
        page = [
            pb.Session(
                id=held.id,
                model=held.model.name,
                version=held.model.version,
                applied=held.applied,
                place=pb.SESSION_PLACE_LIVE,
                idle=duration_pb2.Duration(seconds=3),
            )
            for held in found[begin:end]
        ]
        token = str(end) if end < len(found) else ""
        return pb.ListSessionsResponse(sessions=page, next_page_token=token, total=len(found))

    async def Stream(self, request_iterator, context):
        fake, tasks = self.fake, set()
        if fake.switches.drain is not None:
            yield pb.StreamResponse(draining=fake.switches.drain)
        async for message in request_iterator:
            step = message.step
            fake.requests.append(step)
            how = fake.switches.breaks.pop(0) if fake.switches.breaks else ""
            if how == "before":
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the wire was cut")
            answers = fake.run(step)
            if how == "after":
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the wire was cut")
            if fake.switches.hold is not None or fake.switches.delay:
                task = asyncio.create_task(self._later(answers, context))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                continue
            for answer in answers:
                yield pb.StreamResponse(step=answer)

    async def _later(self, answers, context):
        if self.fake.switches.hold is not None:
            await self.fake.switches.hold.wait()
        await asyncio.sleep(self.fake.switches.delay)
        for answer in answers:
            await context.write(pb.StreamResponse(step=answer))


class Fake:
    """The server's data, and its start and stop in a thread of its own."""

    def __init__(self):
        self.switches = Switches()
        self.limits = server_pb2.Limits(
            max_message_bytes=2**22, max_chunk=1000, queue_rows=10_000, queue_bytes=2**24
        )
        self.page_size = 2
        self.draining = False
        self.expired = set()
        self.requests = deque(maxlen=10_000)
        self.attaches = []
        self.sessions = {}
        self.server_id = random.getrandbits(63) | 1
        self.address = "127.0.0.1:0"
        self._handles = 1 << 32
        self._loop = None

    def new_handle(self):
        self._handles += 1
        return self._handles

    def find(self, name, version):
        for one in MODELS:
            if one.name == name and version in (one.version, "" if one.is_default else None):
                return one
        return None

    def start(self):
        ready = threading.Event()

        async def serve():
            self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
            server_pb2_grpc.add_ServerServiceServicer_to_server(Server(self), self._server)
            models_pb2_grpc.add_ModelServiceServicer_to_server(Models(self), self._server)
            sessions_pb2_grpc.add_SessionServiceServicer_to_server(Sessions(self), self._server)
            port = self._server.add_insecure_port(self.address)
            self.address = f"127.0.0.1:{port}"
            await self._server.start()
            self._loop = asyncio.get_running_loop()
            self._end = asyncio.Event()
            ready.set()
            await self._end.wait()
            await self._server.stop(None)

        self._thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
        self._thread.start()
        assert ready.wait(10)
        return self

    def stop(self):
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)

    def restart(self, *, forget=True):
        """Become another process: a new server id, and no sessions unless told to keep them."""
        self.stop()
        if forget:
            self.sessions = {}
        self.server_id = random.getrandbits(63) | 1
        return self.start()

    def hold(self):
        """Keep answers back from now on; returns what lets them go."""
        made = threading.Event()

        def make():
            self.switches.hold = asyncio.Event()
            made.set()

        self._loop.call_soon_threadsafe(make)
        assert made.wait(5)

        def let_go():
            event, self.switches.hold = self.switches.hold, None
            self._loop.call_soon_threadsafe(event.set)

        return let_go

    def run(self, step):
        """Run one message, and return its answers in as many parts as the switches say."""
        if self.switches.messages:
            return [pb.StepResponse(id=step.id, done=True, error=self.switches.messages.pop(0))]
        rows = self._rows(step)
        order = list(range(len(rows)))
        if self.switches.parts == 1:
            return [self._answer(step, rows, order, last=True, whole=True)]
        random.shuffle(order)
        size = -(-len(order) // self.switches.parts)
        parts = [order[i : i + size] for i in range(0, len(order), size)]
        return [
            self._answer(step, rows, part, last=part is parts[-1], whole=False) for part in parts
        ]

    def _rows(self, step):
        """Run each row: [(status, applied, outputs by name)]."""
        handles = np.frombuffer(step.handles, wire.HANDLE_DTYPE)
        first = np.frombuffer(step.first_step, wire.STEP_COUNT_DTYPE)
        lengths = np.frombuffer(step.lengths, wire.LENGTH_DTYPE) if step.lengths else None
        lengths = np.ones(len(handles), int) if lengths is None else lengths.astype(int)
        assert len(handles) == len(first) == len(lengths)
        assert len(handles) > 0
        assert len(set(handles.tolist())) == len(handles), "a session twice in a message"
        inputs = {}
        for tensor in step.inputs:
            flat = np.frombuffer(tensor.data, wire.NUMPY_DTYPES[tensor.dtype])
            inputs[tensor.name] = flat.reshape(tensor.shape)
            assert len(inputs[tensor.name]) == lengths.sum()
        by_handle = {held.handle: held for held in self.sessions.values()}
        rows, begin = [], 0
        for handle, at, length in zip(handles.tolist(), first.tolist(), lengths, strict=True):
            chunk = {name: flat[begin : begin + length] for name, flat in inputs.items()}
            begin += length
            held = by_handle.get(handle) if step.server_id == self.server_id else None
            rows.append(self._row(held, at, length, chunk))
        return rows

    def _row(self, held, at, length, chunk):
        if held is None:
            return pb.ROW_STATUS_STALE_HANDLE, 0, {}
        word, steps = 0, length
        if at != held.applied:
            late = at > held.applied
            word = pb.ROW_STATUS_OUT_OF_ORDER if late else pb.ROW_STATUS_ALREADY_APPLIED
            steps = 0
        elif self.switches.rows.get(held.id):
            word, steps = self.switches.rows[held.id].pop(0)
        ran = {name: part[:steps] for name, part in chunk.items()}
        return word, held.applied + steps, self._sums(held, ran)

    def _sums(self, held, chunk):
        names = [one.name for one in held.model.manifest.inputs]
        x = chunk[names[0]]
        sums = held.total + np.cumsum(x, axis=0, dtype=np.float32)
        if len(x):
            held.total = sums[-1]
        held.applied += len(x)
        outputs = {held.model.manifest.outputs[0].name: sums.astype("<f4")}
        if len(names) > 1:
            outputs["n"] = (chunk[names[1]] * 2).astype("<i8")
        return outputs

    def _answer(self, step, rows, part, *, last, whole):
        response = pb.StepResponse(id=step.id, done=last)
        chosen = [rows[i] for i in part]
        if not whole:
            response.rows = np.array(part, wire.ROW_DTYPE).tobytes()
        words = [word for word, _, _ in chosen]
        if any(words):
            response.status = bytes(words)
            for place, word in zip(part, words, strict=True):
                if word:
                    response.errors.add(row=place, message=f"row said {word}")
        if pb.ROW_STATUS_BUSY in words:
            response.retry_after_ms = self.switches.retry_after_ms
        response.applied = np.array([applied for _, applied, _ in chosen], "<u8").tobytes()
        counts = [len(next(iter(out.values()))) if out else 0 for _, _, out in chosen]
        response.lengths = np.array(counts, wire.LENGTH_DTYPE).tobytes()
        found = self.find(step.model, step.version)
        for one in found.manifest.outputs:
            data = [out[one.name] for _, _, out in chosen if out]
            flat = np.concatenate(data) if data else np.zeros((0, *one.shape), "<f4")
            response.outputs.add(
                name=one.name, dtype=one.dtype, shape=flat.shape, data=flat.tobytes()
            )
        return response
