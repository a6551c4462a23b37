"""The folder: crashes, damage, other processes, the machine's restart."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carousel_server.store import encoding, files, shard
from carousel_server.store.encoding import Written, decode, encode
from carousel_server.store.files import FileStore
from carousel_server.store.interface import Held, Owner, Record, StoreUnavailable
from carousel_server.store.records import Gone, Kept
from tests.server.store.conftest import TTL, Clock
from tests.server.store.some import HEADER, A, B, at, create, load, save, saves, steps

ROOT = Path(__file__).resolve().parents[3]
KEPT = Kept(HEADER, A, 3, (at(1), at(2, b"")), (("m", at(1, b"x" * 99)),))


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "deep" / "store"


@pytest.fixture
def store(folder) -> FileStore:
    return FileStore(folder, ttl_seconds=TTL)


def files_of(folder: Path) -> list[Path]:
    names = ("lock", "format")
    return [path for path in folder.rglob("*") if path.is_file() and path.name not in names]


def the_file(folder: Path) -> Path:
    (found,) = [path for path in files_of(folder) if path.parent.name != "servers"]
    return found


def in_another_process(folder: Path, script: str) -> subprocess.Popen[str]:
    """Run a script that has a `store` in the folder, and `some`."""
    head = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from carousel_server.store.files import FileStore\n"
        "from carousel_server.store.interface import Record\n"
        "from tests.server.store import some\n"
        f"store = FileStore(Path({str(folder)!r}), ttl_seconds={TTL})\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", head + script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


data = st.binary(max_size=40)
names = st.text(max_size=8)
checkpoints = st.builds(at, st.integers(0, 2**53), data)
states = st.one_of(
    st.builds(Gone, st.integers(1, 2**53)),
    st.builds(
        Kept,
        st.just(HEADER),
        st.builds(Owner, names, names),
        st.integers(1, 2**53),
        st.lists(checkpoints, max_size=3).map(tuple),
        st.lists(st.tuples(names, checkpoints), max_size=3).map(tuple),
    ),
)


@given(name=names, state=states)
def test_a_file_is_read_as_it_was_written(name, state):
    written = Written(name, 1.5e9, state)
    assert decode(encode(written)) == written


@given(change=st.data())
def test_any_changed_or_missing_byte_shows(change):
    whole = encode(Written("x", 1.5e9, KEPT))
    at_byte = change.draw(st.integers(0, len(whole) - 1))
    if change.draw(st.booleans()):
        broken = whole[:at_byte]
    else:
        bits = change.draw(st.integers(1, 255))
        broken = whole[:at_byte] + bytes([whole[at_byte] ^ bits]) + whole[at_byte + 1 :]
    with pytest.raises(ValueError, match=r"expected|add up"):
        decode(broken)
    with pytest.raises(ValueError, match="add up"):
        decode(whole + b"\0")


@pytest.mark.parametrize("garbage", [b"", b"\0" * 5000, encode(Written("x", 1e9, KEPT))[:-1]])
def test_a_damaged_record_is_a_lost_one(store, folder, garbage):
    create(store, A, "x")
    save(store, A, "x", 1, at(10))
    the_file(folder).write_bytes(garbage)
    assert load(store, "x") is None
    assert store.claim(["x"], B) == [None]
    assert save(store, A, "x", 1, at(20))
    assert steps(store, "x") == [20]


def test_another_id_s_record_is_not_given(store, folder):
    create(store, A, "x")
    path = the_file(folder)
    path.write_bytes(encode(Written("y", 1e12, KEPT)))
    assert load(store, "x") is None


class Crash(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("moment", ["encode", "fsync", "replace", "settle"])
def test_a_crash_leaves_the_old_record_or_the_new_one(store, folder, monkeypatch, moment):
    create(store, A, "x")
    save(store, A, "x", 1, at(10), 0)

    def crash(*args):
        raise Crash

    with monkeypatch.context() as patch:
        if moment == "encode":
            patch.setattr(shard, "encode", lambda written: encoding.encode(written)[:50])
            patch.setattr(os, "fsync", crash)
        elif moment == "replace":
            patch.setattr(Path, "replace", crash)
        elif moment == "settle":
            patch.setattr(shard.Shard, "settle", crash)
        else:
            patch.setattr(os, "fsync", crash)
        with pytest.raises(Crash):
            save(store, A, "x", 1, at(20), 0)
    assert steps(store, "x") == ([10, 20] if moment == "settle" else [10])
    assert steps(FileStore(folder, ttl_seconds=TTL), "x") == steps(store, "x")
    assert len(files_of(folder)) == 1  # what was half written is gone
    assert save(store, A, "x", 1, at(30), 0)


def test_a_full_disk_leaves_no_half_written_file(store, folder, monkeypatch):
    create(store, A, "x")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreUnavailable, match="No space left on device"):
            save(store, A, "x", 1, at(20))
    assert steps(store, "x") == []
    assert len(files_of(folder)) == 1


def test_a_killed_process_leaves_whole_records(store, folder):
    """It is killed while it writes, again and again; what it called written is there."""
    create(store, A, "x")
    script = (
        "for step in range(1, 10**6):\n"
        "    some.save(store, some.A, 'x', 1, some.at(step, b'%d' % step * 20_000))\n"
        "    print(step, flush=True)\n"
    )
    for _ in range(4):
        process = in_another_process(folder, script)
        told = [int(process.stdout.readline()) for _ in range(3)]
        process.kill()
        told += [int(line) for line in process.communicate()[0].splitlines()]
        (newest,) = load(FileStore(folder, ttl_seconds=TTL), "x").checkpoints
        assert newest.step >= told[-1]
        assert newest.data == b"%d" % newest.step * 20_000
    assert len(files_of(folder)) == 1


def test_of_many_processes_one_takes_over(store, folder):
    create(store, A, *map(str, range(30)))
    script = (
        "me = some.Owner(f'{os.getpid():x}', '')\n"
        "store.renew(me, 60)\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read()\n"
        "ids = [str(number) for number in range(30)]\n"
        "won = [r.id for r in store.claim(ids, me) if isinstance(r, Record)]\n"
        "kept = store.save(some.saves(*[(name, 2, some.at(5)) for name in ids]), me)\n"
        "assert [name for name, ok in zip(ids, kept) if ok] == won\n"
        "print(*won)\n"
    )
    processes = [in_another_process(folder, script) for _ in range(3)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.close()
    won = [process.stdout.read().split() for process in processes]
    for process in processes:
        process.stdout.close()
        assert process.wait() == 0
    assert sorted(name for names in won for name in names) == sorted(map(str, range(30)))


def test_a_stopped_process_keeps_its_lock_and_nobody_waits_for_ever(folder):
    store = FileStore(folder, ttl_seconds=TTL, wait_seconds=0.05)
    create(store, A, "x")
    script = (
        "shard, _ = store._place_of('x')\n"
        "with shard.locked(wait_seconds=1):\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
    )
    process = in_another_process(folder, script)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGSTOP)
    with pytest.raises(StoreUnavailable, match=r"locked by another process for more than 0\.05 s"):
        save(store, A, "x", 1, at(1))
    assert load(store, "x") == Record("x", HEADER, 1, ())
    store.renew(A, 1)  # leases need no lock
    assert FileStore(folder, ttl_seconds=TTL).claim(["y"], B) == [None]
    process.kill()
    process.communicate()
    assert save(store, A, "x", 1, at(1))


def test_leases_end_with_the_machine(folder):
    """After a restart the clock begins anew, and an old lease must not come to life again."""
    clock = Clock(5000)
    before = FileStore(folder, ttl_seconds=TTL, clock=clock, boot="one")
    before.renew(A, 1000)
    create(before, A, "x")
    assert before.claim(["x"], B) == [Held("x", A)]
    after = FileStore(folder, ttl_seconds=TTL, clock=clock, boot="two")
    assert after.claim(["x"], B) == [Record("x", HEADER, 2, ())]


def test_a_lease_from_the_future_is_none(folder):
    """Where the machine does not tell one start from the next, the clock does."""
    clock = Clock(5000)
    store = FileStore(folder, ttl_seconds=TTL, clock=clock, boot="")
    store.renew(A, 1000)
    create(store, A, "x")
    clock.now = 10
    assert store.claim(["x"], B) == [Record("x", HEADER, 2, ())]


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", '{"boot": 1, "from": "x", "until": 2}'])
def test_a_damaged_lease_is_none(store, folder, text):
    store.renew(A, 1000)
    create(store, A, "x")
    (lease,) = (folder / "servers").iterdir()
    lease.write_text(text)
    assert store.claim(["x"], B) == [Record("x", HEADER, 2, ())]


def test_the_clock_goes_on_while_processes_are_stopped():
    """All processes read the same one, and it is that of the kernel."""
    before = files.boot_seconds()
    told = subprocess.run(
        [
            *(sys.executable, "-c"),
            "from carousel_server.store.files import *; print(boot_seconds(), boot_id())",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert before <= float(told[0]) <= files.boot_seconds()
    assert told[1:] == files.boot_id().split()


def test_records_whose_time_is_over_leave_the_disk(folder):
    clock, today = Clock(), Clock()
    store = FileStore(folder, ttl_seconds=TTL, clock=clock, today=today)
    ids = [f"s{number}" for number in range(30)]
    create(store, A, *ids)
    today.now += TTL / 2
    store.save(saves(*[(name, 1, at(1)) for name in ids[:10]]), A)
    today.now += TTL / 2 + 1
    for path in files_of(folder):
        os.utime(path, (today.now - TTL, today.now - TTL))
    for _ in range(256):
        store.renew(A, 1)
    assert len([path for path in files_of(folder) if path.parent.name != "servers"]) == 10
    assert [record is not None for record in store.load(ids)] == [True] * 10 + [False] * 20


def test_old_leases_leave_the_disk(store, folder):
    store.renew(A, 1)
    store.renew(B, 1)
    for path in (folder / "servers").iterdir():
        if json.loads(path.read_text())["server"] == A.server:
            os.utime(path, (1e9, 1e9))
    FileStore(folder, ttl_seconds=TTL)
    assert [json.loads(path.read_text())["server"] for path in (folder / "servers").iterdir()] == [
        B.server
    ]


def test_nothing_outside_the_folder_is_named(store, folder):
    create(store, Owner("../../../evil", ""), "../../../../evil")
    store.renew(Owner("../../../evil", ""), 1)
    assert len(files_of(folder)) == 2
    assert list(folder.parent.parent.rglob("*evil*")) == []
