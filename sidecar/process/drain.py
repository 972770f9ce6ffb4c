"""The drain: from the wish to stop to the end, in phases of bounded time.

Each further wish hastens it, by ending the phase that it is in.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress


class Drain:
    """`lame_duck` and `timeout` are the longest that its two phases take, in seconds."""

    def __init__(self, *, lame_duck: float, timeout: float) -> None:
        self._lame_duck = lame_duck
        self.timeout = timeout
        self._began = asyncio.Event()
        self._hastened = asyncio.Event()

    @property
    def has_begun(self) -> bool:
        """Whether no more calls are wanted."""
        return self._began.is_set()

    def begin(self) -> None:
        """Begin, unless it has begun."""
        self._began.set()

    def hasten(self) -> None:
        """Begin, or end the phase that it is in."""
        if self.has_begun:
            self._hastened.set()
        self.begin()

    def interrupt(self) -> None:
        """Begin without the first phase, which is for routers; or end the phase that it is in."""
        self.begin()
        self._hastened.set()

    async def beginning(self) -> None:
        """Return when it begins."""
        await self._began.wait()

    async def pass_lame_duck(self) -> None:
        """Return when whoever routes calls had the time to see that no more are wanted."""
        await self._phase(self._lame_duck)

    async def end(self, ending: Awaitable[object], cut: Callable[[], None]) -> None:
        """Wait for `ending`; call `cut`, which must make it end, when it takes too long."""
        task = asyncio.ensure_future(ending)
        phase = asyncio.create_task(self._phase(self.timeout))
        await asyncio.wait((task, phase), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            cut()
        phase.cancel()
        await task

    async def _phase(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hastened.wait()
        self._hastened.clear()
