"""Graceful shutdown in bounded phases.

1. Lame duck: calls are served, but load balancers see that the process is not ready.
2. Drain: calls in flight finish.
3. Cut: calls that are left are ended at once.

At the end of each phase, and of the process, a line of the log has its duration and counts. A
further signal ends the current phase (`hasten`, `interrupt`). `POST /drain` only begins the
shutdown (`begin`), and a signal after it is a first signal: it ends no call.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import TypeAlias

from sidecar import logs


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainCounts:
    """The calls in flight and the open connections of now, and the calls refused so far."""

    in_flight: int = 0
    rest_connections: int = 0
    auth_api_connections: int = 0
    refused: int = 0


class Phase(StrEnum):
    """The phases of a process."""

    STARTING = "starting"
    SERVING = "serving"
    LAME_DUCK = "lame_duck"
    DRAIN = "drain"
    CUT = "cut"


class Drain:
    """A graceful shutdown, and the `phase` of the process.

    `lame_duck` is the time of the lame duck, `timeout` the maximum time of the drain, in
    seconds. `count` returns the counts for the log; without it they are 0.
    """

    def __init__(self, *, lame_duck: float, timeout: float) -> None:
        self._lame_duck = lame_duck
        self.timeout = timeout
        self.phase = Phase.STARTING
        self._began = asyncio.Event()
        self._phase_ended = asyncio.Event()
        self._has_signal = False
        self.count: Callable[[], DrainCounts] = DrainCounts
        self._first: _Mark | None = None

    @property
    def has_begun(self) -> bool:
        """Whether the shutdown has begun."""
        return self._began.is_set()

    def started(self) -> None:
        """Leave the phase STARTING, because everything listens."""
        self.phase = Phase.LAME_DUCK if self.has_begun else Phase.SERVING

    def begin(self) -> None:
        """Begin the shutdown. If it has begun, do nothing."""
        if self.phase is Phase.SERVING:
            self.phase = Phase.LAME_DUCK
        self._began.set()

    def hasten(self) -> None:
        """Begin the shutdown on a first signal. On a further one, end the current phase."""
        if self._has_signal:
            self._phase_ended.set()
        self._has_signal = True
        self.begin()

    def interrupt(self) -> None:
        """As `hasten`, but a first signal also skips the lame duck."""
        if self.phase not in (Phase.DRAIN, Phase.CUT):
            self._phase_ended.set()
        self.hasten()

    async def beginning(self) -> None:
        """Wait until the shutdown begins."""
        await self._began.wait()

    async def pass_lame_duck(self) -> None:
        """Wait until the lame duck ends."""
        with self._logged(Phase.LAME_DUCK):
            await self._pass(self._lame_duck)

    async def end(self, ending: Awaitable[object], cut: Callable[[], None]) -> None:
        """Wait for `ending`. If the drain ends before it, call `cut`, which must end it."""
        task = asyncio.ensure_future(ending)
        with self._logged(Phase.DRAIN):
            phase = asyncio.create_task(self._pass(self.timeout))
            await asyncio.wait((task, phase), return_when=asyncio.FIRST_COMPLETED)
            phase.cancel()
        if task.done():
            await task
            return
        with self._logged(Phase.CUT):
            cut()
            await task

    def log_stopped(self) -> None:
        """Log the end of the process, with the duration and the counts of all phases."""
        self._log("stopped", self._first or self._mark())

    @contextmanager
    def _logged(self, phase: Phase) -> Iterator[None]:
        """Make `phase` the current one in the context, and log its end."""
        self.phase = phase
        begin = self._mark()
        self._first = self._first or begin
        try:
            yield
        finally:
            self._log(f"{phase.replace('_', ' ')} ended", begin)

    def _mark(self) -> "_Mark":
        return asyncio.get_running_loop().time(), self.count()

    def _log(self, message: str, begin: "_Mark") -> None:
        began, before = begin
        time, now = self._mark()
        logs.event(
            message,
            duration_ms=round((time - began) * 1000, 3),
            **asdict(replace(now, refused=now.refused - before.refused)),
        )

    async def _pass(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._phase_ended.wait()
        self._phase_ended.clear()


_Mark: TypeAlias = tuple[float, DrainCounts]  # a time of the event loop, and the counts at it
