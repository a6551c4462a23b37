"""The server's lease: as long as it is renewed, nobody takes its sessions over.

It is renewed by a thread of its own, over a connection of its own, so that a store that is busy
with checkpoints does not let it run out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from carousel_server import log
from carousel_server.store.interface import Owner, Store, StoreUnavailable

_RENEWALS = 3  # in the time of a lease


def _awake_or_not() -> float:
    """Return seconds that also pass while the machine sleeps, where it can tell."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class Lease:
    """Renews a lease until it is given back."""

    def __init__(
        self,
        store: Store,
        owner: Owner,
        *,
        seconds: float,
        on_lapse: Callable[[], None],
        clock: Callable[[], float] = _awake_or_not,
    ) -> None:
        """Prepare; `start` begins.

        Args:
            store: used by the lease's thread alone.
            owner: this server.
            seconds: how long it lives without renewal.
            on_lapse: called on the lease's thread when it is renewed after it had run out: others
                may have taken sessions over.
            clock: seconds; it must go on while the process is stopped.

        """
        self.seconds = seconds
        self._store = store
        self._owner = owner
        self._on_lapse = on_lapse
        self._clock = clock
        self._stopping = threading.Event()
        self._renewed = -float("inf")  # when it was last renewed
        self._unbroken = float("inf")  # since when the store has always answered
        self.lapses = 0  # how often it was found to have run out
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    @property
    def may_take_over(self) -> bool:
        """Whether the store has answered for as long as a lease is.

        Before that, living servers may not have had the time to renew theirs.
        """
        return self._clock() - self._unbroken >= self.seconds and self.is_held

    @property
    def answered(self) -> bool:
        """Whether the store answered when it was last asked, and the lease is held."""
        return self._unbroken != float("inf") and self.is_held

    @property
    def is_held(self) -> bool:
        """Whether it was renewed in time."""
        return self._clock() - self._renewed < self.seconds

    def start(self) -> None:
        """Renew from now on."""
        self.renew()
        self._thread.start()

    def stop(self) -> None:
        """Give it back: all that is owned can be taken over."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        try:
            self._store.retire(self._owner)
        except StoreUnavailable as error:
            log.get().warning("the lease could not be given back", why=str(error))
        self._store.close()

    def renew(self) -> None:
        """Renew it once, and note how that went."""
        before = self._clock()
        try:
            self._store.renew(self._owner, self.seconds)
        except StoreUnavailable as error:
            if self._unbroken != float("inf"):
                log.get().warning("the lease could not be renewed", why=str(error))
            self._unbroken = float("inf")
            return
        # The store began to count at some time between then and now.
        lapsed = self._clock() - self._renewed >= self.seconds
        first = self._renewed == -float("inf")
        self.lapses += lapsed and not first
        if lapsed or self._unbroken == float("inf"):
            self._unbroken = before
        self._renewed = before
        if lapsed and not first:
            log.get().warning("the lease had run out; sessions may have been taken over")
            self._on_lapse()

    def _run(self) -> None:
        while not self._stopping.wait(self.seconds / _RENEWALS):
            self.renew()
