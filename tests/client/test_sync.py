"""The sync client against a real gRPC server."""

import logging
import threading
import time

import numpy as np
import pytest
from google.protobuf import duration_pb2
from google.rpc import code_pb2

import carousel_client as carousel
from carousel.v1 import sessions_pb2 as pb
from tests.client.fake import MODELS, Fake, status


def test_steps_and_chunks(client, fake):
    with client.open("sum") as session:
        assert np.array_equal(session.step([1, 2]), [1, 2])
        assert np.array_equal(session.step([[1, 2], [3, 4]]), [[2, 4], [5, 8]])
        assert (session.applied, session.model, session.version) == (3, "sum", "2")
        assert session.step(np.zeros((0, 2))).shape == (0, 2)
        assert session.info.inputs[0].columns == ("a", "b")
        answer = session.step([0, 0])
        answer += 1  # answers are the caller's own
        assert list(fake.sessions) == [session.id]
    assert client.sessions() == []
    with pytest.raises(carousel.SessionClosed):
        session.step([1, 2])
    session.close()


def test_several_inputs_and_outputs_are_dicts(client):
    with client.open("both") as session:
        answer = session.step({"a": [1, 2], "k": 3})
        assert np.array_equal(answer["y"], [1, 2])
        assert answer["n"] == 6
    with client.open("scalar") as session:
        assert session.step(2.5) == 2.5
        assert session.step([1, 1]).tolist() == [3.5, 4.5]


def test_reset_and_initial_states(client):
    with client.open("sum", version="1", initial_states={"total": [10, 20]}) as session:
        assert session.version == "1"
        assert np.array_equal(session.step([1, 2]), [11, 22])
        session.reset()
        assert session.applied == 0
        assert np.array_equal(session.step([1, 2]), [1, 2])


def test_sessions_outlive_clients_and_can_be_attached_to(fake, client, quick):
    session = client.open("sum", "mine")
    session.step([1, 2])
    with carousel.connect(fake.address, **quick) as other:
        taken = other.attach("sum", "mine")
        assert taken.applied == 1
        assert np.array_equal(taken.step([1, 1]), [2, 3])
        with pytest.raises(carousel.StaleHandle):
            session.step([1, 1])
        session.close()  # not ours any more: neither an error nor its end
        assert [found.id for found in other.sessions()] == ["mine"]
        group = other.attach_many("sum", ["mine"])
        assert group.step([[1, 1]]).shape == (1, 2)
        with pytest.raises(carousel.SessionNotFound):
            other.attach_many("sum", ["mine", "nobody's"])
    assert "mine" in fake.sessions


def test_models_sessions_and_info(client, fake):
    assert [(m.name, m.version) for m in client.models()] == [
        ("both", "1"),
        ("scalar", "1"),
        ("sum", "2"),
        ("sum", "1"),
        ("co2", "1"),
        ("letters", "1"),
        ("weather", "1"),
    ]
    assert client.model("sum", "1").outputs[0].shape == (2,)
    assert client.info().server_id == fake.server_id
    assert client.info().limits.max_chunk == 1000
    client.open_many("sum", [f"s{i}" for i in range(5)])
    client.open("scalar", "x")
    found = client.sessions("sum")  # three pages
    assert [one.id for one in found] == ["s0", "s1", "s2", "s3", "s4"]
    assert (found[0].place, found[0].idle) == ("live", 3.0)
    assert len(client.sessions()) == 6


def test_groups(client, fake):
    with client.open_many("sum", 3) as group:
        assert len(group) == len(set(group.ids)) == 3
        x = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
        assert np.array_equal(group.step(x), np.cumsum(x, axis=1))
        group.reset([0, 2])
        assert group.applied.tolist() == [0, 2, 0]
        assert group.step(np.ones((3, 2))).tolist() == [[1, 1], [11, 13], [1, 1]]
        answers = group.step([np.ones((2, 2)), [], np.ones((1, 2))])
        assert [answer.shape for answer in answers] == [(2, 2), (0, 2), (1, 2)]
        group.reset()
        assert group.applied.tolist() == [0, 0, 0]
        with pytest.raises(carousel.InvalidInput, match="within 0 to 2"):
            group.reset([3])
    assert not fake.sessions


def test_a_group_splits_by_the_servers_limits_and_joins_the_answers(fake, quick):
    fake.limits.max_chunk, fake.limits.queue_rows = 30, 7
    with carousel.connect(fake.address, **quick) as client, client.open_many("sum", 20) as group:
        x = np.random.default_rng(0).integers(-9, 9, (20, 100, 2)).astype(np.float32)
        assert np.array_equal(group.step(x), np.cumsum(x, axis=1))
        assert len(fake.requests) == 12
        assert max(len(step.handles) // 8 for step in fake.requests) == 7


def test_a_group_keeps_the_answers_of_the_rows_that_did_not_fail(client, fake):
    group = client.open_many("sum", ["a", "b", "c"])
    fake.switches.rows = {"b": [(pb.ROW_STATUS_NUMERIC_FAULT, 1)]}
    with pytest.raises(carousel.GroupError, match="1 of 3 rows failed; row 1") as error:
        group.step(np.ones((3, 2, 2)))
    assert isinstance(error.value.errors[1], carousel.NumericFault)
    assert [len(answer) for answer in error.value.answers] == [2, 1, 2]
    assert group.applied.tolist() == [2, 1, 2]
    assert np.array_equal(group.step(np.ones((3, 2))), [[3, 3], [2, 2], [3, 3]])


def test_busy_rows_are_sent_again_in_order(client, fake):
    fake.switches.rows = {"a": [(pb.ROW_STATUS_BUSY, 0)] * 3, "c": [(pb.ROW_STATUS_BUSY, 1)]}
    group = client.open_many("sum", ["a", "b", "c"])
    x = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    assert np.array_equal(group.step(x), np.cumsum(x, axis=1))
    assert len(fake.requests) == 4
    full = status(code_pb2.RESOURCE_EXHAUSTED, "queue full", retry=0.001)
    fake.switches.messages = [full, full]
    assert np.array_equal(group.step(np.zeros((3, 2))), x.sum(axis=1))


def test_stream_yields_as_answers_come_and_reads_ahead_by_a_window(client, fake):
    session, read = client.open("sum"), []

    def source():
        for i in range(100):
            read.append(i)
            yield [i, 1]

    let_go = fake.hold()
    answers = session.stream(source(), window=5)
    waiting = threading.Thread(target=lambda: first.append(next(answers)))
    first = []
    waiting.start()
    time.sleep(0.1)
    assert len(read) == 5
    let_go()
    waiting.join()
    rest = list(answers)
    assert np.array_equal([*first, *rest], np.cumsum([[i, 1] for i in range(100)], axis=0))
    assert len(fake.requests) < 100  # what waited travelled together


def test_stream_gives_an_answer_before_the_next_input_is_there(client):
    session, gate = client.open("sum"), threading.Event()

    def source():
        yield [1, 2]
        assert gate.wait(5)
        yield [3, 4]

    answers = session.stream(source())
    assert next(answers).tolist() == [1, 2]
    gate.set()
    assert [answer.tolist() for answer in answers] == [[4, 6]]


def test_stream_copies_what_the_source_reuses(client):
    session, buffer = client.open("sum"), np.zeros(2, np.float32)

    def source():
        for i in range(50):
            buffer[:] = i
            yield buffer

    assert list(session.stream(source()))[-1].tolist() == [1225, 1225]


def test_stream_ends_with_what_the_source_or_the_server_raises(client, fake):
    def source():
        yield [1, 2]
        raise OSError("the microphone is gone")

    answers = client.open("sum").stream(source())
    assert next(answers).tolist() == [1, 2]
    with pytest.raises(OSError, match="microphone"):
        next(answers)
    fake.switches.rows = {"s": [(0, 1), (pb.ROW_STATUS_INVALID, 0)]}
    session = client.open("sum", "s")
    answers = session.stream([[1, 1], [2, 2], [3, 3]], window=1)
    assert next(answers).tolist() == [1, 1]
    with pytest.raises(carousel.InvalidInput):
        next(answers)
    with pytest.raises(carousel.InvalidInput, match="window"):
        session.stream([], window=0)


def test_threads_share_a_client(client):
    sessions, failures = [client.open("sum") for _ in range(4)], []
    shared = client.open("scalar")

    def work(session):
        try:
            for i in range(100):
                assert session.step([1, 2]).tolist() == [i + 1, 2 * i + 2]
                shared.step(1)
        except Exception as error:  # noqa: BLE001, told below
            failures.append(error)

    threads = [threading.Thread(target=work, args=[session]) for session in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert shared.step(0) == 400
    assert shared.applied == 401


def test_a_deadline_releases_the_caller_and_the_session_goes_on(client, fake):
    session, let_go = client.open("sum"), fake.hold()
    begin = time.monotonic()
    with pytest.raises(carousel.DeadlineExceeded) as error:
        session.step([1, 2], timeout=0.05)
    assert time.monotonic() - begin < 1
    assert isinstance(error.value, TimeoutError)
    assert fake.requests[0].timeout_ms in range(1, 51)
    let_go()
    assert session.step([1, 2]).tolist() == [2, 4]  # the late steps still counted
    assert session.applied == 2
    with pytest.raises(carousel.InvalidInput, match="timeout"):
        session.step([1, 2], timeout=0)


def test_a_group_keeps_its_answers_when_the_deadline_comes(client, fake):
    group = client.open_many("sum", ["a", "b"])
    fake.switches.rows = {"b": [(pb.ROW_STATUS_DEADLINE, 1)]}
    with pytest.raises(carousel.GroupError) as error:
        group.step(np.ones((2, 2, 2)), timeout=5)
    assert isinstance(error.value.errors[1], carousel.DeadlineExceeded)
    assert [len(answer) for answer in error.value.answers] == [2, 1]


def test_errors_of_calls(client, fake):
    with pytest.raises(carousel.ModelNotFound, match="there are"):
        client.open("nothing")
    with pytest.raises(carousel.ModelNotFound):
        client.model("nothing")
    client.open("sum", "taken")
    with pytest.raises(carousel.SessionExists):
        client.open("sum", "taken")
    fake.expired.add("old")
    with pytest.raises(carousel.SessionExpired):
        client.attach("sum", "old")
    with pytest.raises(carousel.SessionNotFound):
        client.attach("sum", "never")
    fake.switches.calls["Open"] = [status(code_pb2.RESOURCE_EXHAUSTED, "full", retry=0.5)]
    with pytest.raises(carousel.ResourceExhausted, match="full") as error:
        client.open("sum")
    assert error.value.retry_after == 0.5
    for ids in ([], ["a", "a"], ["x" * 129], [""]):
        with pytest.raises(carousel.InvalidInput):
            client.open_many("sum", ids)
    with pytest.raises(carousel.InvalidInput, match="list of ids"):
        client.open_many("sum", "abc")


def test_open_is_made_again_when_its_answer_was_lost(client, fake):
    fake.switches.after_calls["Open"] = [status(code_pb2.UNAVAILABLE)]
    session = client.open("sum")
    assert list(fake.sessions) == [session.id]
    assert session.step([1, 2]).tolist() == [1, 2]
    fake.switches.after_calls["Open"] = [status(code_pb2.UNAVAILABLE)]
    with pytest.raises(carousel.SessionExists):  # with an id of the user's it may be another's
        client.open("sum", "chosen")


def test_calls_wait_for_a_server_that_is_away(client, fake):
    fake.switches.calls["Models"] = [status(code_pb2.UNAVAILABLE)] * 3
    assert len(client.models()) == len(MODELS)


def test_a_broken_stream_is_opened_again_and_steps_that_did_not_run_are_sent_again(client, fake):
    session, group = client.open("sum"), client.open_many("sum", 3)
    fake.switches.breaks = ["", "before", "before"]
    for i in range(3):
        assert session.step([1, 2]).tolist() == [i + 1, 2 * i + 2]
    assert fake.attaches == [[session.id]] * 2
    fake.switches.breaks = ["before"]
    assert group.step(np.ones((3, 2))).tolist() == [[1, 1]] * 3


def test_steps_whose_answers_went_with_the_connection_are_named(client, fake):
    session = client.open("sum", "s")
    session.step([1, 1])
    fake.switches.breaks = ["after"]
    with pytest.raises(carousel.AnswersLost, match="steps 1 to 2") as error:
        session.step([[1, 1], [1, 1]])
    assert (error.value.steps, error.value.session, error.value.applied) == (range(1, 3), "s", 3)
    assert session.step([1, 1]).tolist() == [4, 4]


def test_a_server_that_started_again_has_lost_the_sessions(client, fake):
    session, idle = client.open("sum"), client.open("sum")
    session.step([1, 1])
    fake.restart()
    for lost in (session, idle):
        with pytest.raises(carousel.SessionLost):
            lost.step([1, 1])
    assert client.open("sum").step([1, 1]).tolist() == [1, 1]


def test_a_reset_finds_out_that_the_server_started_again(client, fake):
    session = client.open("sum")
    session.step([1, 1])
    fake.restart()
    time.sleep(0.1)  # until the client has seen the end of its stream
    with pytest.raises(carousel.SessionLost):
        session.reset()
    session.close()
    with pytest.raises(carousel.SessionLost):
        session.reset()


def test_leaving_a_with_block_does_not_wait_for_a_server_that_is_gone(fake, quick):
    with carousel.connect(fake.address, **(quick | {"timeout": 0.4})) as client:
        session = client.open("sum")
        fake.stop()
        begin = time.monotonic()
        with pytest.raises(carousel.Unavailable), session:
            session.step([1, 1])
        assert time.monotonic() - begin < 0.9
    fake.start()


def test_some_of_a_groups_sessions_may_be_gone(client, fake):
    group = client.open_many("sum", [f"s{i}" for i in range(9)])
    group.step(np.ones((9, 2)))
    for name in ("s2", "s7"):
        fake.end(fake.sessions[name])
    fake.switches.breaks = ["before"]
    with pytest.raises(carousel.GroupError) as error:
        group.step(np.ones((9, 2)))
    assert {row: type(one) for row, one in error.value.errors.items()} == {
        2: carousel.SessionNotFound,
        7: carousel.SessionNotFound,
    }
    assert [len(answer) for answer in error.value.answers] == [1, 1, 0, 1, 1, 1, 1, 0, 1]


def test_a_connection_that_does_not_come_back_is_given_up(fake, quick):
    with carousel.connect(fake.address, **(quick | {"timeout": 0.3})) as client:
        session = client.open("sum")
        session.step([1, 1])
        fake.stop()
        with pytest.raises(carousel.Unavailable):
            session.step([1, 1])
        with pytest.raises(carousel.Unavailable, match=r"0\.3 s"):
            session.step([1, 1])
        fake.start()
        assert session.step([1, 1]).tolist() == [2, 2]
    with pytest.raises(carousel.ClientClosed):
        session.step([1, 1])
    client.close()


def test_without_reconnect_the_first_break_is_an_error(fake, quick):
    with carousel.connect(fake.address, reconnect=False, **quick) as client:
        session = client.open("sum")
        fake.switches.breaks = ["before"]
        with pytest.raises(carousel.ConnectionLost):
            session.step([1, 1])
        assert session.step([1, 1]).tolist() == [1, 1]


def test_connect_waits_for_a_server_that_starts_later(quick):
    server = Fake().start()
    server.stop()
    late = threading.Timer(0.2, server.start)
    late.start()
    try:
        with carousel.connect(server.address, **(quick | {"timeout": 5})) as client:
            assert client.info().version == "0.1.0"
    finally:
        late.join()
        server.stop()


def test_connect_gives_up_in_words(quick):
    begin = time.monotonic()
    with pytest.raises(carousel.Unavailable, match=r"no server at 127\.0\.0\.1:1 answered"):
        carousel.connect("127.0.0.1:1", **(quick | {"timeout": 0.2}))
    assert time.monotonic() - begin < 2
    with pytest.raises(carousel.InvalidInput, match="address"):
        carousel.connect([])
    with pytest.raises(carousel.InvalidInput, match="timeout"):
        carousel.connect("x:1", timeout=0)
    with pytest.raises(carousel.InvalidInput, match="Backoff"):
        carousel.Backoff(initial=0)


def test_connect_takes_the_first_address_that_answers_and_is_not_going_down(fake, quick):
    leaving = Fake().start()
    leaving.draining = True
    try:
        with carousel.connect(["127.0.0.1:1", leaving.address, fake.address], **quick) as client:
            assert client.info().server_id == fake.server_id
        with carousel.connect(leaving.address, **quick) as client:
            assert client.info().draining
    finally:
        leaving.stop()


def test_a_drain_notice_is_logged_and_told(fake, quick, caplog):
    told = []
    fake.switches.drain = pb.DrainNotice(
        leaves_in=duration_pb2.Duration(seconds=30), saved_to="the store"
    )
    with (
        caplog.at_level(logging.WARNING),
        carousel.connect(fake.address, on_drain=told.append, **quick) as client,
    ):
        client.open("sum").step([1, 1])
    assert told == [carousel.Drain(leaves_in=30.0, saved_to="the store")]
    assert "goes down in 30 s" in caplog.text
    fake.switches.messages = [status(code_pb2.UNAVAILABLE, "draining")]
    with carousel.connect(fake.address, on_drain=lambda _: 1 / 0, **quick) as client:
        session = client.open("sum")
        with pytest.raises(carousel.Unavailable, match="draining"):
            session.step([1, 1])
    assert "on_drain failed" in caplog.text


def test_closing_the_client_releases_those_who_wait(client, fake):
    session, seen = client.open("sum"), []
    let_go = fake.hold()

    def wait():
        try:
            session.step([1, 1])
        except carousel.CarouselError as error:
            seen.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.05)
    client.close()
    waiting.join(5)
    let_go()
    assert [type(error) for error in seen] == [carousel.ClientClosed]


def test_the_end_of_a_with_block_does_not_hide_what_ended_it(client, fake):
    fake.switches.calls["Close"] = [status(code_pb2.INTERNAL, "broken")] * 2
    with pytest.raises(ZeroDivisionError), client.open("sum"):
        1 / 0  # noqa: B018
    with pytest.raises(carousel.ServerError, match="broken"), client.open("sum"):
        pass


def test_reset_waits_for_the_steps_before_it(client, fake):
    session, let_go = client.open("sum"), fake.hold()
    results = []
    step = threading.Thread(target=lambda: results.append(session.step([1, 1])))
    step.start()
    while not fake.requests:
        time.sleep(0.005)
    reset = threading.Thread(target=session.reset)
    reset.start()
    time.sleep(0.05)
    assert reset.is_alive()
    let_go()
    step.join()
    reset.join()
    assert session.step([5, 5]).tolist() == [5, 5]


def test_two_threads_of_the_clients_may_close_it_at_once(quick):
    """Both are in `on_drain`; neither may wait for the other's end."""
    fakes = [Fake().start(), Fake().start()]
    both, closed = threading.Barrier(2, timeout=30), []

    def on_drain(_):
        both.wait()
        client.close()
        closed.append(1)

    try:
        client = carousel.connect([one.address for one in fakes], on_drain=on_drain, **quick)
        threads = []
        for one in fakes:
            one.switches.drain = pb.DrainNotice()  # told as soon as a stream is opened
            client._link.flows.current = one.address
            client._link.run(client._link.flows.reach(one.address, 10.0))
            session = client.open("sum")
            client._link.start(session._block([1, 2], None))
            threads += [lane.thread for lane in client._link._lanes]
        for thread in threads:
            thread.join(30)
        assert closed == [1, 1]
    finally:
        for one in fakes:
            one.stop()
