"""Counts in windows of time: a window begins with the first count and ends with its length."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from itertools import islice

# Of so many of the oldest windows the one with the lowest count makes room.
_CANDIDATES = 8


class Windows:
    """Counts by key, each in a window of `seconds`, in memory of a bounded size.

    At most `most` windows are kept. A new one takes the place of an old one with a low
    count, so that invented keys do not end a window that limits somebody. No call does
    more work than that, whatever has expired. `now` gives seconds.
    """

    def __init__(
        self, seconds: float, *, most: int, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds = seconds
        self._most = most
        self._now = now
        # All are equally long, so the first is the next to end. A plain dict looks through
        # every entry that was deleted before it, to find its first.
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
        self._windows.pop(key, None)
        self._windows[key] = (1, self._now() + self._seconds)
        if len(self._windows) > self._most:
            del self._windows[min(islice(self._windows, _CANDIDATES), key=self.count)]

    def seconds_left(self, key: Hashable) -> int:
        """Return in how many whole seconds, at least one, the window of `key` is over."""
        _, end = self._windows.get(key, (0, 0.0))
        return max(1, math.ceil(end - self._now()))

    def forget(self, key: Hashable) -> None:
        """End the window of `key`."""
        self._windows.pop(key, None)

    def __len__(self) -> int:
        return len(self._windows)
