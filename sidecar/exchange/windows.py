"""Counters by key in time windows. A window begins with the first count of its key."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from itertools import islice

# Eviction takes the window with the lowest count among this many of the oldest.
_CANDIDATES = 8


class Windows:
    """Counts by key, each in a window of `seconds`, in bounded memory.

    At most `capacity` windows are kept. A new one beyond that evicts an old one with a
    low count, so that invented keys do not end a window that limits somebody. No method
    does more work than one eviction, however many windows have expired. `now` returns
    seconds.
    """

    def __init__(
        self, seconds: float, *, capacity: int, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds = seconds
        self._capacity = capacity
        self._now = now
        # Windows are about equally long, so the first ones end next. Not a plain dict: to
        # find its first entry, it scans every entry that was deleted before that one.
        self._windows: OrderedDict[Hashable, tuple[int, float]] = OrderedDict()

    def count(self, key: Hashable) -> int:
        """Return how often `key` was counted in its window; 0 if it has none."""
        count, end = self._windows.get(key, (0, 0.0))
        return count if end > self._now() else 0

    def add(self, key: Hashable) -> None:
        """Count `key` once, in a new window if it has none."""
        count = self.count(key)
        if count:
            self._windows[key] = (count + 1, self._windows[key][1])
        else:
            self.renew(key)

    def renew(self, key: Hashable) -> None:
        """Begin a new window of `key`, with a count of 1."""
        self._put(key, 1, self._seconds)

    def _put(self, key: Hashable, count: int, seconds: float) -> None:
        self._windows.pop(key, None)
        self._windows[key] = (count, self._now() + seconds)
        if len(self._windows) > self._capacity:
            del self._windows[min(islice(self._windows, _CANDIDATES), key=self.count)]

    def learn(self, key: Hashable, count: int, seconds: float) -> None:
        """Replace the window of `key` by one with `count` that ends in `seconds`.

        This happens only if `count` is higher: a count is never lowered.
        """
        if seconds > 0 and count > self.count(key):
            self._put(key, count, seconds)

    def seconds_left(self, key: Hashable) -> int:
        """Return the whole seconds until the window of `key` ends; at least 1."""
        _, end = self._windows.get(key, (0, 0.0))
        return max(1, math.ceil(end - self._now()))

    def forget(self, key: Hashable) -> None:
        """End the window of `key`."""
        self._windows.pop(key, None)

    def __len__(self) -> int:
        return len(self._windows)
