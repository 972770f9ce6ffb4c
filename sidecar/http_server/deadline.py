"""A deadline that moves often, with one timer of the event loop."""

import asyncio
import math
from collections.abc import Callable


class Deadline:
    """Calls `expire` at a time of the event loop, which `set` moves.

    A deadline moves several times in each request, and moving a timer of the loop takes long. So
    a later deadline leaves the timer alone: when it fires too early, it is set anew.
    """

    def __init__(self, expire: Callable[[], None]) -> None:
        self._expire = expire
        self._loop = asyncio.get_running_loop()
        self._time: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._fires_at = math.inf

    def set(self, time: float | None) -> None:
        """Move the deadline to `time`, in seconds of the loop's clock. None removes it."""
        self._time = time
        if time is not None and time < self._fires_at:
            self.cancel()
            self._time, self._fires_at = time, time
            self._timer = self._loop.call_at(time, self._fire)

    def cancel(self) -> None:
        """Remove the deadline and its timer."""
        if self._timer is not None:
            self._timer.cancel()
        self._time, self._timer, self._fires_at = None, None, math.inf

    def _fire(self) -> None:
        time = self._time
        self.cancel()
        if time is None:
            return
        if self._loop.time() < time:
            self.set(time)
        else:
            self._expire()
