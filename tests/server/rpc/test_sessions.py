"""The session service over an engine, without gRPC between."""

from __future__ import annotations

import numpy as np
import pytest

from carousel.v1 import manifest_pb2, sessions_pb2, tensor_pb2
from carousel_server.catalog import Catalog, Served
from carousel_server.engine.directory import Directory
from carousel_server.engine.limits import EngineLimits
from carousel_server.engine.status import RowStatus
from carousel_server.errors import Draining, InvalidRequest, ModelNotFound, SessionNotFound
from carousel_server.lifecycle import Lifecycle
from carousel_server.rpc.sessions import SessionService
from carousel_server.rpc.snapshots import Snapshots
from carousel_server.rpc.steps import StepGate
from carousel_server.rpc.stream import OpenStreams
from tests.support.bench import Bench, chunk
from tests.support.driven import ALWAYS_INLINE, driven
from tests.support.kept import engine_keeper, keeping
from tests.support.recurrence import RecurrenceRunner, solo

HERE = 77


@pytest.fixture
def lifecycle() -> Lifecycle:
    return Lifecycle(server_id=HERE)


@pytest.fixture
async def service(lifecycle):
    directory = Directory(6)
    bench = Bench(RecurrenceRunner(), directory=directory, max_steps_per_tick=4)
    async with keeping() as kept, driven(bench, ALWAYS_INLINE) as driver:
        keeper = engine_keeper(kept, bench.runner.spec)
        keeper.connect(driver)
        served = Served(
            name="m",
            version="1",
            number=3,
            sha256="",
            manifest=manifest_pb2.ModelManifest(),
            spec=bench.runner.spec,
            engine=bench.engine,
            driver=driver,
            keeper=keeper,
        )
        catalog = Catalog([served])
        gate = StepGate(catalog, lifecycle=lifecycle, limits=EngineLimits(), clock=bench.clock)
        yield SessionService(
            catalog,
            directory,
            gate=gate,
            streams=OpenStreams(),
            lifecycle=lifecycle,
            keeping=kept,
            snapshots=Snapshots(),
        )


async def opened(service, *ids: str, **more) -> np.ndarray:
    response = await service.Open(sessions_pb2.OpenRequest(model="m", ids=ids, **more), None)
    assert (response.server_id, response.model, response.version) == (HERE, "m", "1")
    return np.frombuffer(response.handles, "<u8")


def step_request(handles: np.ndarray, x: np.ndarray, **more) -> sessions_pb2.StepRequest:
    """Return a request in which each of the handles steps through all of `x` [T, 2]."""
    values = np.concatenate([x] * len(handles))
    return sessions_pb2.StepRequest(
        **({"id": 5, "model": "m", "server_id": HERE} | more),
        handles=handles.tobytes(),
        lengths=np.full(len(handles), len(x), "<u4").tobytes(),
        inputs=[
            tensor_pb2.Tensor(
                name="x",
                dtype=tensor_pb2.DATA_TYPE_FLOAT64,
                shape=values.shape,
                data=values.tobytes(),
            )
        ],
    )


async def test_a_unary_step_is_answered_in_one_piece(service):
    x = chunk(10)
    response = await service.Step(step_request(await opened(service, "a", "b"), x), None)
    assert response.done
    assert response.id == 5
    (y,) = response.outputs
    np.testing.assert_array_equal(
        np.frombuffer(y.data).reshape(-1, 2), np.concatenate([solo(x)] * 2)
    )


async def test_ids_are_made_where_none_are_given(service):
    response = await service.Open(sessions_pb2.OpenRequest(model="m", count=3), None)
    assert len(set(response.ids)) == 3
    assert len(response.handles) == 24


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "ids, or a count from 1 to 6, were expected; 0 came"),
        ({"count": 7}, "ids, or a count from 1 to 6, were expected; 7 came"),
        ({"ids": ["a"], "count": 2}, "1 ids came, and a count of 2"),
        ({"ids": ["a", ""]}, "an id has 1 to 128 printable characters; '' came"),
        ({"ids": ["a\n"]}, r"an id has 1 to 128 printable characters; 'a\n' came"),
        ({"ids": ["a", "b", "a"]}, "the id 'a' came twice"),
    ],
)
async def test_sessions_that_cant_be_opened(service, fields, sentence):
    with pytest.raises(InvalidRequest) as caught:
        await service.Open(sessions_pb2.OpenRequest(model="m", **fields), None)
    assert str(caught.value) == sentence


async def test_an_unknown_model(service):
    with pytest.raises(ModelNotFound, match="no model 'z' here; there are: m"):
        await service.Open(sessions_pb2.OpenRequest(model="z", count=1), None)


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ([], "one or more sessions were expected; none came"),
        (["a", "b", "a"], "the id 'a' came twice"),
        (["x" * 10_000], r"1 to 128 printable characters; 'x{128}'\.\.\. came"),
    ],
)
async def test_attach_wants_different_ids(service, ids, words):
    with pytest.raises(InvalidRequest, match=words):
        await service.Attach(sessions_pb2.AttachRequest(model="m", ids=ids), None)


async def test_handles_of_another_server_are_stale(service):
    handles = await opened(service, "a")
    stale = bytes([RowStatus.STALE_HANDLE])
    kinds = {"model": "m", "server_id": HERE + 1, "handles": handles.tobytes()}
    reset = await service.Reset(sessions_pb2.ResetRequest(**kinds), None)
    close = await service.Close(sessions_pb2.CloseRequest(**kinds), None)
    step = await service.Step(step_request(handles, chunk(1), server_id=HERE + 1), None)
    assert reset.status == close.status == step.status == stale
    assert "attach again" in step.errors[0].message
    good = await service.Step(step_request(handles, chunk(1)), None)
    assert good.status == b""


async def test_pages_end_and_cover_every_session(service):
    await opened(service, "b", "a", "c")
    names, token = [], ""
    for _ in range(3):
        request = sessions_pb2.ListSessionsRequest(page_size=2, page_token=token)
        page = await service.List(request, None)
        assert page.total == 3
        names += [session.id for session in page.sessions]
        if not (token := page.next_page_token):
            break
    assert names == ["a", "b", "c"]


async def test_one_session_is_told_of(service):
    await service.Step(step_request(await opened(service, "a"), chunk(3)), None)
    found = (await service.Get(sessions_pb2.GetSessionRequest(id="a"), None)).session
    assert (found.id, found.model, found.version, found.applied) == ("a", "m", "1", 3)
    with pytest.raises(SessionNotFound, match="'z'"):
        await service.Get(sessions_pb2.GetSessionRequest(id="z"), None)


async def test_a_server_that_goes_down_takes_nothing_new(service, lifecycle):
    handles = await opened(service, "a")
    lifecycle.draining = True
    with pytest.raises(Draining):
        await opened(service, "b")
    response = await service.Step(step_request(handles, chunk(1)), None)
    assert response.done
    assert response.error.code == 14  # UNAVAILABLE
