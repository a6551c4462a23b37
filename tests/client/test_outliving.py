"""What a session that outlives its server does in each case, without a network."""

import numpy as np
import pytest
from google.rpc import code_pb2

import carousel_client as carousel
from carousel.v1 import sessions_pb2 as pb
from carousel_client import _controls as controls
from tests.client.fake import snapshot, status
from tests.client.world import World, data, sums


def stepped(world, roster, x):
    call = world.submit(roster, x)
    world.settle()
    return call.result()


def test_a_lost_server_is_made_up_for_from_the_newest_checkpoint():
    world = World(2, save_every=10)
    roster, x = world.open(), data(36)
    assert np.array_equal(stepped(world, roster, x[:35]), sums(x)[:35])
    begin, world.now = world.now, world.now + 5
    world.kill("server0")
    assert np.array_equal(stepped(world, roster, x[35]), sums(x)[35])
    (event,) = world.told
    assert (event.sessions, event.sources, event.targets) == (1, ("server0",), ("server1",))
    assert event.replayed == 0  # a chunk of 35 steps was saved at its end
    assert 0 < event.seconds < world.now - begin
    assert "1 session went on from server0 to server1 after" in str(event)


def test_steps_that_the_store_does_not_cover_are_sent_again():
    world = World(2, save_every=10)
    roster, x = world.open(), data(30)
    for i in range(25):
        stepped(world, roster, x[i])
    world.kill("server0")
    answers = [stepped(world, roster, one) for one in x[25:]]
    assert np.array_equal(answers, sums(x)[25:])
    assert world.told[0].replayed == 5
    server = world.servers["server1"]
    (replay, *_) = [step for step in server_requests(world) if len(step.lengths)]
    assert np.frombuffer(replay.lengths, "<u4").tolist() == [5]
    assert np.frombuffer(replay.first_step, "<u8").tolist() == [20]
    assert np.frombuffer(replay.delivered, "<u8").tolist() == [25]
    assert server.sessions[roster.ids[0]].applied == 30


def server_requests(world):
    return world.requests["server1"]


def test_inputs_are_forgotten_as_the_store_covers_them_and_when_the_session_ends():
    world = World(1, save_every=10)
    roster, group = world.open(), world.open(3)
    for i in range(14):
        stepped(world, roster, [i, i])
        stepped(world, group, np.full((3, 2), i))
    assert world.exchange.ledger.held == (1 + 3) * 4 * 8
    assert roster.keep.floor.tolist() == [10]
    for one in (roster, group):
        world.run(world.flows.control(controls.CLOSE, one, np.arange(len(one.ids))))
    assert world.exchange.ledger.held == 0


def test_a_group_keeps_little_for_rows_that_are_idle():
    world = World(1, save_every=5, replay_bytes=400)
    group = world.open(3)
    for i in range(100):
        stepped(world, group, [[[i, i]], [[i, i]], [[1, 1]] if i == 0 else []])
    assert world.exchange.ledger.held <= 400
    world.boot("server0")
    assert stepped(world, group, np.ones((3, 2)))[2].tolist() == [2, 2]


def test_too_much_to_hold_is_refused_in_words_and_nothing_is_forgotten():
    world = World(2, replay_bytes=100)
    roster, x = world.open(), data(14)
    for i in range(12):
        stepped(world, roster, x[i])
    with pytest.raises(
        carousel.ReplayFull, match=r"96 bytes .* 12 steps, of which the store"
    ) as full:
        world.submit(roster, x[12])
    assert "replay_bytes" in str(full.value)
    world.kill("server0")
    world.exchange.ledger.limit = 1000
    assert np.array_equal(stepped(world, roster, x[12]), sums(x)[12])


def test_the_application_may_use_its_buffers_again():
    world = World(2)
    roster, group = world.open(), world.open(2)
    buffer, wide = np.zeros(2, np.float32), np.zeros((2, 2), np.float32)
    for i in range(5):
        buffer[:], wide[:] = i, i
        call, other = world.submit(roster, buffer), world.submit(group, wide)
        buffer[:], wide[:] = 99, 99
        world.settle()
        assert call.result().tolist() == [sum(range(i + 1))] * 2
        assert other.result().tolist() == [[sum(range(i + 1))] * 2] * 2
    world.kill("server0")
    assert stepped(world, roster, [0, 0]).tolist() == [10, 10]
    assert stepped(world, group, np.zeros((2, 2))).tolist() == [[10, 10]] * 2


@pytest.mark.parametrize("initial", [None, {"total": [[5, 5], [7, 7]]}])
def test_sessions_whose_record_is_gone_are_opened_again(initial):
    world = World(2, shared=False)
    group = world.open(2, resume=True, states=initial)
    before = stepped(world, group, np.ones((2, 3, 2)))
    world.kill("server0")
    world.boot("server0")
    after = stepped(world, group, np.ones((2, 2)))
    assert np.array_equal(after, before[:, 2] + 1)
    assert world.servers["server0"].opens == [list(group.ids)]
    assert world.told[0].replayed == 6


def test_sessions_of_snapshots_are_restored_again():
    world = World(1, shared=False)
    first = world.open(resume=True)
    stepped(world, first, [[1, 1], [2, 2]])
    saved = snapshot_of(world, first)
    roster = world.run(world.flows.restore("sum", [saved], ["again"], resume=True))
    assert stepped(world, roster, [1, 1]).tolist() == [4, 4]
    world.kill("server0")
    world.boot("server0")
    assert stepped(world, roster, [1, 1]).tolist() == [5, 5]
    assert roster.applied.tolist() == [4]


def snapshot_of(world, roster):
    return snapshot(world.servers["server0"].sessions[roster.ids[0]])


def test_a_record_that_is_gone_with_inputs_that_were_forgotten_is_a_loss():
    world = World(2, save_every=2)
    roster = world.open()
    stepped(world, roster, [[1, 1], [1, 1]])
    world.kill("server0")
    world.store.records.clear()
    with pytest.raises(carousel.SessionLost, match="its server is gone"):
        stepped(world, roster, [1, 1])
    assert world.exchange.ledger.held == 0


def test_a_session_that_somebody_else_took_stays_theirs():
    world = World(2)
    roster = world.open(ids=["mine"])
    stepped(world, roster, [1, 1])
    world.servers["server0"].attach(pb.AttachRequest(model="sum", ids=["mine"]))
    with pytest.raises(carousel.StaleHandle):
        stepped(world, roster, [1, 1])
    with pytest.raises(carousel.StaleHandle):
        stepped(world, roster, [1, 1])


def test_a_stream_that_reaches_another_process_finds_its_session_there():
    world = World(1, save_every=1)
    roster = world.open()
    stepped(world, roster, [1, 1])
    world.kill("server0")
    world.boot("server0")
    for host in world.exchange.hosts.values():
        host.doubted = False  # as if nobody had noticed
    assert stepped(world, roster, [1, 1]).tolist() == [2, 2]


def test_sessions_of_a_group_may_be_at_several_servers():
    world = World(2, save_every=1)
    group, x = world.open(6), data(12).reshape(6, 2, 2)
    stepped(world, group, x[:, 0])
    second = world.servers["server1"]
    other = world.run(world.flows.find_server())
    for name in group.ids[::2]:
        second.take(name, None)
    assert np.array_equal(stepped(world, group, x[:, 1]), x.sum(axis=1))
    assert group.host is None
    assert sorted(second.sessions) == sorted(group.ids[::2])
    world.run(world.flows.control(controls.mark("m"), group, np.arange(6)))
    stepped(world, group, x[:, 1])
    result = world.run(world.flows.control(controls.rewind("m"), group, np.arange(6)))
    assert (result.errors, group.applied.tolist()) == ({}, [2] * 6)
    assert np.array_equal(stepped(world, group, x[:, 1]), x.sum(axis=1) + x[:, 1])
    assert other is not None


def test_a_session_is_followed_to_where_it_is():
    world = World(3, save_every=1)
    roster = world.open()
    stepped(world, roster, [1, 1])
    first, _, third = world.servers.values()
    first.detach(first.sessions[roster.ids[0]])
    third.take(roster.ids[0], None)
    first.up = first.leased = True
    world.log.clear()
    world.kill("server0")
    assert stepped(world, roster, [1, 1]).tolist() == [2, 2]
    assert [call for call in world.log if call[0] == "Attach"] == [
        ("Attach", "server1"),
        ("Attach", "server2"),
    ]


def test_a_server_whose_lease_runs_is_waited_for():
    world = World(2, save_every=1)
    roster = world.open()
    stepped(world, roster, [1, 1])
    server = world.kill("server0", lease=True)
    call = world.submit(roster, [1, 1])
    for _ in range(50):
        world.settle(one=True)
    assert call.woken == 0
    server.leased = False
    world.settle()
    assert call.result().tolist() == [2, 2]


def test_a_take_over_that_must_wait_is_waited_for():
    world = World(2, save_every=1)
    roster = world.open()
    stepped(world, roster, [1, 1])
    world.kill("server0")
    wait = status(code_pb2.UNAVAILABLE, "the store was away", "TAKE_OVER_WAITS", retry=0.3)
    world.failures["Attach"] = [wait] * 3
    begin = world.now
    assert stepped(world, roster, [1, 1]).tolist() == [2, 2]
    assert world.now - begin > 0.9


def test_a_drained_server_answers_what_it_has_and_gets_no_more():
    world = World(2)
    roster, x = world.open(), data(4)
    first, second = world.submit(roster, x[0]), world.submit(roster, x[1])
    world.send()
    (host,) = world.wires
    world.drain("server0")
    world.servers["server0"].switches.messages = []
    third = world.submit(roster, x[2])
    world.arrive(host)
    world.answer(host)
    assert np.array_equal([first.result(), second.result()], sums(x)[:2])
    world.send()
    assert not world.wires[host].there
    world.leave("server0")
    world.settle()
    assert np.array_equal(third.result(), sums(x)[2])
    assert world.told[0].replayed == 0


def test_a_connection_that_breaks_is_picked_up_at_the_same_server():
    world = World(1, save_every=4)
    roster, x = world.open(), data(11)
    for one in x[:9]:
        stepped(world, roster, one)
    call = world.submit(roster, x[9])
    world.send()
    (host,) = world.wires
    world.arrive(host)  # it is applied, and its answer is lost
    world.cut(host)
    world.settle()
    assert np.array_equal(call.result(), sums(x)[9])
    assert world.told[0].sources == world.told[0].targets == ("server0",)
    assert world.told[0].replayed == 1
    assert "again at server0" in str(world.told[0])


def test_after_too_long_the_steps_fail_and_later_ones_go_on():
    world = World(1, save_every=3, failover_timeout=2.0)
    roster, x = world.open(), data(8)
    for one in x[:5]:
        stepped(world, roster, one)
    world.kill("server0")
    begin = world.now
    with pytest.raises(carousel.ConnectionLost, match="no server took the sessions up within 2 s"):
        stepped(world, roster, x[5])
    assert 2 < world.now - begin < 3
    assert not world.exchange.busy
    world.boot("server0")
    assert np.array_equal(stepped(world, roster, x[6]), sums(x[[0, 1, 2, 3, 4, 6]])[-1])


def test_a_replay_that_fails_is_a_loss():
    world = World(2)
    roster = world.open()
    stepped(world, roster, [1, 1])
    world.kill("server0")
    world.servers["server1"].switches.rows[roster.ids[0]] = [(pb.ROW_STATUS_MODEL_ERROR, 0)]
    with pytest.raises(carousel.SessionLost, match="did not run again"):
        stepped(world, roster, [1, 1])


def test_failed_steps_are_not_sent_again():
    world = World(2)
    roster = world.open()
    world.servers["server0"].switches.rows[roster.ids[0]] = [
        (0, 1),
        (pb.ROW_STATUS_NUMERIC_FAULT, 1),
    ]
    stepped(world, roster, [1, 1])
    with pytest.raises(carousel.NumericFault):
        stepped(world, roster, [[2, 2], [50, 50]])
    world.kill("server0")
    assert stepped(world, roster, [3, 3]).tolist() == [6, 6]
    assert roster.applied.tolist() == [3]


def test_a_busy_server_does_not_end_a_replay():
    world = World(2, timeout=1.0)
    roster = world.open()
    stepped(world, roster, [1, 1])
    world.kill("server0")
    rows = world.servers["server1"].switches.rows
    world.servers["server1"].switches.retry_after_ms = 100
    rows[roster.ids[0]] = [(pb.ROW_STATUS_BUSY, 0)] * 15
    with pytest.raises(carousel.Busy):
        stepped(world, roster, [1, 1])
    world.settle()
    assert stepped(world, roster, [2, 2]).tolist() == [3, 3]


class TestControls:
    """Calls other than steps, while servers come and go."""

    def call(self, world, control, roster):
        result = world.run(world.flows.control(control, roster, np.arange(len(roster.ids))))
        assert not result.errors
        return result

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_reset(self, when):
        world = World(2, save_every=3)
        roster = world.open()
        for _ in range(5):
            stepped(world, roster, [1, 1])
        world.lose_answer = ("Reset", when)
        self.call(world, controls.RESET, roster)
        assert roster.held(np.arange(1)).tolist() == [0]
        assert stepped(world, roster, [2, 2]).tolist() == [2, 2]
        world.kill("server1")
        world.boot("server0")
        assert stepped(world, roster, [2, 2]).tolist() == [4, 4]

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_rewind(self, when):
        world = World(2, save_every=3)
        roster = world.open()
        stepped(world, roster, [1, 1])
        self.call(world, controls.mark("one"), roster)
        for _ in range(7):
            stepped(world, roster, [1, 1])
        world.lose_answer = ("Rewind", when)
        assert self.call(world, controls.rewind("one"), roster).applied.tolist() == [1]
        assert stepped(world, roster, [5, 5]).tolist() == [6, 6]
        world.kill("server1")
        world.boot("server0")
        assert stepped(world, roster, [1, 1]).tolist() == [7, 7]

    def test_what_comes_behind_one_that_lacked_the_store_says_so_soon(self):
        world = World(2, timeout=1.0)
        roster = world.open()
        stepped(world, roster, [1, 1])
        self.call(world, controls.mark("one"), roster)
        for _ in range(4):
            stepped(world, roster, [1, 1])
        away = status(code_pb2.UNAVAILABLE, "the store is away", "STORE_AWAY", retry=0.5)
        server = world.servers["server0"]
        rewind = server.answer_rewind
        server.answer_rewind = lambda request: (rewind(request), away)[1]  # done, and not saved
        world.failures["Attach"] = [away] * 10_000
        with pytest.raises(carousel.StoreAway, match="the store is away"):
            self.call(world, controls.rewind("one"), roster)
        assert world.now < 2  # `timeout`, and not the thirty seconds of a failover
        with pytest.raises(carousel.StoreAway, match="the store is away"):
            stepped(world, roster, [1, 1])
        with pytest.raises(carousel.StoreAway, match="the store is away"):
            self.call(world, controls.RESET, roster)
        assert world.now < 2
        assert roster.held(np.arange(1)).tolist() == [5]
        world.failures.clear()
        assert stepped(world, roster, [1, 1]).tolist() == [6, 6]
        assert not roster.owing

    def test_others_wait_for_the_store(self):
        world = World(2, save_every=1)
        roster = world.open()
        stepped(world, roster, [1, 1])
        world.kill("server0")
        away = status(code_pb2.UNAVAILABLE, "the store is away", "STORE_AWAY", retry=0.5)
        world.failures["Attach"] = [away] * 5
        assert stepped(world, roster, [1, 1]).tolist() == [2, 2]

    def test_a_rewind_to_nowhere_leaves_the_session_where_it_was(self):
        world = World(2, save_every=3)
        roster = world.open()
        for _ in range(5):
            stepped(world, roster, [1, 1])
        world.kill("server0")
        flow = world.flows.control(controls.rewind("nowhere"), roster, np.arange(1))
        assert type(world.run(flow).errors[0]) is carousel.MarkNotFound
        assert roster.held(np.arange(1)).tolist() == [5]
        assert stepped(world, roster, [1, 1]).tolist() == [6, 6]

    def test_rewinding_within_what_is_held_keeps_it(self):
        world = World(2)
        roster = world.open()
        stepped(world, roster, [[1, 1], [2, 2]])
        self.call(world, controls.mark("two"), roster)
        stepped(world, roster, [[3, 3], [4, 4]])
        world.servers["server0"].save = lambda held: None  # the store is away
        self.call(world, controls.rewind("two"), roster)
        stepped(world, roster, [7, 7])
        world.kill("server0")
        assert stepped(world, roster, [0, 0]).tolist() == [10, 10]

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_close(self, when):
        world = World(2)
        roster = world.open()
        stepped(world, roster, [1, 1])
        world.lose_answer = ("Close", when)
        flow = world.flows.control(controls.CLOSE, roster, np.arange(1))
        errors = world.run(flow).errors
        assert not errors or when == "after"
        assert not world.store.records
        assert world.exchange.ledger.held == 0

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_fork(self, when):
        world = World(2)
        roster = world.open()
        stepped(world, roster, [1, 1])
        world.lose_answer = ("Fork", when)
        twins = world.run(world.flows.fork(roster, [None, None]))
        assert stepped(world, twins, np.ones((2, 2))).tolist() == [[2, 2], [2, 2]]
        world.kill("server1")
        world.boot("server0")
        assert stepped(world, twins, np.ones((2, 2))).tolist() == [[3, 3], [3, 3]]

    def test_what_is_missing_is_sent_again_first(self):
        world = World(2)
        roster = world.open()
        stepped(world, roster, [[1, 1], [1, 1]])
        world.kill("server0")
        assert self.call(world, controls.mark("here"), roster).applied.tolist() == [2]
        assert world.servers["server1"].sessions[roster.ids[0]].applied == 2


def test_attaching_follows_sessions_to_their_servers():
    world = World(2, save_every=1)
    group = world.open(4, ids=list("abcd"))
    stepped(world, group, np.ones((4, 2)))
    first, second = world.servers.values()
    for name in "ac":
        first.detach(first.sessions[name])
        second.take(name, None)
    taken = world.run(world.flows.attach("sum", list("abcd")))
    assert stepped(world, taken, np.ones((4, 2))).tolist() == [[2, 2]] * 4
    with pytest.raises(carousel.SessionNotFound):
        world.run(world.flows.attach("sum", ["a", "nobody's"]))


def test_sessions_that_do_not_outlive_their_server_send_no_counts():
    world = World(2)
    roster = world.open(resume=False)
    stepped(world, roster, [1, 1])
    assert not world.requests["server0"][0].delivered
    assert world.exchange.ledger.held == 0
    counted = world.open(ids=["other"])
    world.submit(roster, [1, 1])
    world.submit(counted, [1, 1])
    world.settle()
    assert [len(step.delivered) for step in world.requests["server0"]] == [0, 0, 8]


def test_thousands_of_sessions_are_taken_up_in_parts_and_sent_again_in_columns():
    world = World(2, save_every=4)
    group = world.open(2500)
    for i in range(6):
        stepped(world, group, np.full((2500, 2), i))
    world.requests.clear()
    world.kill("server0")
    assert (stepped(world, group, np.ones((2500, 2))) == 16).all()
    asked = world.servers["server1"].attaches
    assert [len(ids) for ids in asked] == [1000, 1000, 500]
    assert world.told[0].replayed == 5000
    # Two calls of the group's were not covered: each is one message, and so is the new one.
    assert [len(step.handles) // 8 for step in world.requests["server1"]] == [2500] * 3
