"""What a real server answers to what is wrong, and that nobody else suffers from it."""

from __future__ import annotations

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from typer.testing import CliRunner

import carousel_client as carousel
from carousel import wire
from carousel.v1 import sessions_pb2
from carousel_client.cli import app
from tests.support import models, raw
from tests.support.raw import applied, output, statuses, step_request
from tests.support.server import run_server

ONE = np.ones((1, 2), np.float32)


def test_unknown_model_names_the_ones_there_are(client):
    with pytest.raises(grpc.RpcError) as caught:
        client.open("nosuch")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == (
        "no model 'nosuch' here; there are: exploding, lstm, raises, sum"
    )


def test_unknown_version_names_the_ones_there_are(client):
    with pytest.raises(grpc.RpcError) as caught:
        client.open("sum", version="9")
    assert caught.value.details() == "no model 'sum/9' here; there are: sum/1"


def test_unknown_session_is_named(client):
    for call in (
        lambda: client.attach("sum", ["nobody"]),
        lambda: client.stub.Get(sessions_pb2.GetSessionRequest(id="nobody")),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            call()
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert "'nobody'" in caught.value.details()


def test_an_id_in_use_opens_nothing_at_all(client):
    client.open("sum", ids=["taken"])
    before = client.stub.List(sessions_pb2.ListSessionsRequest()).total
    with pytest.raises(grpc.RpcError) as caught:
        client.open("sum", ids=["fresh", "taken"])
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
    assert client.stub.List(sessions_pb2.ListSessionsRequest()).total == before


MESSAGE_FAULTS = {
    "model": ({"model": "nosuch"}, "no model 'nosuch/1' here; there are: exploding, lstm"),
    "no rows": ({"handles": b"", "inputs": []}, "handles has 0 bytes"),
    "half a handle": ({"handles": b"123"}, "handles has 3 bytes"),
    "no input": ({"inputs": []}, "the inputs ['x'] were expected"),
    "other input": ({"inputs": [raw.tensor("z", ONE)]}, "the input 'x' was expected; 'z' came"),
    "input twice": ({"inputs": [raw.tensor("x", ONE)] * 2}, "each once; ['x', 'x'] came"),
    "dtype": (
        {"inputs": [raw.tensor("x", ONE.astype(np.float64))]},
        "'x' is float32; float64 came",
    ),
    "shape": (
        {"inputs": [raw.tensor("x", np.ones((1, 3), np.float32))]},
        "has shape [1, 2] here, steps or sessions first; [1, 3] came",
    ),
    "too few bytes": (
        {"inputs": [raw.tensor_pb2.Tensor(name="x", dtype=1, shape=[1, 2], data=b"1234")]},
        "'x' has 4 bytes; [1, 2] of float32 are 8",
    ),
    "lengths for other rows": (
        {"lengths": np.ones(2, "<u4").tobytes()},
        "lengths has 8 bytes; 1 rows of 4 bytes",
    ),
    "a billion steps without data": (
        {"lengths": np.array([10**9], "<u4").tobytes()},
        "a chunk of 1000000000 steps came; 20000 are the most",
    ),
    "more steps than data": (
        {"lengths": np.array([900], "<u4").tobytes()},
        "has shape [900, 2] here",
    ),
    "first_step for other rows": ({"first_step": b"1234"}, "first_step has 4 bytes"),
    "delivered for other rows": ({"delivered": bytes(16)}, "delivered has 16 bytes"),
}


def spoiled(request, fields):
    """Return a request with some fields replaced, byte for byte."""
    for name, value in fields.items():
        if name == "inputs":
            del request.inputs[:]
            request.inputs.extend(value)
        else:
            setattr(request, name, value)
    return request


@pytest.mark.parametrize("fault", MESSAGE_FAULTS)
def test_a_faulty_message_fails_alone(client, fault):
    fields, words = MESSAGE_FAULTS[fault]
    opened = client.open("sum", 2)
    stream = client.stream()
    first = stream.one(step_request(opened, [[1, 1], [5, 5]], first_step=[0, 0]))
    wrong = stream.one(spoiled(step_request(opened, ONE, rows=[0], request_id=2), fields))
    assert words in wrong.error.message
    assert wrong.done
    assert not wrong.outputs
    after = stream.one(step_request(opened, [[1, 1], [5, 5]], request_id=3, first_step=[1, 1]))
    assert output(first).tolist() == [[1, 1], [5, 5]]
    assert output(after).tolist() == [[2, 2], [10, 10]]
    stream.end()


def test_a_gigabyte_of_lengths_is_refused_before_it_is_read(client):
    """The transport's own limit: 64 MiB. It costs the sender its call, and nobody else anything."""
    opened = client.open("sum")
    request = step_request(opened, ONE, lengths=None)
    request.lengths = bytes(wire.DEFAULT_MAX_MESSAGE_BYTES + 1)
    with pytest.raises(grpc.RpcError) as caught:
        client.step(request)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert output(client.step(step_request(opened, ONE))).tolist() == [[1, 1]]


def test_a_stream_request_without_a_body_is_answered(client):
    answer = next(client.stub.Stream(iter([sessions_pb2.StreamRequest()])))
    assert "the message has no body" in answer.step.error.message


def test_faulty_rows_leave_their_neighbours_alone(client):
    """One message: good, NaN, good, unknown handle, second row of the first, good."""
    opened = client.open("sum", 3)
    unknown = np.uint64(7 << 32 | 5)
    a, b, c = opened.handles
    x = np.array([[1, 1], [np.nan, 0], [3, 3], [4, 4], [5, 5]], np.float32)
    request = step_request(opened, x, first_step=[0] * 5)
    request.handles = np.array([a, b, c, unknown, a], np.uint64).tobytes()
    answer = client.step(request)
    assert statuses(answer) == ["OK", "INVALID", "OK", "NOT_FOUND", "DUPLICATE"]
    assert output(answer).tolist() == [[1, 1], [3, 3]]
    assert np.frombuffer(answer.lengths, "<u4").tolist() == [1, 0, 1, 0, 0]
    words = {error.row: error.message for error in answer.errors}
    assert words[1] == ("input 'x' is nan at step 0 of the row; a finite number was expected")
    assert set(words) == {1, 3, 4}
    after = client.step(step_request(opened, np.ones((3, 2)), first_step=[1, 0, 1]))
    assert output(after).tolist() == [[2, 2], [1, 1], [4, 4]]


def test_first_step_too_low_and_too_high(client):
    opened = client.open("sum", 3)
    client.step(step_request(opened, np.ones((3, 2))))
    answer = client.step(step_request(opened, np.ones((3, 2)), first_step=[0, 1, 2]))
    assert statuses(answer) == ["ALREADY_APPLIED", "OK", "OUT_OF_ORDER"]
    assert applied(answer) == [1, 2, 1]
    assert answer.errors[0].message == "the chunk begins at step 0, the session is at step 1"


def test_stale_handles_and_another_servers(client):
    opened = client.open("sum", 2)
    again = client.attach("sum", opened.ids[:1])
    answer = client.step(step_request(opened, np.ones((2, 2))))
    assert statuses(answer) == ["STALE_HANDLE", "OK"]
    assert "attached elsewhere" in answer.errors[0].message
    elsewhere = step_request(again, ONE, server_id=again.server_id ^ 1)
    assert statuses(client.step(elsewhere)) == ["STALE_HANDLE"]
    assert statuses(client.step(step_request(again, ONE))) == ["OK"]


def test_a_model_that_raises_fails_the_culprit_alone(client):
    opened = client.open("raises", 9)
    x = np.ones((9, 2))
    x[4] = 99
    answer = client.step(step_request(opened, x))
    assert statuses(answer) == ["OK"] * 4 + ["MODEL_ERROR"] + ["OK"] * 4
    assert "the model failed" in answer.errors[0].message
    after = client.step(step_request(opened, np.ones((9, 2))))
    assert output(after)[:, 0].tolist() == [2] * 4 + [1] + [2] * 4


def test_an_overflowing_row_keeps_its_state(client):
    opened = client.open("exploding", 2)
    for _ in range(2):
        client.step(step_request(opened, [[1, 1], [0, 0]]))
    answer = client.step(step_request(opened, [[1, 1], [2, 2]]))
    assert statuses(answer) == ["NUMERIC_FAULT", "OK"]
    assert applied(answer) == [2, 3]
    client.reset(opened)
    assert output(client.step(step_request(opened, [[3, 3], [4, 4]]))).tolist() == [[3, 3], [4, 4]]


def test_a_full_server_says_so_and_when_to_try_again(repository, tmp_path):
    with (
        run_server(repository, "--max-sessions", "3", log=tmp_path / "log") as server,
        raw.connect(server.address) as client,
    ):
        opened = client.open("sum", 2)
        with pytest.raises(grpc.RpcError) as caught:
            client.open("sum", 2)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert caught.value.details() == (
            "the server has 2 of at most 3 sessions; 2 more were asked for"
        )
        status = rpc_status.from_call(caught.value)
        retry = error_details_pb2.RetryInfo()
        assert any(detail.Unpack(retry) for detail in status.details)
        assert retry.retry_delay.ToMilliseconds() > 0
        client.close(opened)
        client.open("sum", 3)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"not an onnx file", "this is no ONNX file"),
        (
            models.running_sum().SerializeToString()[:-40],
            "this is no ONNX file, or not a whole one",
        ),
    ],
)
def test_a_corrupt_file_stops_the_start_with_a_sentence(tmp_path, content, words):
    models.put(tmp_path, models.running_sum(), "good")
    models.put(tmp_path, models.running_sum(), "bad").write_bytes(content)
    with pytest.raises(AssertionError, match=words), run_server(tmp_path, log=tmp_path / "log"):
        pass


def test_a_file_without_manifest_stops_the_start_with_a_sentence(tmp_path):
    made = models.running_sum()
    del made.metadata_props[:]
    models.put(tmp_path, made, "bare")
    with (
        pytest.raises(
            AssertionError, match=r"no 'carousel.manifest'.*make it with carousel-export"
        ),
        run_server(tmp_path, log=tmp_path / "log"),
    ):
        pass


def test_more_sessions_than_slots_is_normal(repository, tmp_path):
    """Nine sessions take turns on three slots, in messages of all of them and of a few."""
    with (
        run_server(repository, "--slots", "3", log=tmp_path / "log") as server,
        raw.connect(server.address) as client,
    ):
        opened = client.open("sum", 9)
        ones = np.ones((9, 2))
        assert output(client.step(step_request(opened, ones))).tolist() == [[1, 1]] * 9
        assert (
            output(client.step(step_request(opened, ones[:2], rows=[0, 5]))).tolist()
            == [[2, 2]] * 2
        )
        expected = [[3 if row in (0, 5) else 2] * 2 for row in range(9)]
        assert output(client.step(step_request(opened, ones))).tolist() == expected
        places = [s.place for s in client.stub.List(sessions_pb2.ListSessionsRequest()).sessions]
        assert places.count(sessions_pb2.SESSION_PLACE_LIVE) == 3
        assert places.count(sessions_pb2.SESSION_PLACE_PARKED) == 6


def test_bytes_that_are_no_message_are_called_so(client):
    call = client.channel.unary_unary("/carousel.v1.SessionService/Open")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"\xff\xff\xff", timeout=10)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "3 bytes came that are no such message" in caught.value.details()
    stream = client.channel.stream_stream(
        "/carousel.v1.SessionService/Stream",
        response_deserializer=sessions_pb2.StreamResponse.FromString,
    )
    answer = next(stream(iter([b"\xff\xff\xff"]), timeout=10))
    assert "no such message" in answer.step.error.message


@pytest.mark.parametrize("chunk", [[], ["--chunk", "1"], ["--chunk", "7"]])
def test_a_stream_of_lines_goes_on_without_those_that_the_model_refuses(server, chunk):
    x = np.random.default_rng(0).integers(-4, 3, (60, 2))
    x[[3, 4, 30, 59]] = 4  # the model raises above 3
    good = np.delete(x, [3, 4, 30, 59], axis=0)
    command = ["--address", server.address, "stream", "raises", "--skip-bad", "--no-header"]
    lines = "".join(f"{a},{b}\n" for a, b in x.tolist())
    found = CliRunner().invoke(app, [*command, *chunk], input=lines)
    assert found.exit_code == 0, found.stderr
    answers = np.array([line.split(",") for line in found.stdout.splitlines()], np.float64)
    with carousel.connect(server.address) as client, client.open("raises") as session:
        assert np.array_equal(answers, session.step(good))
    told = [line.split(": ")[:3] for line in found.stderr.splitlines()]
    assert told == [["carousel", "skipped", f"line {number}"] for number in (4, 5, 31, 60)]
