"""Snapshots: what is written is read, and what was changed is refused, whatever it is."""

from __future__ import annotations

import hashlib
import hmac
import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carousel import wire
from carousel.v1 import states_pb2, tensor_pb2
from carousel_server.engine.checkpoints import Gathered
from carousel_server.errors import ConfigError, SnapshotMismatch
from carousel_server.reading import Here
from carousel_server.rpc import states
from carousel_server.rpc.snapshots import Snapshots, read_key
from carousel_server.spec import ModelSpec, StateSpec, TensorSpec

KEY = b"a key of sixteen bytes or more"
F4, I8 = np.dtype("<f4"), np.dtype("<i8")


def state(name: str, dtype: np.dtype, *shape: int) -> StateSpec:
    return StateSpec(name, f"{name}_out", dtype, shape, np.zeros(shape, dtype))


def model(*states: StateSpec, name: str = "m") -> Any:
    """Return as much of a served model as snapshots look at."""
    x = TensorSpec("x", F4, (1,))
    spec = ModelSpec((x,), (x,), states, time_axis=True, sequence_lens="n", max_batch=0)
    return SimpleNamespace(name=name, version="7", sha256="ab" * 32, spec=spec)


MODEL = model(state("h", F4, 2, 3), state("n", I8), state("c", F4, 1))


def gathered(count: int = 1) -> Gathered:
    rng = np.random.default_rng(0)
    zeros = np.zeros(count, np.int64)
    return Gathered(
        entries=zeros,
        handles=zeros.astype(np.uint64),
        ids=["s"] * count,
        opened=zeros.astype(np.float64),
        initial=zeros.astype(np.bool_),
        tokens=zeros,
        lives=zeros,
        timelines=zeros,
        steps=np.arange(count) + 41,
        delivered=zeros,
        stored=zeros.astype(np.bool_),
        reading=Here(
            {
                "h": rng.normal(size=(count, 2, 3)).astype(F4),
                "n": rng.integers(0, 9, count),
                "c": rng.normal(size=(count, 1)).astype(F4),
            }
        ),
    )


def written(key: bytes = b"") -> bytes:
    return Snapshots(key).write(MODEL, gathered())[0]


def sealed(body: states_pb2.SnapshotBody, key: bytes = b"", **fields: Any) -> bytes:
    """Return a snapshot of a body that is as it should be, except for some fields."""
    data = body.SerializeToString()
    return states_pb2.Snapshot(
        **(
            {
                "format": 1,
                "body": data,
                "sha256": hashlib.sha256(data).digest(),
                "signature": hmac.digest(key, data, "sha256") if key else b"",
            }
            | fields
        )
    ).SerializeToString()


def body() -> states_pb2.SnapshotBody:
    snapshot = states_pb2.Snapshot.FromString(written())
    return states_pb2.SnapshotBody.FromString(snapshot.body)


def refusal(data: bytes, key: bytes = b"", of: Any = MODEL) -> SnapshotMismatch:
    with pytest.raises(SnapshotMismatch) as caught:
        Snapshots(key).read(of, data)
    return caught.value


@pytest.mark.parametrize("key", [b"", KEY])
def test_what_is_written_is_read(key):
    snapshots = Snapshots(key)
    for row, data in enumerate(snapshots.write(MODEL, gathered(3))):
        step, states = snapshots.read(MODEL, data)
        assert step == 41 + row
        for name, values in gathered(3).states.items():
            assert states[name].dtype == values.dtype
            np.testing.assert_array_equal(states[name], values[row])


def test_it_says_of_what_it_is():
    said = body()
    assert (said.model, said.version, said.model_sha256) == ("m", "7", "ab" * 32)
    assert said.taken.ToSeconds() > 1_700_000_000


@pytest.mark.parametrize("key", [b"", KEY])
def test_every_changed_byte_is_noticed(key):
    data = written(key)
    for place in range(len(data)):
        for bit in (0, 7):
            changed = bytearray(data)
            changed[place] ^= 1 << bit
            refusal(bytes(changed), key)


@pytest.mark.parametrize("key", [b"", KEY])
def test_every_missing_end_is_noticed(key):
    data = written(key)
    for length in range(len(data)):
        assert "snapshot" in str(refusal(data[:length], key))


def test_a_changed_byte_of_a_state_is_named_as_what_it_is():
    data = bytearray(written())
    place = data.index(gathered().states["h"][0].tobytes())
    data[place + 1] ^= 1
    error = refusal(bytes(data))
    assert error.damaged
    assert str(error) == "the snapshot can't be used: sha256: its body is not what was written"


@pytest.mark.parametrize(
    ("signed", "asked", "sentence"),
    [
        (b"", b"", None),
        (KEY, KEY, None),
        (KEY, b"", None),
        (b"", KEY, "signature: it has none, and this server takes signed ones only"),
        (KEY, KEY + b"!", "signature: it was not signed with this server's key"),
    ],
)
def test_keys(signed, asked, sentence):
    if sentence is None:
        assert Snapshots(asked).read(MODEL, written(signed))[0] == 41
        return
    error = refusal(written(signed), asked)
    assert error.damaged
    assert sentence in str(error)


def test_a_sum_made_anew_does_not_help_against_a_key():
    forged = body()
    forged.applied = 1000
    assert "signature" in str(refusal(sealed(forged, b"another key of 16+ bytes"), KEY))
    assert Snapshots().read(MODEL, sealed(forged))[0] == 1000


@pytest.mark.parametrize("number", [0, 2, 2**32 - 1])
def test_a_format_of_the_future(number):
    error = refusal(sealed(body(), format=number))
    assert not error.damaged
    assert f"format: it has {number}, this server reads 1 to 1" in str(error)


@pytest.mark.parametrize("count", [2**53 + 1, 2**63, 2**64 - 1])
def test_more_steps_than_anybody_can_take(count):
    forged = body()
    forged.applied = count
    error = refusal(sealed(forged))
    assert error.damaged
    assert f"applied: it has {count} steps" in str(error)


@pytest.mark.parametrize(
    ("of", "sentence"),
    [
        (
            model(state("h", F4, 2, 3), state("c", F4, 1)),
            "states: it has ['c', 'h', 'n'], m has ['c', 'h']",
        ),
        (
            model(state("h", F4, 3, 2), state("n", I8), state("c", F4, 1)),
            "shape of state 'h': it has [2, 3], m has [3, 2]",
        ),
        (
            model(state("h", F4, 2, 3), state("n", F4), state("c", F4, 1)),
            "dtype of state 'n': it has int64, m has float32",
        ),
        (
            model(state("h", F4, 2, 3), state("n", np.dtype("<i4")), state("c", F4, 1)),
            "dtype of state 'n': it has int64, m has int32",
        ),
    ],
)
def test_a_model_with_other_states(of, sentence):
    error = refusal(written(), of=of)
    assert not error.damaged
    assert str(error) == f"the snapshot does not fit: {sentence}"


def test_another_name_or_version_with_the_same_states_is_welcome():
    other = model(*MODEL.spec.states, name="other")
    assert Snapshots().read(other, written())[0] == 41


@pytest.mark.parametrize("dtype", ["<f2", "<f8"])
def test_floats_of_another_width_are_cast(dtype):
    kind = np.dtype(dtype)
    other = model(state("h", kind, 2, 3), state("n", I8), state("c", kind, 1))
    _, states = Snapshots().read(other, written())
    assert states["h"].dtype == kind
    np.testing.assert_allclose(states["h"], gathered().states["h"][0], rtol=1e-3)


def test_a_float_that_a_narrower_one_cant_hold():
    forged = body()
    forged.states[0].data = np.full((2, 3), 1e6, F4).tobytes()
    other = model(state("h", np.dtype("<f2"), 2, 3), state("n", I8), state("c", F4, 1))
    assert "state 'h' holds a value that is not finite" in str(refusal(sealed(forged), of=other))


def tensor(**fields: Any) -> tensor_pb2.Tensor:
    kept = body().states[0]
    for name, value in fields.items():
        if name == "shape":
            del kept.shape[:]
            kept.shape.extend(value)
        else:
            setattr(kept, name, value)
    return kept


@pytest.mark.parametrize(
    ("changed", "damaged", "sentence"),
    [
        (tensor(data=bytes(23)), True, "state 'h' has 23 bytes; 24 were expected"),
        (tensor(data=b""), True, "state 'h' has 0 bytes; 24 were expected"),
        (tensor(data=np.full(6, np.nan, F4).tobytes()), True, "that is not finite"),
        (tensor(data=np.full(6, np.inf, F4).tobytes()), True, "that is not finite"),
        (tensor(dtype=0), False, "dtype of state 'h': it has data type 0"),
        (tensor(dtype=9999), False, "it has data type 9999"),
        (tensor(dtype=tensor_pb2.DATA_TYPE_INT64), False, "it has int64, m has float32"),
        (tensor(shape=[6]), False, "shape of state 'h': it has [6]"),
        (tensor(shape=[-1, -6]), False, "shape of state 'h'"),
        (tensor(shape=[2**40, 2**40]), False, "shape of state 'h'"),
        (tensor(shape=[]), False, "shape of state 'h'"),
        (tensor(name="g"), False, "states: it has ['c', 'g', 'n']"),
        (tensor(name="c"), False, "states: "),
    ],
)
def test_states_that_were_made_up(changed, damaged, sentence):
    forged = body()
    forged.states[0].CopyFrom(changed)
    error = refusal(sealed(forged))
    assert error.damaged == damaged
    assert sentence in str(error)


def test_a_state_that_is_there_twice_or_not_at_all():
    forged = body()
    forged.states.append(forged.states[0])
    assert "states" in str(refusal(sealed(forged)))
    del forged.states[:]
    assert "states: it has []" in str(refusal(sealed(forged)))


def test_a_body_that_is_none():
    junk = b"\xff\xff\xff"
    data = states_pb2.Snapshot(
        format=1, body=junk, sha256=hashlib.sha256(junk).digest()
    ).SerializeToString()
    assert "its body is no SnapshotBody" in str(refusal(data))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_refused_in_words(data):
    refusal(data)
    refusal(data, KEY)


@settings(max_examples=300, deadline=None)
@given(
    st.fixed_dictionaries(
        {
            "format": st.integers(0, 3),
            "body": st.binary(max_size=200),
            "signature": st.binary(max_size=40),
        }
    )
)
def test_any_snapshot_with_a_right_sum_is_refused_in_words(fields):
    total = hashlib.sha256(fields["body"]).digest()
    refusal(states_pb2.Snapshot(sha256=total, **fields).SerializeToString())


_TENSORS = st.builds(
    tensor_pb2.Tensor,
    name=st.sampled_from(["h", "n", "c", "", "x" * 300]),
    dtype=st.integers(0, 20) | st.sampled_from(list(wire.NUMPY_DTYPES)),
    shape=st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 3), max_size=4)
    | st.sampled_from([[2, 3], [], [1]]),
    data=st.binary(max_size=64) | st.sampled_from([bytes(24), bytes(8), bytes(4)]),
)


@settings(max_examples=500, deadline=None)
@given(
    st.builds(
        states_pb2.SnapshotBody,
        model=st.text(max_size=20),
        applied=st.integers(0, 2**64 - 1),
        states=st.lists(_TENSORS, max_size=5)
        | st.tuples(*(_TENSORS.map(lambda t, n=n: _named(t, n)) for n in "hnc")).map(list),
    )
)
def test_any_body_is_read_or_refused_in_words(made):
    found = read_or_refused(sealed(made))
    if isinstance(found, SnapshotMismatch):
        assert str(found).startswith("the snapshot ")
        assert len(str(found)) < 1000
    else:
        step, states = found
        assert 0 <= step <= 2**53
        assert {name: (v.shape, v.dtype) for name, v in states.items()} == {
            state.name: (state.shape, state.dtype) for state in MODEL.spec.states
        }


def read_or_refused(data: bytes) -> tuple[int, dict[str, np.ndarray]] | SnapshotMismatch:
    try:
        return Snapshots().read(MODEL, data)
    except SnapshotMismatch as error:
        return error


def test_words_about_a_snapshot_fit_into_a_header():
    forged = body()
    for number in range(3000):
        forged.states.add(name=f"state {number}")
    assert len(str(refusal(sealed(forged)))) < 1000
    forged = body()
    forged.states[0].shape.extend(range(100_000))
    assert len(str(refusal(sealed(forged)))) < 1000


def _named(made: tensor_pb2.Tensor, name: str) -> tensor_pb2.Tensor:
    made.name = name
    return made


def test_reading_a_key(tmp_path):
    path = tmp_path / "key"
    path.write_bytes(KEY + b"\n")
    assert read_key(path) == KEY
    assert read_key(None) == b""
    path.write_bytes(b"short")
    with pytest.raises(ConfigError, match="16 bytes or more were expected, 5 came"):
        read_key(path)
    with pytest.raises(ConfigError, match="No such file"):
        read_key(tmp_path / "none")


async def test_states_on_their_way_are_waited_for_beside_the_event_loop():
    threads = []

    class Coming:
        done = False

        def get(self):
            threads.append(threading.current_thread())
            return {}

    made = gathered()
    await states._come(made)
    made.reading = Coming()
    await states._come(made)
    (thread,) = threads
    assert thread is not threading.current_thread()
