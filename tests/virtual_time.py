"""Event loops with clocks that tests move, so that tests of timeouts do not wait."""

import asyncio
from collections.abc import Callable
from typing import Self


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop with a clock that starts at 0 and moves only by `advance`."""

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
        """Run all callbacks that are due, and all that they schedule for now."""
        self.call_soon(self.stop)
        self.run_forever()
        while self._ready:  # type: ignore[attr-defined] # private: the callbacks of the next step
            self.call_soon(self.stop)
            self.run_forever()

    def abandon(self) -> None:
        """Cancel all tasks."""
        for task in asyncio.all_tasks(self):
            task.cancel()
        self.settle()

    def advance(self, seconds: float) -> None:
        """Move the clock by `seconds`, from one timer to the next, and settle at each."""
        self.settle()
        end = self._now + seconds
        while (due := self._next()) is not None and due <= end:
            self._now = max(self._now, due)
            self.settle()
        self._now = end
        self.settle()

    def _next(self) -> float | None:
        # The base class keeps the timers in a heap, cancelled ones too until they are due.
        timers: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined] # private
        return min((timer.when() for timer in timers if not timer.cancelled()), default=None)


class SkippingLoop(asyncio.SelectorEventLoop):
    """A loop over real sockets in real time, in which a test can skip time.

    A timeout of a minute expires by `skip`, and on no machine by itself. The clock of uvloop,
    which the product runs on, cannot be moved.
    """

    _skipped = 0.0

    def time(self) -> float:
        """Return the seconds of the clock."""
        return super().time() + self._skipped

    def skip(self, seconds: float) -> None:
        """Move the clock by `seconds`; callbacks that are due then run in the next turn."""
        self._skipped += seconds

    async def skip_until(self, condition: Callable[[], bool]) -> None:
        """Skip in steps of 0.1 s until `condition` holds."""
        while not condition():
            self.skip(0.1)
            await asyncio.sleep(0)


def skip(seconds: float) -> None:
    """Move the clock of the running loop, which must be able to skip."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SkippingLoop)
    loop.skip(seconds)


async def skip_until(condition: Callable[[], bool]) -> None:
    """Skip time until `condition` holds; wait instead if the running loop cannot skip."""
    loop = asyncio.get_running_loop()
    if isinstance(loop, SkippingLoop):
        await loop.skip_until(condition)
    while not condition():  # noqa: ASYNC110 there is no event
        await asyncio.sleep(0.01)
