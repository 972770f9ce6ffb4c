"""Event loops whose clocks a test moves, so that no test about a time waits for it."""

import asyncio
from collections.abc import Callable
from typing import Self


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs what is due by a clock that starts at 0 and that `advance` moves."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.abandon()
        self.close()

    def time(self) -> float:
        """Return the seconds of the clock."""
        return self._now

    def settle(self) -> None:
        """Run whatever is due by now, and what that leads to."""
        self.call_soon(self.stop)
        self.run_forever()
        while self._ready:  # type: ignore[attr-defined] # private: the callbacks of the next step
            self.call_soon(self.stop)
            self.run_forever()

    def abandon(self) -> None:
        """Cancel every task that there is."""
        for task in asyncio.all_tasks(self):
            task.cancel()
        self.settle()

    def advance(self, seconds: float) -> None:
        """Move the clock by so many seconds, from one timer to the next, and settle at each."""
        self.settle()
        end = self._now + seconds
        while (due := self._next()) is not None and due <= end:
            self._now = max(self._now, due)
            self.settle()
        self._now = end
        self.settle()

    def _next(self) -> float | None:
        # The base keeps what call_at took in a heap, the cancelled among them until they are due.
        timers: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined] # private
        return min((timer.when() for timer in timers if not timer.cancelled()), default=None)


class SkippingLoop(asyncio.SelectorEventLoop):
    """Runs over real sockets in real time, of which a test can skip as much as it likes.

    A timeout of a minute passes by `skip`, and on no machine by itself. The product runs
    on uvloop, whose clock cannot be moved.
    """

    _skipped = 0.0

    def time(self) -> float:
        """Return the seconds of the clock."""
        return super().time() + self._skipped

    def skip(self, seconds: float) -> None:
        """Move the clock by so many seconds; what is due then runs in the next turn."""
        self._skipped += seconds

    async def skip_until(self, condition: Callable[[], bool]) -> None:
        """Skip from tenth to tenth of a second until `condition` holds."""
        while not condition():
            self.skip(0.1)
            await asyncio.sleep(0)


def skip(seconds: float) -> None:
    """Move the clock of the running loop, which must be able to skip."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SkippingLoop)
    loop.skip(seconds)


async def skip_until(condition: Callable[[], bool]) -> None:
    """Skip time on the running loop, or wait where it cannot skip, until `condition` holds."""
    loop = asyncio.get_running_loop()
    if isinstance(loop, SkippingLoop):
        await loop.skip_until(condition)
    while not condition():  # noqa: ASYNC110 nobody tells
        await asyncio.sleep(0.01)
