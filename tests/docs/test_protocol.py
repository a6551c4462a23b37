"""docs/protocol.md says what is on the wire: names, numbers, and a message in bytes."""

from __future__ import annotations

import re

import numpy as np
import pytest

from carousel import wire
from carousel.v1 import models_pb2, server_pb2, sessions_pb2, tensor_pb2
from carousel_server import errors
from carousel_server.rpc.status import code_of
from tests.docs.pages import blocks, tables, text
from tests.support import raw

PAGE = "docs/protocol.md"


def test_every_method_is_in_the_table():
    told = {
        name for cells in tables(PAGE, "method") for name in re.findall(r"`([\w.]+)`", cells[0])
    }
    assert told == {
        f"{service.name}.{method.name}"
        for file in (sessions_pb2, models_pb2, server_pb2)
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }


def test_every_row_status_is_in_the_table():
    told = {cells[1].strip("`"): int(cells[0]) for cells in tables(PAGE, "code")}
    statuses = sessions_pb2.RowStatus.items()
    assert told == {name.removeprefix("ROW_STATUS_"): number for name, number in statuses}


def test_every_limit_is_in_the_table():
    told = {cells[0].strip("`") for cells in tables(PAGE, "field")}
    assert {field.name for field in server_pb2.Limits.DESCRIPTOR.fields} <= told


def test_every_dtype_is_in_the_table_with_its_width():
    told = {cells[0].strip("`"): int(cells[2]) for cells in tables(PAGE, "dtype")}
    assert told == {
        tensor_pb2.DataType.Name(number).removeprefix("DATA_TYPE_"): np.dtype(dtype).itemsize
        for number, dtype in wire.NUMPY_DTYPES.items()
    }


COLUMNS = {
    "handles": wire.HANDLE_DTYPE,
    "lengths": wire.LENGTH_DTYPE,
    "first_step": wire.STEP_COUNT_DTYPE,
    "delivered": wire.STEP_COUNT_DTYPE,
    "rows": wire.ROW_DTYPE,
    "status": wire.STATUS_DTYPE,
    "applied": wire.STEP_COUNT_DTYPE,
    "durable": wire.STEP_COUNT_DTYPE,
}


def test_every_column_is_in_the_tables_with_its_width():
    told = {cells[0].strip("`"): cells[1:3] for cells in tables(PAGE, "field") if len(cells) == 4}
    assert told == {
        name: [np.dtype(dtype).name, str(np.dtype(dtype).itemsize)]
        for name, dtype in COLUMNS.items()
    }


EXAMPLES = [
    errors.InvalidRequest("x"),
    errors.ModelNotFound("m", "", []),
    errors.SessionNotFound(["a"]),
    errors.SessionExpired("a", at=0.0, rule="r"),
    errors.SessionExists("a"),
    errors.NoRoom("x", retry_after_ms=1),
    errors.Draining(),
    errors.SessionsMoved([("a", "")]),
    errors.StoreAway("redis://cache:6379/0"),
    errors.TakeOverWaits(2.0),
    errors.SnapshotMismatch("x", damaged=False),
    errors.SnapshotMismatch("x", damaged=True),
    errors.RunError("x"),
]


def test_every_reason_is_in_the_table():
    told = {cells[0].strip("`"): cells[1] for cells in tables(PAGE, "reason")}
    assert told == {code_of(error)[1]: code_of(error)[0].name for error in EXAMPLES}


def hexadecimal(kind):
    (block,) = blocks(PAGE, f"hex {kind}")
    return bytes.fromhex("".join(line.partition("#")[0] for line in block.splitlines()))


@pytest.fixture
def opened(server):
    with raw.connect(server.address) as client:
        yield client, client.open("sum", 2)


def test_the_request_in_bytes_is_what_the_generated_code_makes(opened):
    _, sessions = opened
    request = raw.step_request(
        sessions,
        np.array([[0.5], [1.0], [2.0]]),
        lengths=[1, 2],
        first_step=[0, 0],
        request_id=7,
        server_id=0x0123456789ABCDEF,
        handles=np.array([0x1_0000_0001, 0x1_0000_0002], wire.HANDLE_DTYPE).tobytes(),
    )
    assert request.SerializeToString(deterministic=True) == hexadecimal("request")


def test_the_answer_in_bytes_is_what_a_server_sends(opened):
    client, sessions = opened
    request = sessions_pb2.StepRequest.FromString(hexadecimal("request"))
    request.server_id = sessions.server_id
    request.handles = sessions.handles.tobytes()
    answer = client.step(request)
    assert answer.SerializeToString(deterministic=True) == hexadecimal("response")


def test_the_byte_counts_in_the_text_are_right():
    sizes = [
        int(size)
        for size in re.findall(r"`(?:StepRequest`|StepResponse`[^,]*), (\d+) bytes", text(PAGE))
    ]
    assert sizes == [len(hexadecimal("request")), len(hexadecimal("response"))]
