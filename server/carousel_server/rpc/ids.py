"""Ids of sessions: those that clients choose, and those made for them."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterable

from carousel import wire
from carousel_server.errors import InvalidRequest, shown


def new_ids(given: Iterable[str], count: int, most: int) -> list[str]:
    """Return the ids of new sessions: those given, or `count` fresh ones.

    Raises:
        InvalidRequest: there is none, too many, or one that can't be an id.

    """
    ids = list(given)
    if not ids:
        if not 1 <= count <= most:
            raise InvalidRequest(f"ids, or a count from 1 to {most}, were expected; {count} came")
        # 128 random bits, as in a UUID: nobody guesses an id, and no two are the same.
        return [secrets.token_hex(16) for _ in range(count)]
    if count not in (0, len(ids)):
        raise InvalidRequest(f"{len(ids)} ids came, and a count of {count}")
    check_ids(ids)
    return ids


def check_ids(ids: list[str]) -> None:
    """Refuse what can't be the ids of sessions.

    Raises:
        InvalidRequest: one stands there twice, or is no id.

    """
    if len(set(ids)) != len(ids):
        ((again, _),) = Counter(ids).most_common(1)
        raise InvalidRequest(f"the id {shown(again)} came twice")
    for name in ids:
        if not 1 <= len(name) <= wire.MAX_ID_LENGTH or not name.isprintable():
            raise InvalidRequest(
                f"an id has 1 to {wire.MAX_ID_LENGTH} printable characters; {shown(name)} came"
            )
