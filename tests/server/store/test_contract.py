"""What every store does, whichever it is."""

from __future__ import annotations

import pytest

from carousel_server.store.interface import NOT_COUNTED, Birth, Held, Record
from carousel_server.store.records import REMEMBERED_SECONDS
from tests.server.store.conftest import TTL
from tests.server.store.some import HEADER, RESTORED, A, B, C, at, create, load, save, saves, steps

ODD_IDS = ["x", "a/b/../..", "\u00fc\U0001f3a0 \n\"'\\", "x" * 512, "{tag}", "*"]


def test_it_says_whether_it_is_shared(world):
    assert world.open().shared == (world.kind != "memory")


def test_it_answers(store):
    store.ping()


def test_a_new_session_has_no_checkpoint(store):
    assert create(store, A, *ODD_IDS) == [1] * len(ODD_IDS)
    assert store.load(ODD_IDS) == [Record(name, HEADER, 1, ()) for name in ODD_IDS]


def test_a_new_session_may_have_a_checkpoint(store):
    births = [Birth("x", HEADER, at(7, b"")), Birth("y", HEADER, at(0, bytes(range(256)) * 40))]
    assert store.create(births, A) == [1, 1]
    assert load(store, "x").checkpoints == (at(7, b""),)
    assert load(store, "y").checkpoints == (at(0, bytes(range(256)) * 40),)


def test_an_id_is_one_session_s(world):
    assert create(world.open(), A, "x") == [1]
    assert create(world.open(), B, "w", "x", "y") == [1, 0, 1]
    assert save(world.open(), A, "x", 1, at(3))


def test_a_released_session_s_id_is_taken_too(store):
    create(store, A, "x")
    store.release(["x"], [1])
    assert create(store, A, "x") == [0]


def test_what_a_server_left_behind_itself_is_replaced(store):
    """Its `create` was carried out, but the answer was lost."""
    create(store, A, "x")
    save(store, A, "x", 1, at(5))
    assert create(store, A, "x") == [2]
    assert load(store, "x") == Record("x", HEADER, 2, ())
    assert not save(store, A, "x", 1, at(6))


def test_nothing_is_asked_for_nothing(store):
    assert create(store, A) == []
    assert store.save(saves(), A) == []
    assert store.load([]) == []
    assert store.claim([], A) == []
    assert store.release([], []) == []
    assert store.delete([], []) == []


def test_a_session_that_nobody_has_is_not_there(store):
    create(store, A, "x")
    assert store.load(["y", "x", "z"]) == [None, Record("x", HEADER, 1, ()), None]
    assert store.claim(["y"], A) == [None]
    assert store.release(["y"], [1]) == [False]
    assert store.delete(["y"], [1]) == [True]


def test_the_newest_stays_where_nobody_counts(store):
    create(store, A, "x")
    for step in (1, 2, 300):
        assert save(store, A, "x", 1, at(step))
    assert load(store, "x").checkpoints == (at(300),)


@pytest.mark.parametrize(
    ("delivered", "left"),
    [
        (0, [100, 200, 300, 400]),
        (99, [100, 200, 300, 400]),
        (100, [100, 200, 300, 400]),
        (199, [100, 200, 300, 400]),
        (200, [200, 300, 400]),
        (399, [300, 400]),
        (400, [400]),
        (10**15, [400]),
    ],
)
def test_what_the_client_may_go_back_to_stays(store, delivered, left):
    create(store, A, "x")
    for step in (100, 200, 300):
        save(store, A, "x", 1, at(step), 0)
    assert save(store, A, "x", 1, at(400), delivered)
    assert load(store, "x").checkpoints == tuple(map(at, left))


def test_steps_are_ordered_as_numbers(store):
    create(store, A, "x")
    for step in (9, 10, 99, 100, 10**15, 2**53):
        assert save(store, A, "x", 1, at(step), 0)
    assert steps(store, "x") == [9, 10, 99, 100, 10**15, 2**53]


def test_a_checkpoint_ends_those_of_a_course_that_was_left(store):
    create(store, A, "x")
    for step in (100, 200, 300):
        save(store, A, "x", 1, at(step), 0)
    save(store, A, "x", 1, at(200, b"other"), 150)
    assert load(store, "x").checkpoints == (at(100), at(200, b"other"))


def test_checkpoints_of_one_call_are_written_in_order(store):
    create(store, A, "x", "y")
    rows = [("x", 1, at(1), 0), ("y", 1, at(5), 0), ("x", 1, at(2), 0), ("x", 2, at(3), 0)]
    assert store.save(saves(*rows), A) == [True, True, True, True]
    assert steps(store, "x") == [3]  # a record with a lower token is made anew
    assert steps(store, "y") == [5]


def test_marks_stay_beside_checkpoints(store):
    create(store, A, "x")
    save(store, A, "x", 1, at(100), 0)
    assert save(store, A, "x", 1, at(150, b"m"), 0, "z")
    assert save(store, A, "x", 1, at(160, b"n"), 0, "a \u00fc:\n")
    assert save(store, A, "x", 1, at(200))
    record = load(store, "x")
    assert record.checkpoints == (at(200),)
    assert record.marks == (("a \u00fc:\n", at(160, b"n")), ("z", at(150, b"m")))
    assert save(store, A, "x", 1, at(5, b"again"), 0, "z")
    assert load(store, "x").marks[1] == ("z", at(5, b"again"))
    assert store.claim(["x"], B, [0])[0].marks == load(store, "x").marks


def test_large_batches(store):
    ids = [f"s{number}" for number in range(300)]
    data = [bytes([number % 256]) * (3000 + number) for number in range(300)]
    assert create(store, A, *ids) == [1] * 300
    rows = [
        (name, 1 if number % 3 else 0, at(number, blob))
        for number, (name, blob) in enumerate(zip(ids, data, strict=True))
    ]
    assert store.save(saves(*rows), A) == [number % 3 > 0 for number in range(300)]
    found = store.load(ids)
    assert [r.checkpoints for r in found] == [
        (at(number, data[number]),) if number % 3 else () for number in range(300)
    ]
    assert store.claim(ids, A) == [Record(r.id, r.header, 2, r.checkpoints) for r in found]
    assert store.release(ids, [2] * 300) == [True] * 300
    assert store.delete(ids, [2] * 300) == [True] * 300
    assert store.load(ids) == [None] * 300


def test_nobody_takes_over_from_the_living(world):
    ours, theirs = world.open(), world.open()
    ours.renew(A, 2)
    create(ours, A, "x")
    assert theirs.claim(["x"], B) == [Held("x", A)]
    world.let_pass(1.9)
    assert theirs.claim(["x"], B) == [Held("x", A)]
    ours.renew(A, 2)
    world.let_pass(1.9)
    assert theirs.claim(["x"], B) == [Held("x", A)]
    assert save(ours, A, "x", 1, at(1))


def test_who_wakes_up_too_late_is_refused(world):
    ours, theirs = world.open(), world.open()
    ours.renew(A, 2)
    create(ours, A, "x")
    save(ours, A, "x", 1, at(10))
    world.let_pass(2.1)
    assert theirs.claim(["x"], B) == [Record("x", HEADER, 2, (at(10),))]
    ours.renew(A, 2)
    assert not save(ours, A, "x", 1, at(20))
    assert not save(ours, A, "x", 2, at(20))  # the token alone is not enough
    assert ours.release(["x"], [1]) == [False]
    assert ours.delete(["x"], [1]) == [False]
    assert load(ours, "x") == Record("x", HEADER, 2, (at(10),))
    assert save(theirs, B, "x", 2, at(30))


def test_who_wakes_up_in_time_goes_on(world):
    store = world.open()
    store.renew(A, 2)
    create(store, A, "x")
    world.let_pass(100)
    store.renew(A, 2)
    assert save(store, A, "x", 1, at(1))
    assert world.open().claim(["x"], B) == [Held("x", A)]


def test_a_lease_may_be_given_up(world):
    ours, theirs = world.open(), world.open()
    ours.renew(A, 1000)
    ours.renew(C, 1000)
    create(ours, A, "x")
    create(ours, C, "y")
    ours.retire(A)
    ours.retire(A)
    assert theirs.claim(["x", "y"], B) == [Record("x", HEADER, 2, ()), Held("y", C)]


def test_a_released_session_is_free_at_once(world):
    ours, theirs = world.open(), world.open()
    ours.renew(A, 1000)
    create(ours, A, "x", "y")
    save(ours, A, "x", 1, at(4))
    assert ours.release(["x", "y"], [1, 2]) == [True, False]
    assert ours.release(["x"], [1]) == [True]  # its answer may have been lost
    assert not save(ours, A, "x", 1, at(5))
    assert theirs.claim(["x", "y"], B) == [Record("x", HEADER, 2, (at(4),)), Held("y", A)]


def test_what_others_may_still_have_can_be_left_to_them(world):
    """Living or dead; a released session is free, and so is the server's own."""
    ours, theirs = world.open(), world.open()
    ours.renew(A, 1000)
    create(ours, A, "living", "released")
    create(ours, C, "dead")
    create(theirs, B, "own")
    save(ours, A, "released", 1, at(4))
    ours.release(["released"], [1])
    ids = ["living", "released", "dead", "own", "nobody"]
    assert theirs.claim(ids, B, released_only=True) == [
        Held("living", A),
        Record("released", HEADER, 2, (at(4),)),
        Held("dead", C),
        Record("own", HEADER, 2, ()),
        None,
    ]
    assert theirs.claim(["dead"], B) == [Record("dead", HEADER, 2, ())]


def test_a_server_claims_its_own(world):
    store = world.open()
    store.renew(A, 1000)
    create(store, A, "x")
    assert store.claim(["x"], A) == [Record("x", HEADER, 2, ())]
    assert not save(store, A, "x", 1, at(5))
    assert save(store, A, "x", 2, at(5))
    assert load(store, "x").checkpoints == (at(5),)


@pytest.mark.parametrize(
    ("delivered", "left"),
    [(NOT_COUNTED, [100, 200, 300]), (0, []), (200, [100, 200]), (299, [100, 200])],
)
def test_a_claim_ends_what_the_client_has_not_seen(world, delivered, left):
    store = world.open()
    create(store, A, "w", "x")
    for step in (100, 200, 300):
        store.save(saves(("w", 1, at(step), 0), ("x", 1, at(step), 0)), A)
    both = world.open().claim(["w", "x"], B, [10**9, delivered])
    assert [[one.step for one in record.checkpoints] for record in both] == [[100, 200, 300], left]
    assert steps(store, "x") == left


def test_a_claim_leaves_what_it_can_t_go_on_from(store):
    """The session did not begin with its model's state, so its beginning is no place to go on."""
    store.create([Birth("x", RESTORED, at(200))], A)
    save(store, A, "x", 1, at(300), 0)
    assert steps(store, "x") == [200, 300]
    (record,) = store.claim(["x"], A, [199])
    assert [one.step for one in record.checkpoints] == [200, 300]
    (record,) = store.claim(["x"], A, [200])
    assert [one.step for one in record.checkpoints] == [200]


def test_a_record_goes_when_its_time_is_over(world):
    store = world.open()
    create(store, A, "x", "y", "z")
    world.let_pass(TTL - 10)
    save(store, A, "x", 1, at(1))
    store.claim(["y"], A)
    world.let_pass(20)
    assert [record and record.id for record in store.load(["x", "y", "z"])] == ["x", "y", None]
    assert store.claim(["z"], B) == [None]
    world.let_pass(TTL)
    assert store.load(["x", "y", "z"]) == [None] * 3
    assert create(world.open(), B, "x") == [1]


def test_a_kept_session_s_time_begins_with_its_release(world):
    store = world.open()
    create(store, A, "x")
    world.let_pass(TTL - 10)
    store.release(["x"], [1])
    world.let_pass(TTL - 10)
    assert load(store, "x") is not None


def test_a_lost_record_is_made_again(store):
    assert save(store, A, "x", 5, at(70), 0)
    assert load(store, "x") == Record("x", HEADER, 5, (at(70),))
    assert save(store, A, "x", 5, at(80), 0)
    assert steps(store, "x") == [70, 80]
    assert store.claim(["x"], B) == [Record("x", HEADER, 6, (at(70), at(80)))]


def test_a_lost_record_with_a_mark_is_made_again_with_a_checkpoint(store):
    """Without one the session would stand at its initial state."""
    assert save(store, A, "x", 5, at(70, b"m"), 0, "here")
    assert load(store, "x") == Record("x", HEADER, 5, (at(70, b"m"),), (("here", at(70, b"m")),))


def test_of_two_that_make_a_lost_record_again_the_later_owner_wins(store):
    assert save(store, A, "x", 1, at(10))
    assert save(store, B, "x", 2, at(20))
    assert not save(store, A, "x", 1, at(11))
    assert load(store, "x") == Record("x", HEADER, 2, (at(20),))


def test_what_was_removed_is_not_made_again(world):
    ours, theirs = world.open(), world.open()
    create(ours, A, "x")
    theirs.claim(["x"], B)
    assert theirs.delete(["x"], [2]) == [True]
    assert theirs.delete(["x"], [2]) == [True]  # its answer may have been lost
    assert load(theirs, "x") is None
    assert theirs.claim(["x"], C) == [None]
    assert not save(ours, A, "x", 1, at(9))
    assert not save(ours, B, "x", 2, at(9))
    assert load(theirs, "x") is None


def test_an_id_that_is_used_again_is_safe_from_its_earlier_owners(world):
    ours, theirs = world.open(), world.open()
    create(ours, A, "x")
    ours.delete(["x"], [1])
    assert create(theirs, B, "x") == [2]
    assert not save(ours, A, "x", 1, at(9))
    assert ours.delete(["x"], [1]) == [False]
    assert load(theirs, "x") == Record("x", HEADER, 2, ())
    world.let_pass(REMEMBERED_SECONDS + 1)
    assert load(theirs, "x") == Record("x", HEADER, 2, ())


def test_what_was_removed_is_forgotten_after_a_while(world):
    store = world.open()
    create(store, A, "x")
    store.delete(["x"], [1])
    world.let_pass(REMEMBERED_SECONDS - 10)
    assert not save(store, A, "x", 1, at(9))
    world.let_pass(20)
    assert create(store, A, "x") == [1]
