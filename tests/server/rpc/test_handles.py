"""What is checked of every call that names sessions by their handles."""

from __future__ import annotations

import numpy as np
import pytest

from carousel.v1 import sessions_pb2, states_pb2
from carousel_server.engine.status import RowStatus
from carousel_server.errors import Draining, InvalidRequest, ModelNotFound

CALLS = {
    "Reset": sessions_pb2.ResetRequest,
    "Close": sessions_pb2.CloseRequest,
    "Snapshot": states_pb2.SnapshotRequest,
    "GetState": states_pb2.GetStateRequest,
    "Mark": states_pb2.MarkRequest,
    "Rewind": states_pb2.RewindRequest,
}
MORE = {"Mark": {"name": "m"}, "Rewind": {"step": 0}}


@pytest.fixture(params=CALLS)
async def call(request, world):
    member = await world.member("a")
    taken = await member.open("s", "t")

    async def make(**changes):
        fields = taken.call() | MORE.get(request.param, {}) | changes
        asked = CALLS[request.param](**fields)
        return await getattr(member.service, request.param)(asked, None)

    make.member, make.taken = member, taken
    return make


async def test_handles_of_another_process_are_stale(call):
    answer = await call(server_id=12345)
    assert list(answer.status) == [RowStatus.STALE_HANDLE] * 2
    assert len(call.member.directory) == 2


async def test_handles_that_stand_there_twice(call):
    handle = call.taken.handles[0]
    answer = await call(handles=np.array([handle, 5, handle], "<u8").tobytes())
    assert list(answer.status)[1:] == [RowStatus.NOT_FOUND, RowStatus.DUPLICATE]


@pytest.mark.parametrize("handles", [b"", b"1234567"])
async def test_columns_that_are_none(call, handles):
    with pytest.raises(InvalidRequest, match="handles has"):
        await call(handles=handles)


async def test_a_model_that_is_not_here(call):
    with pytest.raises(ModelNotFound):
        await call(model="other")


async def test_a_server_that_goes_down(call):
    call.member.lifecycle.draining = True
    with pytest.raises(Draining):
        await call()


async def test_all_rows_ok_is_an_empty_column(call):
    assert (await call()).status == b""
