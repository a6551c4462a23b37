"""Ids of sessions over all models: unique, counted, and remembered when they expire."""

from __future__ import annotations

import pytest

from carousel_server.engine import directory as module
from carousel_server.engine.directory import Directory
from carousel_server.errors import NoRoom, SessionExists, SessionExpired, SessionNotFound


def test_ids_are_unique_over_all_models():
    directory = Directory(10)
    directory.claim(["a", "b"], 1, [1, 2])
    with pytest.raises(SessionExists, match="'b'"):
        directory.claim(["c", "b"], 2, [1, 2])
    assert len(directory) == 2, "all or none"
    assert directory.find("b") == (1, 2)
    assert directory.entries(["a", "x", "b"], 1) == [1, 2]
    assert directory.missing(["a", "x"], 2) == ["a", "x"]


def test_it_holds_so_many():
    directory = Directory(2)
    directory.claim(["a"], 0, [1])
    with pytest.raises(NoRoom, match="1 of at most 2 sessions; 2 more") as caught:
        directory.claim(["b", "c"], 0, [2, 3])
    assert caught.value.retry_after_ms > 0
    directory.release(["a"])
    directory.claim(["b", "c"], 0, [2, 3])


def test_expired_ids_are_remembered_up_to_a_number(monkeypatch):
    monkeypatch.setattr(module, "_REMEMBERED", 3)
    directory = Directory(10)
    for number, name in enumerate("abcde"):
        directory.claim([name], 0, [number])
        directory.expire([name], "idle for 5 s")
    for name in "ab":
        with pytest.raises(SessionNotFound) as caught:
            directory.find(name)
        assert not isinstance(caught.value, SessionExpired)
    for name in "cde":
        with pytest.raises(SessionExpired, match="idle for 5 s"):
            directory.find(name)


def test_expired_ids_are_remembered_for_a_time(monkeypatch):
    directory = Directory(10)
    directory.claim(["a"], 0, [1])
    directory.expire(["a"], "idle for 5 s")
    with pytest.raises(SessionExpired):
        directory.find("a")
    monkeypatch.setattr(module, "_REMEMBERED_SECONDS", 0.0)
    with pytest.raises(SessionNotFound, match="no such session here"):
        directory.find("a")


def test_pages_are_in_order_and_end():
    directory = Directory(10)
    directory.claim(["e", "a", "c"], 1, [1, 2, 3])
    directory.claim(["b"], 2, [1])
    assert directory.page(frozenset({1, 2}), "", 2) == (["a", "b"], 4)
    assert directory.page(frozenset({1, 2}), "b", 5) == (["c", "e"], 4)
    assert directory.page(frozenset({2}), "b", 5) == ([], 1)
