"""Tokens that are known later than their sessions."""

from __future__ import annotations

from collections.abc import Sequence

from carousel_server.engine.checkpoints import NO_TOKEN
from carousel_server.store.interface import Birth


class LateTokens:
    """Tokens of sessions that were opened while the store was away.

    Their records are made when it is back, before anything else of theirs is written. Used where
    writes are carried out, and so in their order.
    """

    def __init__(self) -> None:
        self._tokens: dict[str, int] = {}

    def note(self, births: Sequence[Birth], tokens: Sequence[int]) -> None:
        """Note the tokens of records that were made; 0 where others have the session."""
        self._tokens.update((birth.id, token) for birth, token in zip(births, tokens, strict=True))

    def known(self, ids: Sequence[str], tokens: Sequence[int]) -> list[int]:
        """Return tokens, with those in the place of NO_TOKEN that are known by now."""
        return [
            self._tokens.get(name, NO_TOKEN) if token == NO_TOKEN else token
            for name, token in zip(ids, tokens, strict=True)
        ]

    def forget(self, ids: Sequence[str]) -> None:
        """Forget sessions that ended."""
        for name in ids:
            self._tokens.pop(name, None)
