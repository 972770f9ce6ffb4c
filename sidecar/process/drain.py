"""Graceful shutdown in bounded phases.

1. Lame duck: calls are served, but load balancers see that the process is not ready.
2. Drain: calls in flight finish.
3. Cut: calls that are left are ended at once.

A further signal ends the current phase (`hasten`, `interrupt`). A repeated `POST /drain`
does not (`begin`).
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import StrEnum


class Phase(StrEnum):
    """The phases of a process."""

    SERVING = "serving"
    LAME_DUCK = "lame_duck"
    DRAIN = "drain"
    CUT = "cut"


class Drain:
    """The state of a graceful shutdown, which is in `phase`.

    `lame_duck` is the time of the lame duck, `timeout` the maximum time of the drain, in
    seconds.
    """

    def __init__(self, *, lame_duck: float, timeout: float) -> None:
        self._lame_duck = lame_duck
        self.timeout = timeout
        self.phase = Phase.SERVING
        self._began = asyncio.Event()
        self._phase_ended = asyncio.Event()

    @property
    def has_begun(self) -> bool:
        """Whether the shutdown has begun."""
        return self._began.is_set()

    def begin(self) -> None:
        """Begin the shutdown. If it has begun, do nothing."""
        if not self.has_begun:
            self.phase = Phase.LAME_DUCK
        self._began.set()

    def hasten(self) -> None:
        """Begin the shutdown. If it has begun, end its current phase."""
        if self.has_begun:
            self._phase_ended.set()
        self.begin()

    def interrupt(self) -> None:
        """Begin the shutdown without the lame duck. If it has begun, end its current phase."""
        self.begin()
        self._phase_ended.set()

    async def beginning(self) -> None:
        """Wait until the shutdown begins."""
        await self._began.wait()

    async def pass_lame_duck(self) -> None:
        """Wait until the lame duck ends."""
        await self._phase(self._lame_duck)

    async def end(self, ending: Awaitable[object], cut: Callable[[], None]) -> None:
        """Wait for `ending`. If the drain ends before it, call `cut`, which must end it."""
        self.phase = Phase.DRAIN
        task = asyncio.ensure_future(ending)
        phase = asyncio.create_task(self._phase(self.timeout))
        await asyncio.wait((task, phase), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            self.phase = Phase.CUT
            cut()
        phase.cancel()
        await task

    async def _phase(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._phase_ended.wait()
        self._phase_ended.clear()
