"""Counters by key in time windows. A window begins with the first count of its key."""

import math
from collections import OrderedDict
from itertools import islice

# Eviction takes the window with the lowest count among this many of the oldest.
_CANDIDATES = 8
# A new window removes so many that have ended. With more than one, their number falls.
_REMOVED = 2
_NONE = (0, -math.inf)


class Windows:
    """Counts by key, each in a window of `seconds`, in bounded memory.

    At most `capacity` windows are kept. A new one beyond that evicts an old one with a
    low count, so that invented keys do not end a window that limits somebody. A new window
    also removes up to two that have ended, so that memory is freed after a flood of keys. No
    method does more work than that, however many windows have ended. `now` is the time in
    seconds, of any clock that does not go back.
    """

    def __init__(self, seconds: float, *, capacity: int) -> None:
        self._seconds = seconds
        self._capacity = capacity
        # By key the count and the end. Windows are about equally long, so the first ones end
        # next. Not a plain dict: to find its first entry, it scans every entry that was
        # deleted before that one.
        self._windows: OrderedDict[bytes, tuple[int, float]] = OrderedDict()

    def count(self, key: bytes, now: float) -> int:
        """Return how often `key` was counted in its window; 0 if it has none."""
        count, end = self._windows.get(key, _NONE)
        return count if end > now else 0

    def add(self, key: bytes, now: float) -> int:
        """Count `key` once, in a new window if it has none, and return its count."""
        count, end = self._windows.get(key, _NONE)
        if end <= now:
            self.renew(key, now)
            return 1
        self._windows[key] = (count + 1, end)
        return count + 1

    def renew(self, key: bytes, now: float) -> bool:
        """Begin a new window of `key`, with a count of 1. Return whether none was kept of it."""
        return self._begin(key, 1, now + self._seconds, now)

    def learn(self, key: bytes, count: int, seconds: float, now: float) -> None:
        """Replace the window of `key` by one with `count` that ends in `seconds`.

        `seconds` are at most those of a window. Nothing happens unless `count` is higher: a
        count is never lowered.
        """
        if seconds > 0 and count > self.count(key, now):
            self._begin(key, count, now + min(seconds, self._seconds), now)

    def seconds_left(self, key: bytes, now: float) -> int:
        """Return the whole seconds until the window of `key` ends; at least 1."""
        _, end = self._windows.get(key, _NONE)
        return math.ceil(end - now) if end > now else 1

    def forget(self, key: bytes) -> None:
        """End the window of `key`."""
        self._windows.pop(key, None)

    def _begin(self, key: bytes, count: int, end: float, now: float) -> bool:
        is_new = key not in self._windows
        if is_new:
            self._make_room(now)
        else:
            self._windows.move_to_end(key)
        self._windows[key] = (count, end)
        return is_new

    def _make_room(self, now: float) -> None:
        """Remove windows that have ended; if there is still no place for a new one, evict one."""
        windows = self._windows
        for oldest in tuple(islice(windows, _REMOVED)):
            if windows[oldest][1] <= now:
                del windows[oldest]
        if len(windows) >= self._capacity:
            del windows[min(islice(windows, _CANDIDATES), key=windows.__getitem__)]

    def __len__(self) -> int:
        return len(self._windows)
