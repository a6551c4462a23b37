"""Between step messages and columns: what fits comes through, what doesn't is named."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carousel import wire
from carousel.v1 import sessions_pb2, tensor_pb2
from carousel_server.engine.batch import Answer
from carousel_server.engine.limits import EngineLimits
from carousel_server.engine.status import RowStatus
from carousel_server.errors import InvalidRequest
from carousel_server.rpc.columns import AnswerWriter, read_handles, read_states, read_step
from carousel_server.spec import ModelSpec, StateSpec, TensorSpec

F4, I8 = np.dtype("<f4"), np.dtype("<i8")
X = TensorSpec("x", F4, (2,))
K = TensorSpec("k", I8, ())
S = StateSpec("s", "s_out", F4, (3,), np.zeros(3, F4))
ONE = ModelSpec(inputs=(X,), outputs=(TensorSpec("y", F4, (1,)),), states=(S,), time_axis=True)
TWO = ModelSpec(inputs=(X, K), outputs=ONE.outputs, states=(S,), time_axis=True)

TYPES = {"<f4": tensor_pb2.DATA_TYPE_FLOAT32, "<i8": tensor_pb2.DATA_TYPE_INT64}


def tensor(name: str, value: np.ndarray) -> tensor_pb2.Tensor:
    return tensor_pb2.Tensor(
        name=name, dtype=TYPES[value.dtype.str], shape=value.shape, data=value.tobytes()
    )


def x_of(steps: int) -> tensor_pb2.Tensor:
    return tensor("x", np.arange(steps * 2, dtype=F4).reshape(steps, 2))


def k_of(steps: int) -> tensor_pb2.Tensor:
    return tensor("k", np.arange(steps, dtype=I8))


def column(dtype: str, *values: int) -> bytes:
    return np.array(values, dtype).tobytes()


def request(rows: int = 3, **fields) -> sessions_pb2.StepRequest:
    return sessions_pb2.StepRequest(handles=column("<u8", *range(rows)), **fields)


def read(message: sessions_pb2.StepRequest, spec: ModelSpec = ONE, **limits: int):
    small = {"queue_rows": 10, "max_chunk": 100, "queue_bytes": 10_000}
    return read_step(message, spec, EngineLimits(**(small | limits)), reply=lambda _: None)


def wrong_shape() -> tensor_pb2.Tensor:
    return tensor("x", np.zeros((2, 3), F4))


def short() -> tensor_pb2.Tensor:
    value = x_of(3)
    value.data = value.data[:-1]
    return value


def other_type(dtype: int) -> tensor_pb2.Tensor:
    value = x_of(3)
    value.dtype = dtype
    return value


def lengths(*values: int) -> bytes:
    return column("<u4", *values)


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (
            sessions_pb2.StepRequest(inputs=[x_of(0)]),
            "handles has 0 bytes; one or more numbers of 8 bytes were expected",
        ),
        (
            sessions_pb2.StepRequest(handles=b"123456789", inputs=[x_of(1)]),
            "handles has 9 bytes; one or more numbers of 8 bytes were expected",
        ),
        (
            request(inputs=[x_of(3)], lengths=lengths(1, 2)),
            "lengths has 8 bytes; 3 rows of 4 bytes were expected",
        ),
        (
            request(inputs=[x_of(3)], first_step=b"1"),
            "first_step has 1 bytes; 3 rows of 8 bytes were expected",
        ),
        (
            request(inputs=[x_of(3)], delivered=column("<u8", 1, 2, 3, 4)),
            "delivered has 32 bytes; 3 rows of 8 bytes were expected",
        ),
        (
            request(inputs=[x_of(3)], lengths=lengths(1, 0, 2**32 - 1)),
            "a chunk of 4294967295 steps came; 100 are the most",
        ),
        (request(11, inputs=[x_of(11)]), "the message has 11 rows; 10 may wait for a model"),
        (request(), "the inputs ['x'] were expected, each once; [] came"),
        (
            request(inputs=[x_of(3), x_of(3)]),
            "the inputs ['x'] were expected, each once; ['x', 'x'] came",
        ),
        (
            request(inputs=[x_of(3), k_of(3)]),
            "the inputs ['x'] were expected, each once; ['x', 'k'] came",
        ),
        (request(inputs=[k_of(3)]), "the input 'x' was expected; 'k' came"),
        (
            request(inputs=[x_of(2)]),
            "'x' has shape [3, 2] here, steps or sessions first; [2, 2] came",
        ),
        (
            request(inputs=[wrong_shape()]),
            "'x' has shape [3, 2] here, steps or sessions first; [2, 3] came",
        ),
        (
            request(inputs=[short()]),
            "'x' has 23 bytes; [3, 2] of float32 are 24",
        ),
        (
            request(inputs=[other_type(tensor_pb2.DATA_TYPE_FLOAT64)]),
            "'x' is float32; float64 came",
        ),
        (request(inputs=[other_type(0)]), "'x' is float32; data type 0 came"),
        (request(inputs=[other_type(99)]), "'x' is float32; data type 99 came"),
    ],
)
def test_messages_that_are_refused(message, sentence):
    with pytest.raises(InvalidRequest) as caught:
        read(message)
    assert str(caught.value) == sentence


def test_claims_without_data_cost_nothing():
    message = request(10, lengths=lengths(*[2**32 - 1] * 10), inputs=[x_of(1)])
    with pytest.raises(InvalidRequest, match=r"'x' has shape \[42949672950, 2\] here"):
        read(message, max_chunk=2**32 - 1)


def test_more_bytes_than_may_ever_wait():
    with pytest.raises(InvalidRequest, match="24 bytes of inputs; 23 may wait for a model"):
        read(request(inputs=[x_of(3)]), queue_bytes=23)
    read(request(inputs=[x_of(3)]), queue_bytes=24)


@pytest.mark.parametrize("names", [["x"], ["k", "k"], ["x", "k", "z"], []])
def test_two_inputs_are_both_needed(names):
    makers = {"x": x_of, "k": k_of, "z": lambda steps: tensor("z", np.zeros(steps, F4))}
    with pytest.raises(InvalidRequest, match=r"the inputs \['x', 'k'\] were expected, each once"):
        read(request(inputs=[makers[name](3) for name in names]), TWO)


def test_two_inputs_in_any_order():
    columns = read(request(inputs=[k_of(3), x_of(3)]), TWO)
    assert columns.inputs == (x_of(3).data, k_of(3).data)


def test_empty_columns_mean_one_step_each_and_no_check():
    batch = read(request(inputs=[x_of(3)]))
    assert (batch.rows, batch.lengths, batch.first_step, batch.steps) == (3, b"", b"", 3)


def test_lengths_that_are_all_1_are_like_none():
    batch = read(request(lengths=lengths(1, 1, 1), inputs=[x_of(3)]))
    assert (batch.lengths, batch.steps) == (b"", 3)
    batch = read(request(lengths=lengths(0, 1, 2), inputs=[x_of(3)]))
    assert (batch.lengths, batch.steps) == (lengths(0, 1, 2), 3)


@given(
    rows=st.lists(
        st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 7), st.integers(0, 2**64 - 1)),
        min_size=1,
        max_size=10,
    )
)
def test_what_is_valid_comes_through(rows):
    handles, steps, first = zip(*rows, strict=True)
    total = sum(steps)
    message = sessions_pb2.StepRequest(
        handles=column("<u8", *handles),
        lengths=lengths(*steps),
        first_step=column("<u8", *first),
        delivered=column("<u8", *first),
        inputs=[k_of(total), x_of(total)],
    )
    batch = read(sessions_pb2.StepRequest.FromString(message.SerializeToString()), TWO)
    assert batch.rows == len(rows)
    assert batch.handles == message.handles
    assert batch.lengths == (b"" if set(steps) == {1} else message.lengths)
    assert batch.first_step == message.first_step
    assert batch.steps == total
    assert batch.inputs == (x_of(total).data, k_of(total).data)


def test_handles_of_calls():
    assert read_handles(column("<u8", 7, 2**64 - 1)).tolist() == [7, 2**64 - 1]
    with pytest.raises(InvalidRequest, match="handles has 0 bytes"):
        read_handles(b"")


def test_initial_states():
    given_states = {"s": tensor("s", np.ones((2, 3), F4))}
    assert read_states(given_states, ONE, 2)["s"].tolist() == [[1] * 3] * 2
    assert read_states({}, ONE, 2) == {}
    with pytest.raises(InvalidRequest, match=r"the model has the states \['s'\]; 'z' came"):
        read_states({"z": given_states["s"]}, ONE, 2)
    with pytest.raises(InvalidRequest, match=r"'s' has shape \[3, 3\] here"):
        read_states(given_states, ONE, 3)
    with pytest.raises(InvalidRequest, match="initial state 's' holds a value that is not finite"):
        read_states({"s": tensor("s", np.full((1, 3), np.inf, F4))}, ONE, 1)


def test_an_answer_in_full():
    response = sessions_pb2.StepResponse(id=5)
    AnswerWriter(ONE).write(
        Answer(
            done=True,
            applied=column("<u8", 3, 2**40),
            durable=column("<u8", 2, 7),
            lengths=column("<u4", 1, 2),
            steps=3,
            outputs=(column("<f4", 1, 2, 3),),
        ),
        response,
    )
    assert response.id == 5
    assert response.done
    assert (response.rows, response.status, response.errors) == (b"", b"", [])
    assert np.frombuffer(response.applied, wire.STEP_COUNT_DTYPE).tolist() == [3, 2**40]
    assert np.frombuffer(response.durable, wire.STEP_COUNT_DTYPE).tolist() == [2, 7]
    assert np.frombuffer(response.lengths, wire.LENGTH_DTYPE).tolist() == [1, 2]
    (y,) = response.outputs
    assert (y.name, y.dtype, list(y.shape)) == ("y", tensor_pb2.DATA_TYPE_FLOAT32, [3, 1])
    assert np.frombuffer(y.data, F4).tolist() == [1, 2, 3]


def test_a_part_of_an_answer_with_failures():
    response = sessions_pb2.StepResponse()
    AnswerWriter(ONE).write(
        Answer(
            done=False,
            rows=column("<u4", 1, 4),
            status=bytes([0, RowStatus.BUSY]),
            applied=column("<u8", 1, 0),
            durable=column("<u8", 0, 0),
            lengths=column("<u4", 1, 0),
            steps=1,
            outputs=(column("<f4", 1),),
            errors=[(4, "full")],
            retry_after_ms=50,
        ),
        response,
    )
    assert not response.done
    assert np.frombuffer(response.rows, wire.ROW_DTYPE).tolist() == [1, 4]
    assert list(response.status) == [0, sessions_pb2.ROW_STATUS_BUSY]
    assert [(error.row, error.message) for error in response.errors] == [(4, "full")]
    assert response.retry_after_ms == 50


def test_statuses_are_the_protocols():
    ours = {f"ROW_STATUS_{status.name}": status.value for status in RowStatus}
    assert ours == dict(sessions_pb2.RowStatus.items())
