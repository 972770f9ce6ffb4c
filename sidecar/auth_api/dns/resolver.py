"""A resolver of host names that keeps the last good answer while DNS fails or hangs.

The operating system does the look-ups (getaddrinfo), so the hosts file, search, ndots and
nsswitch.conf count. This module decides when a look-up begins, and opens no connection.
"""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

from sidecar import logs
from sidecar.auth_api.dns.look_up import (
    AddressInfo,
    LookUpError,
    SocketAddress,
    addresses_of,
    error_of,
    literal,
    system_look_up,
)
from sidecar.process import daemon_thread

# How long an answer is used without a new look-up, in seconds.
FRESH = 5.0
# A look-up that has run for so many seconds is hung. A DNS server that works answers sooner,
# also through a search list. When a datagram is lost, glibc asks again only after 5 s
# (resolv.conf(5), "timeout"): a second look-up gets the answer first.
HUNG = 1.0
# Look-ups of one name at once, at most. Each takes a thread, which nothing can end.
MAX_LOOK_UPS = 2
# The pause after a failed look-up before the next refresh of a known answer, in seconds.
REFRESH_PAUSE = 1.0
# A name is quiet if no look-up of it began for so many seconds: nobody called, and its answer may
# be old although DNS works. Where calls are frequent no name is quiet.
QUIET = 2 * FRESH
# How long after the beginning of the refresh of a quiet name calls wait for it, in seconds.
REFRESH_WAIT = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class LookUps:
    """Counters of look-ups. `seconds` is the total of the finished ones; `hung` are hung now.

    `is_failing`: whether a name had no success since its last look-up failed, or hung.
    """

    started: int = 0
    finished: int = 0
    failed: int = 0
    seconds: float = 0.0
    hung: int = 0
    is_failing: bool = False


class Resolver:
    """Resolves the few host names of one configuration; it forgets none.

    An answer younger than `fresh` seconds is used as it is. One of up to `stale` seconds is
    used too, while one look-up in the background refreshes it. If no look-up of the name began
    for `QUIET` seconds, calls first wait for the refresh, but only in its first `refresh_wait`
    seconds: an old answer is used then only if DNS fails, hangs or is slow.

    `look_up` runs in a daemon thread, which shutdown does not wait for, and may raise anything.
    `now` returns seconds.
    """

    def __init__(
        self,
        *,
        stale: float,
        fresh: float = FRESH,
        refresh_wait: float = REFRESH_WAIT,
        look_up: Callable[[str, int], Sequence[AddressInfo]] = system_look_up,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stale = stale
        self._fresh = fresh
        self._refresh_wait = refresh_wait
        self._look_up = look_up
        self._now = now
        self._names: dict[tuple[str, int], _Name] = {}
        self._started = self._finished = self._failed = 0
        self._seconds = 0.0

    @property
    def look_ups(self) -> LookUps:
        """The counters of now."""
        running = [began for name in self._names.values() for began in name.running]
        return LookUps(
            started=self._started,
            finished=self._finished,
            failed=self._failed,
            seconds=self._seconds,
            hung=sum(self._is_hung(began) for began in running),
            is_failing=any(self._is_failing(name) for name in self._names.values()),
        )

    async def resolve(self, host: str, port: int) -> Sequence[SocketAddress]:
        """Return the addresses of `host`, at least one, in the order of the system.

        An IP address is returned as it is. Without a usable answer the call waits for the
        look-up, without a timeout. To cancel a call disturbs neither the look-up nor other
        calls. Raises LookUpError.
        """
        name = self._names.get((host, port)) or self._add(host, port)
        age = self._now() - name.obtained
        if age < self._fresh:
            return name.addresses
        if name.addresses and age <= self._stale:
            if self._now() >= name.next_refresh and self._ensure_look_up(name):
                await self._wait_for_refresh(name)
            return name.addresses
        return await self._wait(name)

    def _add(self, host: str, port: int) -> "_Name":
        name = self._names[host, port] = _Name(host, port)
        with suppress(ValueError):
            name.addresses = (literal(host, port),)
            name.obtained = math.inf  # it never ages
        return name

    async def _wait(self, name: "_Name") -> Sequence[SocketAddress]:
        if not self._ensure_look_up(name):
            raise LookUpError("HUNG")
        outcome = await name.outcome()
        if isinstance(outcome, Exception):
            raise error_of(outcome) from outcome
        return outcome

    async def _wait_for_refresh(self, name: "_Name") -> None:
        patience = name.wait_until - self._now()
        if patience > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await name.outcome()

    def _ensure_look_up(self, name: "_Name") -> bool:
        """Begin a look-up unless one runs that is not hung; return whether such a one runs now."""
        began = list(name.running)
        if began and not self._is_hung(began[-1]):
            return True
        if len(began) == MAX_LOOK_UPS:
            return False
        self._started += 1
        now = self._now()
        is_quiet = now - name.began >= QUIET
        name.wait_until = now + self._refresh_wait if is_quiet else now
        name.began = now
        name.running[now] = asyncio.create_task(self._run(name, now))
        return True

    def _is_hung(self, began: float) -> bool:
        return self._now() - began >= HUNG

    def _is_failing(self, name: "_Name") -> bool:
        """Return whether the last news of `name` is a failure, or that a look-up hangs."""
        later = [began for began in name.running if began > name.asked]
        return name.has_failed or any(map(self._is_hung, later))

    async def _run(self, name: "_Name", began: float) -> None:
        """Look `name` up. Cancelled only at the end of the event loop."""
        work = partial(self._look_up, name.host, name.port)
        try:
            addresses = addresses_of(await daemon_thread.run(work))
        except Exception as error:  # noqa: BLE001 it is raised in the calls that wait
            self._settle(name, began, error)
        else:
            self._settle(name, began, addresses)

    def _settle(self, name: "_Name", began: float, outcome: "_Outcome") -> None:
        now = self._now()
        del name.running[began]
        self._finished += 1
        self._seconds += now - began
        self._failed += isinstance(outcome, Exception)
        fault = {"fault": error_of(outcome).cause_name} if isinstance(outcome, Exception) else {}
        logs.debug("look-up ended", duration_ms=round((now - began) * 1000, 3), **fault)
        if began < name.asked:  # the answer is newer; calls that wait, wait for a later look-up
            return
        if not isinstance(outcome, Exception):
            name.addresses, name.obtained, name.asked = outcome, now, began
            name.has_failed = False
            name.wake(outcome)
            return
        name.has_failed = True
        name.next_refresh = now + REFRESH_PAUSE
        if not any(later > began for later in name.running):  # else the calls wait for that one
            name.wake(outcome)


_Outcome: TypeAlias = tuple[SocketAddress, ...] | Exception


@dataclass(slots=True)
class _Name:
    """A host and port: the last good answer, the look-ups that run, and the calls that wait.

    The answer was `obtained` by a look-up that began at `asked`; `has_failed` is whether one has
    failed since. The last look-up `began`, and
    calls with an answer wait for it until `wait_until`. `running` holds the task of each look-up
    by the time at which it began, the latest last.
    """

    host: str
    port: int
    addresses: tuple[SocketAddress, ...] = ()
    obtained: float = -math.inf
    asked: float = -math.inf
    began: float = -math.inf
    wait_until: float = -math.inf
    next_refresh: float = -math.inf
    has_failed: bool = False
    running: dict[float, asyncio.Task[None]] = field(default_factory=dict)
    _outcome: asyncio.Future[_Outcome] | None = None

    async def outcome(self) -> _Outcome:
        """Return the outcome of a look-up that runs."""
        if self._outcome is None:
            self._outcome = asyncio.get_running_loop().create_future()
        return await asyncio.shield(self._outcome)  # the others wait for it too

    def wake(self, outcome: _Outcome) -> None:
        """End the wait of all calls."""
        if self._outcome is not None:
            self._outcome.set_result(outcome)
            self._outcome = None
