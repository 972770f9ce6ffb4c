"""An event loop whose clock moves only when a test says so: no test of times waits for them."""

import asyncio
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
