"""Shares the wrong secrets of this replica with the others, beside the calls.

A call never waits for the store. While the store fails, each replica counts for itself.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum

from sidecar.exchange.limit import Limit
from sidecar.exchange.shared_counts.names import CountNames
from sidecar.exchange.shared_counts.report import Report
from sidecar.exchange.shared_counts.store import Store, StoreError
from sidecar.secret import Secret

# Maximum number of counts that wait for the store. A wrong secret is two or three of them.
MAX_WAITING = 300
# Seconds after a failure in which the store is left alone.
PAUSE = 1.0

# Takes a limit, the throttle's key of a count, the total of all replicas, and the seconds until
# its window ends.
Learn = Callable[[Limit, bytes, int, float], None]


class Outcome(StrEnum):
    """What became of a count: the store has it, the store failed, or too many waited."""

    ADDED = "added"
    FAILED = "failed"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True, kw_only=True)
class SharingCounts:
    """The counts so far by `outcomes`, those that wait now, and the fault of the store, if any."""

    outcomes: Mapping[Outcome, int]
    waiting: int
    fault: str | None


class Sharing:
    """Adds wrong secrets to the counts in `store`, and learns the totals of all replicas.

    There is one request to the store at a time. What comes meanwhile is summed up, and sent by
    the next one, so a flood of wrong secrets is few requests. What a failed request had is not
    sent again: after an outage it would count in a window that it does not belong to.
    """

    def __init__(self, store: Store, names: CountNames) -> None:
        self._store = store
        self._names = names
        self._report = Report(store.server)
        self._waiting: dict[tuple[Limit, bytes], int] = {}
        self._wake = asyncio.Event()
        self._outcomes = dict.fromkeys(Outcome, 0)

    @property
    def counts(self) -> SharingCounts:
        """The counts of now."""
        return SharingCounts(
            outcomes=dict(self._outcomes),
            waiting=sum(self._waiting.values()),
            fault=self._report.fault,
        )

    @property
    def throttle_key(self) -> Secret[bytes]:
        """The key that the hashes of the throttle need, so that all replicas have equal ones."""
        return self._names.throttle_key

    def count(self, limit: Limit, key: bytes) -> None:
        """Share one wrong secret that `limit` has counted for `key`. It never waits."""
        count = limit, key
        if count not in self._waiting and len(self._waiting) >= MAX_WAITING:
            self._outcomes[Outcome.DROPPED] += 1
            return
        self._waiting[count] = self._waiting.get(count, 0) + 1
        self._wake.set()

    @asynccontextmanager
    async def running(self, learn: Learn) -> AsyncIterator[None]:
        """Send counts in the context, and close the store at its end. `learn` gets the totals."""
        task = asyncio.create_task(self._run(learn))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            await self._store.aclose()

    async def _run(self, learn: Learn) -> None:
        # The first request has no counts. So an unreachable store is known from the start on.
        while True:
            if await self._send(learn):
                await self._wake.wait()
            else:
                await asyncio.sleep(PAUSE)

    async def _send(self, learn: Learn) -> bool:
        """Send what waits, and return whether the store has it."""
        batch, self._waiting = self._waiting, {}
        self._wake.clear()
        amounts = {self._names.name(*count): amount for count, amount in batch.items()}
        try:
            totals = await self._store.add(amounts)
        except StoreError as error:
            self._outcomes[Outcome.FAILED] += sum(batch.values())
            self._report.failed(error.fault)
            return False
        self._outcomes[Outcome.ADDED] += sum(batch.values())
        self._report.succeeded()
        for (limit, key), total in zip(batch, totals, strict=True):
            learn(limit, key, *total)
        return True
