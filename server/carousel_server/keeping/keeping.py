"""Sessions and the store, as the RPCs and the drain see them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import count

import numpy as np
from numpy.typing import NDArray

from carousel_server import log
from carousel_server.engine.checkpoints import NO_TOKEN, Gathered, Kept
from carousel_server.engine.driver import Driver
from carousel_server.engine.sessions import Ended
from carousel_server.engine.transfers import Acknowledge
from carousel_server.errors import CarouselError, StoreAway, TakeOverWaits
from carousel_server.keeping.keeper import Keeper
from carousel_server.keeping.lease import Lease
from carousel_server.keeping.passage import Passage
from carousel_server.keeping.records import Recorder
from carousel_server.keeping.tokens import LateTokens
from carousel_server.store.interface import (
    Birth,
    Held,
    Owner,
    Record,
    Saves,
    Store,
    StoreUnavailable,
)

# What a client waits for is not worth waiting longer for; it is written later.
_PATIENCE_SECONDS = 5.0
_LOOK_SECONDS = 0.1  # how often to look, meanwhile, whether the store is away


class EngineKeeper:
    """Takes what one engine gathers to the keeper, and the news back; see `engine.Keeper`."""

    def __init__(self, keeper: Keeper, recorder: Recorder, late: LateTokens) -> None:
        self.recorder = recorder
        self._keeper = keeper
        self._late = late
        self._driver: Driver | None = None

    def connect(self, driver: Driver) -> None:
        """Say who runs the engine's turns."""
        self._driver = driver

    @property
    def has_room(self) -> bool:
        """Whether more may wait for the store."""
        return self._keeper.has_room

    def keep(self, gathered: Gathered, then: Kept | None = None) -> None:
        """Have states saved, and the engine told, in a turn of its own."""
        self._save(gathered, then, None)

    async def kept(self, gathered: Gathered, *, patiently: bool = False) -> list[bool]:
        """Have states saved, and wait until they are, and the engine knows it.

        Args:
            gathered: the states.
            patiently: wait for a store that did not answer, too; it may soon. Nobody else does, so
                that a client hears why, and not only that its own time ran out.

        Raises:
            StoreAway: the store does not answer; it is saved when it does again.

        """
        future: asyncio.Future[list[bool]] = asyncio.get_running_loop().create_future()
        clock, failures = asyncio.get_running_loop().time, self._keeper.failures
        until = clock() + _PATIENCE_SECONDS
        self._save(gathered, None, future)
        while not future.done() and clock() < until:
            await asyncio.wait([future], timeout=_LOOK_SECONDS)
            if self._keeper.failures != failures and not patiently:
                break
        if not future.done():
            raise StoreAway(self._keeper.place)
        return future.result()

    def _save(
        self, gathered: Gathered, then: Kept | None, future: asyncio.Future[list[bool]] | None
    ) -> None:
        self._keeper.save(
            partial(self._saves, self.recorder, gathered),
            rows=len(gathered.ids),
            nbytes=gathered.nbytes,
            done=partial(self._tell, gathered, then, future),
            at_once=future is not None,
        )

    def _saves(self, recorder: Recorder, gathered: Gathered) -> Saves:
        tokens = self._late.known(gathered.ids, gathered.tokens.tolist())
        return recorder.saves(gathered, tokens)

    def _tell(
        self,
        gathered: Gathered,
        then: Kept | None,
        future: asyncio.Future[list[bool]] | None,
        kept: list[bool],
    ) -> None:
        def told(ended: Ended | CarouselError) -> None:
            if isinstance(ended, Ended) and ended.ids:
                log.get().warning("sessions are another server's by now", sessions=len(ended.ids))
            if future and not future.done():
                future.set_result(kept)

        assert self._driver is not None
        self._driver.post(Acknowledge(gathered, kept, then), told)


class Keeping:
    """One server's dealings with the store. Used on the event loop alone."""

    def __init__(self, store: Store, owner: Owner, keeper: Keeper, lease: Lease | None) -> None:
        """Take what is needed.

        Args:
            store: asked for what never changes; `keeper` has the only thread that may use it.
            owner: this server.
            keeper: writes and asks.
            lease: this server's; None where the store is not shared, and nobody could take over.

        """
        self.shared = store.shared
        self.place = store.place
        self._owner = owner
        self._keeper = keeper
        self._lease = lease
        self._late = LateTokens()
        self._tokens = count(1)
        self.passage = Passage()
        self._verified = 0  # lapses of the lease

    @property
    def waiting_bytes(self) -> int:
        """Bytes of checkpoints that wait for the store."""
        return self._keeper.waiting_bytes

    async def look(self) -> None:
        """Find out, and tell the observer and the log, whether the store answers.

        Otherwise that of an idle server shows at its next session only. Where something waits to be
        written, that tells it: a store may answer this, and refuse writes.
        """
        if not self._keeper.has_writes:
            with suppress(StoreUnavailable):
                await self._keeper.ask(lambda store: store.ping())

    def for_engine(self, recorder: Recorder) -> EngineKeeper:
        """Return the keeper of one engine."""
        return EngineKeeper(self._keeper, recorder, self._late)

    @property
    def in_doubt(self) -> bool:
        """Whether others may have taken sessions over, and the store could say so."""
        lease = self._lease
        if lease is None or self._keeper.is_away:
            return False
        return not lease.is_held or lease.lapses != self._verified

    @property
    def lapses(self) -> int:
        """How often the lease was found to have run out."""
        return self._lease.lapses if self._lease else 0

    def verified(self, lapses: int) -> None:
        """Note that the store was asked about every session after so many lapses."""
        self._verified = lapses

    def first_tokens(self, sessions: int) -> NDArray[np.int64]:
        """Return the tokens of new sessions, before they have records.

        In a store that nobody else has, records are made with the first checkpoint: a session must
        not take its id's last one's for its own.
        """
        if self.shared:
            return np.full(sessions, NO_TOKEN, np.int64)
        return np.fromiter(self._tokens, np.int64, sessions)

    def wants(self, gathered: Gathered) -> bool:
        """Whether the store should have these sessions."""
        return self.shared or gathered.matters

    async def create(
        self, recorder: Recorder, ids: Sequence[str], opened: float, begun: Gathered | None
    ) -> list[int] | None:
        """Make records of new sessions, and return their tokens; 0 for an id that is taken.

        `begun` are their states where they are not the model's own. None: the store is away. The
        records are made later, and sessions whose ids turn out to be taken are given up when they
        are to be saved.
        """
        header = recorder.header(opened, initial=begun is None)
        checkpoints = recorder.checkpoints(begun) if begun else [None] * len(ids)
        births = [Birth(name, header, c) for name, c in zip(ids, checkpoints, strict=True)]
        try:
            return await self._keeper.ask(lambda store: store.create(births, self._owner))
        except StoreUnavailable:
            self._keeper.write(partial(self._create_late, births), lambda _: None)
            return None

    def _create_late(self, births: Sequence[Birth], store: Store) -> list[bool]:
        tokens = store.create(births, self._owner)
        self._late.note(births, tokens)
        if taken := tokens.count(0):
            log.get().warning("ids of sessions were taken already", sessions=taken)
        return [token > 0 for token in tokens]

    async def claim(
        self, ids: Sequence[str], delivered: Sequence[int] | None
    ) -> list[Record | Held | None]:
        """Take over the sessions of servers that are gone; see `Store.claim`.

        Until the store has answered for long enough, that is only those that were given up: whether
        the others' servers live can't be told then, and they are `Held`.

        Raises:
            StoreAway: the store does not answer.
            TakeOverWaits: it has not answered for long enough, and none of them was given up.

        """
        waits = self._lease is not None and not self._lease.may_take_over
        if self._lease and not self._lease.answered:
            self.be_sure()
        try:
            found = await self._keeper.ask(
                lambda store: store.claim(ids, self._owner, delivered, released_only=waits)
            )
        except StoreUnavailable as error:
            raise StoreAway(self.place) from error
        kinds = {type(one) for one in found}
        if waits and Held in kinds and Record not in kinds:
            self.be_sure()
        return found

    def be_sure(self) -> None:
        """Refuse to say that others live while that can't be told.

        Raises:
            TakeOverWaits: the store has not answered for long enough.

        """
        if self._lease and not self._lease.may_take_over:
            raise TakeOverWaits(self._lease.seconds)

    async def load(self, ids: Sequence[str]) -> list[Record | None]:
        """Read the records of sessions that this server has.

        Raises:
            StoreAway: the store does not answer.

        """
        try:
            return await self._keeper.ask(lambda store: store.load(ids))
        except StoreUnavailable as error:
            raise StoreAway(self.place) from error

    async def delete(self, ended: Ended) -> None:
        """Remove the records of sessions that ended; later, where the store is away."""
        rows = [row for row, stored in enumerate(ended.stored) if stored]
        ids, tokens = [ended.ids[row] for row in rows], [ended.tokens[row] for row in rows]
        if ids:
            await self._written(partial(self._delete, ids, tokens))

    def _delete(self, ids: Sequence[str], tokens: Sequence[int], store: Store) -> list[bool]:
        deleted = store.delete(ids, self._late.known(ids, tokens))
        self._late.forget(ids)
        return deleted

    async def release(self, ended: Ended) -> None:
        """Let others claim sessions that were given up; later, where the store is away."""
        if self.shared and ended.ids:
            await self.release_some(ended.ids, ended.tokens)

    async def release_some(self, ids: Sequence[str], tokens: Sequence[int]) -> None:
        """Let others claim sessions; later, where the store is away."""
        await self._written(lambda store: store.release(ids, self._late.known(ids, tokens)))

    async def stop(self, seconds: float) -> None:
        """Write what waits, for so long at most, and give the lease back."""
        left = await self._keeper.stop(seconds)
        if left:
            log.get().error("the store did not take everything", writes=left, store=self.place)
        if self._lease:
            await asyncio.to_thread(self._lease.stop)

    async def _written(self, carry_out: Callable[[Store], list[bool]]) -> None:
        future: asyncio.Future[list[bool]] = asyncio.get_running_loop().create_future()

        def done(result: list[bool]) -> None:
            if not future.done():
                future.set_result(result)

        self._keeper.write(carry_out, done)
        if not self._keeper.is_away:
            await asyncio.wait([future], timeout=_PATIENCE_SECONDS)
