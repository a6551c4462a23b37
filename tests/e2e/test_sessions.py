"""Sessions of a real server: thousands interleaved, reset, taken up elsewhere, raced."""

from __future__ import annotations

import threading

import grpc
import numpy as np
import pytest

from carousel import wire
from carousel.v1 import sessions_pb2
from tests.support import models, raw
from tests.support.raw import applied, output, statuses, step_request
from tests.support.solo import solo_answers

FEATURES = 3


def inputs(session: int, steps: int) -> np.ndarray:
    """Return a session's own inputs, (T, F)."""
    return np.random.default_rng(session).normal(size=(steps, FEATURES)).astype(np.float32)


def test_a_thousand_interleaved_sessions_equal_their_solo_runs(client):
    """Sessions come, step at random, and go while others run; every answer is checked."""
    rng = np.random.default_rng(0)
    stream = client.stream()
    waiting = list(range(1000))
    live: dict[int, tuple[raw.Opened, int]] = {}
    lengths = rng.integers(1, 12, 1000)
    answers: dict[int, list[np.ndarray]] = {session: [] for session in waiting}
    while waiting or live:
        newcomers = [waiting.pop() for _ in range(min(len(waiting), int(rng.integers(0, 150))))]
        if newcomers:
            opened = client.open("lstm", len(newcomers))
            for place, session in enumerate(newcomers):
                live[session] = (_only(opened, place), 0)
        if not live:
            continue
        chosen = rng.permutation(list(live))[: rng.integers(1, len(live) + 1)].tolist()
        group = _together([live[session][0] for session in chosen])
        at = [live[session][1] for session in chosen]
        x = np.stack([inputs(s, lengths[s])[t] for s, t in zip(chosen, at, strict=True)])
        (answer,) = stream.ask(step_request(group, x, first_step=at))
        for session, y in zip(chosen, output(answer), strict=True):
            answers[session].append(y)
            live[session] = (live[session][0], live[session][1] + 1)
        done = [session for session in chosen if live[session][1] == lengths[session]]
        if done:
            assert client.close(_together([live.pop(session)[0] for session in done])) == b""
    stream.end()
    for session, steps in enumerate(lengths):
        expected = solo_answers(models.lstm(), inputs(session, steps))
        np.testing.assert_allclose(np.stack(answers[session]), expected, rtol=1e-5, atol=1e-5)


def test_reset_equals_a_new_session(client):
    opened = client.open("lstm", 2)
    x = np.stack([inputs(1, 6), inputs(2, 6)])  # (N, T, F)
    for t in range(6):
        client.step(step_request(opened, x[:, t]))
    assert client.reset(opened) == b""
    fresh = client.open("lstm", 2)
    for t in range(6):
        again = client.step(step_request(opened, x[:, t], first_step=[t, t]))
        new = client.step(step_request(fresh, x[:, t], first_step=[t, t]))
        assert output(again).tolist() == output(new).tolist()


def test_state_survives_between_streams_and_connections(client, server):
    opened = client.open("lstm", ids=["wanderer"])
    x = inputs(5, 9)
    expected = solo_answers(models.lstm(), x)
    stream = client.stream()
    first = [output(stream.one(step_request(opened, x[t : t + 1])))[0] for t in range(3)]
    stream.end()
    stream = client.stream()
    second = [output(stream.one(step_request(opened, x[t : t + 1])))[0] for t in range(3, 6)]
    stream.end()
    with raw.connect(server.address) as other:
        attached = other.attach("lstm", ["wanderer"])
        assert attached.applied.tolist() == [6]
        third = [output(other.step(step_request(attached, x[t : t + 1])))[0] for t in range(6, 9)]
    np.testing.assert_allclose(first + second + third, expected, rtol=1e-5, atol=1e-5)
    assert statuses(client.step(step_request(opened, x[:1]))) == ["STALE_HANDLE"]


def test_initial_states_sent_by_the_client(client):
    values = np.array([[10, 20], [30, 40]], np.float32)
    opened = client.open("sum", 2, initial_states=[raw.tensor("s", values)])
    assert output(client.step(step_request(opened, np.ones((2, 2))))).tolist() == [
        [11, 21],
        [31, 41],
    ]
    with pytest.raises(grpc.RpcError, match="'s' has shape \\[1, 2\\]"):
        client.open("sum", 1, initial_states=[raw.tensor("s", values)])
    with pytest.raises(grpc.RpcError, match="the model has the states \\['s'\\]; 'z' came"):
        client.open("sum", 2, initial_states=[raw.tensor("z", values)])


def test_get_and_list(client):
    ids = [f"listed-{n:02}" for n in range(7)]
    opened = client.open("exploding", ids=ids)
    client.step(step_request(opened, np.zeros((3, 2)), rows=[0, 1, 2]))
    session = client.stub.Get(sessions_pb2.GetSessionRequest(id=ids[0])).session
    assert (session.id, session.model, session.version, session.applied) == (
        ids[0],
        "exploding",
        "1",
        1,
    )
    assert session.place == sessions_pb2.SESSION_PLACE_LIVE
    found, token = [], ""
    while True:
        page = client.stub.List(
            sessions_pb2.ListSessionsRequest(model="exploding", page_size=3, page_token=token)
        )
        found += [(s.id, s.applied) for s in page.sessions if s.id.startswith("listed-")]
        token = page.next_page_token
        if not token:
            break
    assert found == [(name, int(n < 3)) for n, name in enumerate(ids)]
    client.close(opened)


def test_open_step_and_close_race_without_a_leak(server):
    """Clients open, step and close as fast as they can, and misuse each other's old handles.

    Every client streams a number of its own into running sums, so a state that belonged to
    somebody else would show in the answer.
    """
    stale: list[raw.Opened] = []
    wrong: list[str] = []

    def client_loop(seed: int) -> None:
        rng = np.random.default_rng(seed)
        with raw.connect(server.address) as client:
            for _ in range(40):
                count = int(rng.integers(1, 30))
                opened = client.open("sum", count)
                mine = np.full((count, 2), seed + 1, np.float32)
                for step in range(int(rng.integers(1, 4))):
                    answer = client.step(step_request(opened, mine, first_step=[step] * count))
                    if not (output(answer) == mine * (step + 1)).all():
                        wrong.append(f"client {seed}: {output(answer)}")
                if stale:
                    old = stale[int(rng.integers(len(stale)))]
                    answer = client.step(step_request(old, np.full((len(old.handles), 2), 1e6)))
                    wrong.extend(s for s in statuses(answer) if s != "STALE_HANDLE")
                client.close(opened)
                stale.append(opened)

    threads = [threading.Thread(target=client_loop, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_answers_of_long_chunks_do_not_hold_up_others(client):
    """A stream's short request is answered before its long one that came first."""
    long, short = client.open("lstm", 1), client.open("lstm", 1)
    stream = client.stream()
    x = inputs(3, 20_000)
    stream.send(step_request(long, x, lengths=[20_000], request_id=1))
    stream.send(step_request(short, x[:1], request_id=2))
    order = [stream.receive().step for _ in range(2)]
    stream.end()
    assert [answer.id for answer in order] == [2, 1]
    expected = solo_answers(models.lstm(), x)
    np.testing.assert_allclose(output(order[1]), expected, rtol=1e-5, atol=1e-5)
    assert applied(order[1]) == [20_000]


def test_a_deadline_stops_a_chunk_between_pieces(client):
    opened = client.open("lstm", 40)
    x = np.zeros((40 * 1000, FEATURES), np.float32)
    request = step_request(opened, x, lengths=[1000] * 40, timeout_ms=1)
    answer = client.step(request)
    assert set(statuses(answer)) == {"DEADLINE"}
    lengths = np.frombuffer(answer.lengths, wire.LENGTH_DTYPE)
    assert (lengths < 1000).all()
    assert applied(answer) == lengths.tolist()
    assert len(output(answer)) == lengths.sum() if lengths.any() else not answer.outputs


def _only(opened: raw.Opened, place: int) -> raw.Opened:
    part = slice(place, place + 1)
    return raw.Opened(
        opened.model,
        opened.version,
        opened.server_id,
        opened.ids[part],
        opened.handles[part],
        opened.applied[part],
    )


def _together(parts: list[raw.Opened]) -> raw.Opened:
    first = parts[0]
    return raw.Opened(
        first.model,
        first.version,
        first.server_id,
        [name for part in parts for name in part.ids],
        np.concatenate([part.handles for part in parts]),
        np.concatenate([part.applied for part in parts]),
    )
