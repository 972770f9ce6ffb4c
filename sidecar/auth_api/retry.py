"""The retry budget of exchanges, and the pause before a second try.

Only a refused connection is tried again: the auth-api has seen nothing of the request, so
a second try can neither count twice against a client nor cost a second hash of a secret.
"""

import random
import time
from collections.abc import Callable

# Retries allowed for each exchange, and for each second.
RATIO, PER_SECOND = 0.1, 1.0
# Retries that may be saved for a burst, at most.
MAX_SAVED = 10.0
# The longest pause before a second try, in seconds.
MAX_WAIT = 0.05


class RetryBudget:
    """A budget of retries, so that retries never multiply the load of a failing auth-api.

    `now` returns seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._saved = PER_SECOND
        self._saved_at = now()

    def earn(self) -> None:
        """Add the share of one exchange."""
        self._save(RATIO)

    def spend(self) -> bool:
        """Take one retry; return whether there was one."""
        self._save(0.0)
        if self._saved < 1.0:
            return False
        self._saved -= 1.0
        return True

    def _save(self, retries: float) -> None:
        now = self._now()
        retries += (now - self._saved_at) * PER_SECOND
        self._saved = min(MAX_SAVED, self._saved + retries)
        self._saved_at = now


def jitter() -> float:
    """Return the pause before a second try, in seconds ("full jitter")."""
    return random.uniform(0.0, MAX_WAIT)  # noqa: S311 to spread, not to hide
