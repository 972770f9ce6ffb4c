"""A circuit breaker: while the auth-api is down, calls fail at once and a few probe it."""

import math
import time
from collections.abc import Callable

# The number of failed connections in a row after which the auth-api is down.
DOWN_AFTER = 5
# The pause between probes in seconds: the first one, doubled by each failed probe, at most.
FIRST_PAUSE, MAX_PAUSE = 1.0, 8.0


class FailFast:
    """Tells whether the auth-api is down, and which call may probe it. `now` returns seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._failures = 0
        self._pause = FIRST_PAUSE
        self._next_probe = 0.0

    @property
    def is_down(self) -> bool:
        """Whether so many connections in a row have failed that only probes are tried."""
        return self._failures >= DOWN_AFTER

    def admit(self) -> int:
        """Return 0 if the call may try, else the whole seconds until the next probe.

        A call that may try while the auth-api `is_down` is a probe: the only one until the
        next pause ends or until it is given back.
        """
        if not self.is_down:
            return 0
        seconds = self._next_probe - self._now()
        if seconds > 0:
            return max(1, math.ceil(seconds))
        self._begin_pause()
        return 0

    def succeeded(self) -> None:
        """Record an opened connection: the auth-api is up."""
        self._failures = 0
        self._pause = FIRST_PAUSE

    def failed(self, *, is_probe: bool = False) -> None:
        """Record a failed connection.

        Only a failed probe makes the pause longer: the other calls that were under way when
        the auth-api went down say nothing new.
        """
        self._failures += 1
        if is_probe:
            self._pause = min(MAX_PAUSE, 2 * self._pause)
        if is_probe or self._failures == DOWN_AFTER:
            self._begin_pause()

    def give_back(self) -> None:
        """Record a probe that was cancelled without a result: the next call may probe.

        A later probe may still be under way then.
        """
        self._next_probe = self._now()

    def _begin_pause(self) -> None:
        self._next_probe = self._now() + self._pause
