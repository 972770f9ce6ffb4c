"""The retry rule: when an exchange may be tried again, and when it is not even tried.

Nothing is retried but a connection that was refused, for then the auth-api has seen
nothing of the request: a second try can neither count twice against a client nor
cost a second hash. Pure, but for the clock.
"""

import math
import random
import time
from collections.abc import Callable

# Of the exchanges, this part may be tried again, and one more in each second.
RATIO, PER_SECOND = 0.1, 1.0
# What may be saved for a burst.
MAX_SAVED = 10.0
# The longest that a second try waits, in seconds, so that not all come at once.
MAX_WAIT = 0.05
# So many connections in a row that cannot be opened mean that the auth-api is down.
DOWN_AFTER = 5
# How long it is then left alone, in seconds; twice as long each time that it still is.
FIRST_PAUSE, MAX_PAUSE = 1.0, 8.0


class RetryBudget:
    """How many retries there may be, so that they never become the load that fails."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._saved = PER_SECOND
        self._at = now()

    def earn(self) -> None:
        """Count one exchange."""
        self._save(RATIO)

    def spend(self) -> bool:
        """Take one retry from what is saved; return whether there was one."""
        self._save(0.0)
        if self._saved < 1.0:
            return False
        self._saved -= 1.0
        return True

    def _save(self, more: float) -> None:
        now = self._now()
        more += (now - self._at) * PER_SECOND
        self._saved = min(MAX_SAVED, self._saved + more)
        self._at = now


class FailFast:
    """Whether the auth-api is down, in which case calls fail at once and one looks again."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._failures = 0
        self._length = FIRST_PAUSE
        self._until = 0.0

    @property
    def is_down(self) -> bool:
        """Whether so many connections in a row could not be opened that hardly one is tried."""
        return self._failures >= DOWN_AFTER

    def admit(self) -> int:
        """Return 0 for a call that may try; else in how many whole seconds one may.

        A call that may try while the auth-api `is_down` is a probe: the only one until the next
        pause ends, or until it is given back.
        """
        if not self.is_down:
            return 0
        left = self._until - self._now()
        if left > 0:
            return max(1, math.ceil(left))
        self._pause()
        return 0

    def succeeded(self) -> None:
        """Tell that a connection could be opened."""
        self._failures = 0
        self._length = FIRST_PAUSE

    def failed(self, *, is_probe: bool = False) -> None:
        """Tell that a connection could not be opened.

        Of many that were under way when it went down, none but the first few tells
        anything new: only a probe that fails makes the pause longer.
        """
        self._failures += 1
        if is_probe:
            self._length = min(MAX_PAUSE, 2 * self._length)
        if is_probe or self._failures == DOWN_AFTER:
            self._pause()

    def give_back(self) -> None:
        """Tell that a probe was cancelled before it learned anything.

        The next call may probe, beside a later probe if there is one.
        """
        self._until = self._now()

    def _pause(self) -> None:
        self._until = self._now() + self._length


def jitter() -> float:
    """Return how long a second try waits, in seconds ("full jitter")."""
    return random.uniform(0.0, MAX_WAIT)  # noqa: S311 to spread, not to hide
