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
    states_pb2,
    tensor_pb2,
)
from carousel.v1 import sessions_pb2 as pb
from tests.client import speaking
from tests.client.store import Held, Kept, Store

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
    model("letters", [speaking.text("x")], [speaking.next_letters("y")]),
    model("weather", [spec("x", [3])], [speaking.weather("y")]),
]


@dataclass
class Switches:
    """What goes wrong next. Lists are used up from the front."""

    rows: dict[str, list[tuple[int, int]]] = field(default_factory=dict)  # id: [(status, steps)]
    messages: list[status_pb2.Status] = field(default_factory=list)
    breaks: list[str] = field(default_factory=list)  # "before" or "after" running, or "" for none
    calls: dict[str, list[status_pb2.Status]] = field(default_factory=dict)  # by method
    ruin: dict[str, object] = field(default_factory=dict)  # by method: what to do to its answer
    after_calls: dict[str, list[status_pb2.Status]] = field(default_factory=dict)
    parts: int = 1  # answer each message in so many parts, shuffled
    hold: asyncio.Event | None = None  # answers wait for it
    delay: float = 0.0
    retry_after_ms: int = 5
    save_every: int = 0  # steps from one checkpoint to the next; 0: none is written
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


def column(numbers):
    return np.array(numbers, "<u8").tobytes()


def handles(sessions):
    return column([held.handle for held in sessions])


def words(found):
    return bytes(0 if held else pb.ROW_STATUS_STALE_HANDLE for held in found)


def tensor(name, array):
    return tensor_pb2.Tensor(
        name=name, dtype=F32, shape=array.shape, data=array.astype("<f4").tobytes()
    )


def unpacked(tensor):
    return np.frombuffer(tensor.data, "<f4").reshape(tensor.shape).copy()


def snapshot(held):
    body = states_pb2.SnapshotBody(
        model=held.model.name, applied=held.applied, states=[tensor("total", held.total)]
    )
    return states_pb2.Snapshot(format=1, body=body.SerializeToString()).SerializeToString()


class Servicer:
    def __init__(self, fake):
        self.fake = fake

    async def _may_fail(self, method, context, table):
        waiting = table.get(method)
        if waiting:
            await context.abort_with_status(rpc_status.to_status(waiting.pop(0)))

    def _ruined(self, method, answer):
        if method in self.fake.switches.ruin:
            self.fake.switches.ruin[method](answer)
        return answer


class Server(Servicer, server_pb2_grpc.ServerServiceServicer):
    async def Info(self, request, context):
        await self._may_fail("Info", context, self.fake.switches.calls)
        return self.fake.info()


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
        await self._may_fail("Open", context, self.fake.switches.calls)
        answer = await self._or_abort(self.fake.open(request), context)
        await self._may_fail("Open", context, self.fake.switches.after_calls)
        return answer

    async def Restore(self, request, context):
        await self._may_fail("Restore", context, self.fake.switches.calls)
        answer = await self._or_abort(self.fake.restore(request), context)
        await self._may_fail("Restore", context, self.fake.switches.after_calls)
        return answer

    async def Fork(self, request, context):
        await self._may_fail("Fork", context, self.fake.switches.calls)
        answer = await self._or_abort(self.fake.fork(request), context)
        await self._may_fail("Fork", context, self.fake.switches.after_calls)
        return answer

    async def Attach(self, request, context):
        await self._may_fail("Attach", context, self.fake.switches.calls)
        answer = await self._or_abort(self.fake.attach(request), context)
        await self._may_fail("Attach", context, self.fake.switches.after_calls)
        return answer

    async def Reset(self, request, context):
        return await self._answered("Reset", self.fake.answer_reset, request, context)

    async def Close(self, request, context):
        return await self._answered("Close", self.fake.answer_close, request, context)

    async def Snapshot(self, request, context):
        await self._may_fail("Snapshot", context, self.fake.switches.calls)
        found = self.fake.control(request)
        saved = [snapshot(held) if held else b"" for held in found]
        answer = states_pb2.SnapshotResponse(status=words(found), snapshots=saved)
        return self._ruined("Snapshot", answer)

    async def GetState(self, request, context):
        await self._may_fail("GetState", context, self.fake.switches.calls)
        found = self.fake.control(request)
        there = [held for held in found if held]
        states = [tensor("total", np.array([held.total for held in there]))] if there else []
        answer = states_pb2.GetStateResponse(
            status=words(found),
            applied=column([held.applied if held else 0 for held in found]),
            states=states,
        )
        return self._ruined("GetState", answer)

    async def Mark(self, request, context):
        return await self._answered("Mark", self.fake.answer_mark, request, context)

    async def Rewind(self, request, context):
        return await self._answered("Rewind", self.fake.answer_rewind, request, context)

    async def _answered(self, method, answer, request, context):
        await self._may_fail(method, context, self.fake.switches.calls)
        found = answer(request)
        await self._may_fail(method, context, self.fake.switches.after_calls)
        return found

    async def _or_abort(self, answer, context):
        if isinstance(answer, status_pb2.Status):
            await context.abort_with_status(rpc_status.to_status(answer))
        return answer

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
                durable=held.durable,
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

    def __init__(self, store=None):
        self.switches = Switches()
        self.store = store or Store(shared=False)
        self.advertised = ""
        self.limits = server_pb2.Limits(
            max_message_bytes=2**22, max_chunk=1000, queue_rows=10_000, queue_bytes=2**24
        )
        self.page_size = 2
        self.draining = False
        self.expired = set()
        self.requests = deque(maxlen=10_000)
        self.attaches = []
        self.opens = []
        self.sessions = {}
        self.server_id = random.getrandbits(63) | 1
        self.address = "127.0.0.1:0"
        self.up = False
        self.leased = False  # others take it for alive, whatever it is
        self._handles = 1 << 32
        self._loop = None

    def new_handle(self):
        self._handles += 1
        return self._handles

    def info(self):
        return server_pb2.InfoResponse(
            version="0.1.0",
            server_id=self.server_id,
            limits=self.limits,
            draining=self.draining,
            resumable=self.store.shared,
            advertised_address=self.advertised,
        )

    def open(self, request):
        """Answer an OpenRequest, or return the status it fails with."""
        found, ids = self.find(request.model, request.version), list(request.ids)
        if (wrong := self.refused(found, ids)) is not None:
            return wrong
        totals = np.zeros((len(ids), *found.manifest.states[0].shape), np.float32)
        for tensor in request.initial_states:
            totals = unpacked(tensor)
        self.opens.append(ids)
        opened = [self.put(name, found, total) for name, total in zip(ids, totals, strict=True)]
        return pb.OpenResponse(
            server_id=self.server_id,
            model=found.name,
            version=found.version,
            ids=ids,
            handles=handles(opened),
        )

    def restore(self, request):
        """Answer a RestoreRequest, or return the status it fails with."""
        found, ids = self.find(request.model, request.version), list(request.ids)
        if (wrong := self.refused(found, ids)) is not None:
            return wrong
        shape = list(found.manifest.states[0].shape)
        bodies = []
        for data in request.snapshots:
            body = states_pb2.SnapshotBody.FromString(states_pb2.Snapshot.FromString(data).body)
            if list(body.states[0].shape) != shape:
                why = f"state shape {list(body.states[0].shape)}, but the model has {shape}"
                return status(code_pb2.FAILED_PRECONDITION, why)
            bodies.append(body)
        self.opens.append(ids)
        restored = [
            self.put(name, found, unpacked(body.states[0]), body.applied)
            for name, body in zip(ids, bodies, strict=True)
        ]
        return states_pb2.RestoreResponse(
            server_id=self.server_id,
            model=found.name,
            version=found.version,
            ids=ids,
            handles=handles(restored),
            applied=column([one.applied for one in restored]),
        )

    def fork(self, request):
        """Answer a ForkRequest, or return the status it fails with."""
        (held,) = self.by_handles(request, [request.handle])
        if held is None:
            return states_pb2.ForkResponse(status=pb.ROW_STATUS_STALE_HANDLE)
        ids = list(request.ids)
        if (wrong := self.refused(held.model, ids)) is not None:
            return wrong
        twins = [self.put(name, held.model, held.total.copy(), held.applied) for name in ids]
        return states_pb2.ForkResponse(
            ids=ids, handles=handles(twins), applied=column([one.applied for one in twins])
        )

    def refused(self, found, ids):
        """Return why sessions of a model can't be opened under these ids, if they can't."""
        if found is None:
            return status(code_pb2.NOT_FOUND, "no such model; there are: both, sum")
        for name in ids:
            if name in self.sessions or name in self.store.records:
                return status(code_pb2.ALREADY_EXISTS, f"{name!r} is open")
        return None

    @property
    def alive(self):
        return self.up or self.leased

    def put(self, name, found, total, applied=0):
        """Have a new session."""
        held = Held(name, self.new_handle(), found, np.asarray(total, np.float32), applied)
        self.sessions[name] = held
        self.store.create(held, self)
        held.durable = applied
        return held

    def by_handles(self, request, wanted):
        there = {held.handle: held for held in self.sessions.values()}
        if request.server_id != self.server_id:
            there = {}
        return [there.get(handle) for handle in wanted]

    def control(self, request, act=lambda held: None):
        """Do something to the sessions with these handles; None for each that is not valid."""
        found = self.by_handles(request, np.frombuffer(request.handles, "<u8").tolist())
        for held in found:
            if held is not None:
                act(held)
        return found

    def answer_reset(self, request):
        return pb.ResetResponse(status=words(self.control(request, self.reset)))

    def answer_close(self, request):
        act = self.detach if request.keep else self.end
        return pb.CloseResponse(status=words(self.control(request, act)))

    def answer_mark(self, request):
        found = self.control(request, lambda held: self.mark(held, request.name))
        return states_pb2.MarkResponse(
            status=words(found), applied=column([held.applied if held else 0 for held in found])
        )

    def answer_rewind(self, request):
        to = request.mark if request.WhichOneof("to") == "mark" else request.step
        done = []
        found = self.control(request, lambda held: done.append(self.rewind(held, to)))
        outcome = iter(done)
        status = bytes(
            pb.ROW_STATUS_STALE_HANDLE
            if held is None
            else (pb.ROW_STATUS_OK if next(outcome) else pb.ROW_STATUS_NOT_FOUND)
            for held in found
        )
        return states_pb2.RewindResponse(
            status=status, applied=column([held.applied if held else 0 for held in found])
        )

    def reset(self, held):
        self.move(held, Kept(0, np.zeros_like(held.total)))

    def end(self, held):
        del self.sessions[held.id]
        self.store.records.pop(held.id, None)

    def detach(self, held):
        self.store.save(held, self)
        del self.sessions[held.id]
        record = self.store.records[held.id]
        if record.owner is self:
            record.owner = None

    def mark(self, held, name):
        self.store.records[held.id].marks[name] = Kept(held.applied, held.total.copy())

    def rewind(self, held, to):
        """Go back to a mark or to a step; whether there is one."""
        record = self.store.records[held.id]
        if isinstance(to, str):
            kept = record.marks.get(to)
        else:
            kept = next((one for one in record.checkpoints[::-1] if one.step <= to), None)
        if kept is not None:
            self.move(held, kept)
        return kept is not None

    def move(self, held, kept):
        """Put a session to another state, and save it there."""
        held.total, held.applied = kept.total.copy(), kept.step
        held.delivered = min(held.delivered, kept.step)
        self.save(held)

    def save(self, held):
        held.unsaved = 0
        if self.store.save(held, self):
            held.durable = held.applied

    def attach(self, request):
        """Answer an AttachRequest, or return the status it fails with."""
        self.attaches.append(list(request.ids))
        wanted = np.frombuffer(request.delivered, "<u8").tolist() or [None] * len(request.ids)
        expired = [name for name in request.ids if name in self.expired]
        word, moved = {}, []
        for name in request.ids:
            record = self.store.records.get(name)
            if record is not None and record.owner is not self:
                self.sessions.pop(name, None)  # another server has taken it over
            if name not in self.sessions and record is None:
                word[name] = pb.ROW_STATUS_NOT_FOUND
            elif name not in self.sessions and self.holds_another(record):
                word[name] = pb.ROW_STATUS_MOVED
                moved.append(pb.SessionMoved(id=name, address=record.owner.advertised))
        missing = [name for name, code in word.items() if code == pb.ROW_STATUS_NOT_FOUND]
        if missing and not request.each:
            reason = "SESSION_EXPIRED" if expired else ""
            return status(code_pb2.NOT_FOUND, f"not here: {missing}", reason)
        if moved and not request.each:
            found = status(code_pb2.FAILED_PRECONDITION, "elsewhere", "SESSION_MOVED")
            for one in moved:
                found.details.add().Pack(one)
            return found
        held = [
            None if name in word else self.take(name, delivered)
            for name, delivered in zip(request.ids, wanted, strict=True)
        ]
        versions = [one.model.version for one in held if one]
        return pb.AttachResponse(
            server_id=self.server_id,
            model=request.model,
            version=versions[0] if versions else "",
            handles=column([one.handle if one else 0 for one in held]),
            applied=column([one.applied if one else 0 for one in held]),
            durable=column([one.durable if one else 0 for one in held]),
            status=bytes(word.get(name, 0) for name in request.ids) if word else b"",
            moved=moved,
        )

    def holds_another(self, record):
        return record.owner is not None and record.owner is not self and record.owner.alive

    def take(self, name, delivered):
        """Have a session, from here or from the store, where its client can go on from it."""
        record, held = self.store.records[name], self.sessions.get(name)
        record.owner = self
        if held is None:
            newest = record.checkpoints[-1]
            held = Held(name, 0, record.model, newest.total.copy(), newest.step, newest.step)
            self.sessions[name] = held
        held.handle = self.new_handle()
        if delivered is not None:
            held.delivered = max(held.delivered, delivered)
            if held.applied > delivered:
                below = [one for one in record.checkpoints if one.step <= delivered]
                held.delivered = delivered
                held.total, held.applied = below[-1].total.copy(), below[-1].step
                record.checkpoints = below
            held.durable = record.checkpoints[-1].step
        held.unsaved = held.applied - held.durable
        return held

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
        self.up = True
        return self

    def stop(self):
        self.up = False
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._end.set)
            self._thread.join(10)
            self._loop = None

    def restart(self, *, forget=True):
        """Become another process: a new server id, and no sessions unless told to keep them."""
        self.stop()
        if forget:
            self.sessions = {}
            if not self.store.shared:
                self.store.records = {}
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
        delivered = np.frombuffer(step.delivered, wire.STEP_COUNT_DTYPE).tolist()
        assert len(delivered) in (0, len(handles))
        rows, begin = [], 0
        for place, (handle, at, length) in enumerate(
            zip(handles.tolist(), first.tolist(), lengths, strict=True)
        ):
            chunk = {name: flat[begin : begin + length] for name, flat in inputs.items()}
            begin += length
            held = by_handle.get(handle) if step.server_id == self.server_id else None
            if held is not None and delivered:
                assert delivered[place] >= held.delivered, "answers were given back"
                held.delivered = delivered[place]
                self.store.trim(self.store.records[held.id], held.delivered)
            rows.append((*self._row(held, at, length, chunk), held.durable if held else 0))
        return rows

    def _row(self, held, at, length, chunk):
        if held is None:
            return pb.ROW_STATUS_STALE_HANDLE, 0, {}
        if self.store.records[held.id].owner is not self:
            return pb.ROW_STATUS_MOVED, 0, {}
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
        held.unsaved += len(x)
        if self.switches.save_every and held.unsaved >= self.switches.save_every:
            self.save(held)
        output = held.model.manifest.outputs[0]
        outputs = {output.name: speaking.said(output, sums).astype("<f4")}
        if len(names) > 1:
            outputs["n"] = (chunk[names[1]] * 2).astype("<i8")
        return outputs

    def _answer(self, step, rows, part, *, last, whole):
        response = pb.StepResponse(id=step.id, done=last)
        chosen = [rows[i] for i in part]
        if not whole:
            response.rows = np.array(part, wire.ROW_DTYPE).tobytes()
        words = [word for word, *_ in chosen]
        if any(words):
            response.status = bytes(words)
            for place, word in zip(part, words, strict=True):
                if word:
                    response.errors.add(row=place, message=f"row said {word}")
        if pb.ROW_STATUS_BUSY in words:
            response.retry_after_ms = self.switches.retry_after_ms
        response.applied = column([applied for _, applied, *_ in chosen])
        response.durable = column([durable for *_, durable in chosen])
        counts = [len(next(iter(out.values()))) if out else 0 for _, _, out, _ in chosen]
        response.lengths = np.array(counts, wire.LENGTH_DTYPE).tobytes()
        found = self.find(step.model, step.version)
        for one in found.manifest.outputs:
            data = [out[one.name] for _, _, out, _ in chosen if out]
            flat = np.concatenate(data) if data else np.zeros((0, *one.shape), "<f4")
            response.outputs.add(
                name=one.name, dtype=one.dtype, shape=flat.shape, data=flat.tobytes()
            )
        return response
