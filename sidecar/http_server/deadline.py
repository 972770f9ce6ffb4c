"""A deadline that moves often, on one timer."""

import asyncio
import math
from collections.abc import Callable


class Deadline:
    """Calls `expire` at a time of the event loop, which `set` moves.

    To move a timer of the loop costs more than most requests may. So a later time leaves the
    timer alone: when it fires too early, it is set anew.
    """

    def __init__(self, expire: Callable[[], None]) -> None:
        self._expire = expire
        self._loop = asyncio.get_running_loop()
        self._time: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._fires_at = math.inf

    def set(self, time: float | None) -> None:
        """Move the deadline to this time of the loop in seconds; None: there is none."""
        self._time = time
        if time is not None and time < self._fires_at:
            self.cancel()
            self._time, self._fires_at = time, time
            self._timer = self._loop.call_at(time, self._fire)

    def cancel(self) -> None:
        """Release the timer."""
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
