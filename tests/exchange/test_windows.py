"""Tests of windows: counters that expire, with bounded memory and bounded work."""

import gc
import tracemalloc
from collections import OrderedDict
from functools import partial

import pytest

from sidecar.exchange.failure_limit import MAX_WINDOWS
from sidecar.exchange.windows import Windows
from tests.line_count import lines_of

NOW = 1000.0


def key(number: int) -> bytes:
    """Return a key as long as those of the throttle."""
    return number.to_bytes(12, "big") + b"198.51.100.255"


def filled(count: int) -> Windows:
    """Return windows of 60 s that are full with `count` keys."""
    windows = Windows(60, capacity=count)
    for number in range(count):
        windows.add(key(number), NOW)
    return windows


def test_a_window_begins_with_the_first_count() -> None:
    """Counts add up until the window ends, whenever the last count was."""
    windows, later = Windows(60, capacity=10), NOW + 59.5
    assert windows.add(b"a", NOW) == 1
    assert windows.add(b"a", later) == 2
    assert (windows.count(b"a", later), windows.seconds_left(b"a", later)) == (2, 1)
    later = NOW + 60
    assert (windows.count(b"a", later), windows.seconds_left(b"a", later)) == (0, 1)
    assert windows.add(b"a", later) == 1
    assert (windows.count(b"a", later), windows.seconds_left(b"a", later)) == (1, 60)
    assert (windows.count(b"b", later), windows.seconds_left(b"b", later)) == (0, 1)


def test_a_window_is_renewed_and_forgotten() -> None:
    """A renewed window restarts with a count of 1; a forgotten one is removed."""
    windows, later = Windows(60, capacity=10), NOW + 30
    for _ in range(3):
        windows.add(b"a", NOW)
    assert not windows.renew(b"a", later)
    assert windows.renew(b"c", later)
    windows.forget(b"c")
    assert (windows.count(b"a", later), windows.seconds_left(b"a", later)) == (1, 60)
    windows.forget(b"a")
    windows.forget(b"b")
    assert (windows.count(b"a", later), len(windows)) == (0, 0)


@pytest.mark.parametrize(
    ("count", "seconds", "result"),
    [
        (3, 20, (3, 20)),  # higher than the one here
        (3, 90, (3, 60)),  # no window lasts longer
        (2, 20, (2, 30)),  # equal
        (1, 20, (2, 30)),
        (3, 0, (2, 30)),  # it has ended
        (3, -1, (2, 30)),
    ],
)
def test_a_count_is_learned(count: int, seconds: float, result: tuple[int, int]) -> None:
    """A higher count replaces a window, with its own end; any other count changes nothing."""
    windows = Windows(60, capacity=10)
    windows.add(b"a", NOW - 30)
    windows.add(b"a", NOW)
    windows.learn(b"a", count, seconds, NOW)
    assert (windows.count(b"a", NOW), windows.seconds_left(b"a", NOW)) == result


def test_invented_keys_are_forgotten() -> None:
    """For any number of keys, at most `capacity` windows are kept, the newest ones."""
    windows = Windows(60, capacity=100)
    for number in range(1000):
        windows.add(key(number), NOW)
        assert len(windows) <= 100
    assert windows.count(key(999), NOW) == 1
    assert windows.count(key(0), NOW) == 0


def test_ended_windows_are_removed() -> None:
    """After a flood of keys each new window removes two that have ended, and none that has not."""
    windows = filled(100)
    windows.add(key(100), NOW + 30)
    for number in range(99):
        windows.add(b"later%d" % number, NOW + 61)
    assert windows.count(key(100), NOW + 61) == 1
    assert len(windows) == 100
    windows = filled(100)
    for number in range(40):
        windows.add(b"later%d" % number, NOW + 60)
    assert len(windows) == 100 - 40


def test_a_known_key_evicts_nothing() -> None:
    """Only a new window evicts another one; a count in an existing window does not."""
    windows = Windows(60, capacity=3)
    for name in (b"a", b"b", b"c", b"c", b"c"):
        windows.add(name, NOW)
    assert [windows.count(name, NOW) for name in (b"a", b"b", b"c")] == [1, 1, 3]


def test_a_window_that_limits_is_kept() -> None:
    """For any number of new keys, a window with a high count stays until it ends."""
    windows = Windows(60, capacity=100)
    for _ in range(5):
        windows.add(b"limited", NOW)
    for number in range(1000):
        windows.add(key(number), NOW)
    assert windows.count(b"limited", NOW) == 5
    for number in range(200):
        windows.add(key(number), NOW + 60)
    assert b"limited" not in windows._windows


def test_memory_is_bounded() -> None:
    """`MAX_WINDOWS` windows take less than 16 MiB."""
    gc.collect()
    tracemalloc.start()
    windows = filled(MAX_WINDOWS)
    for number in range(1000):
        windows.add(key(MAX_WINDOWS + number), NOW)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(windows) == MAX_WINDOWS
    assert used < 16 * 1024 * 1024


@pytest.mark.parametrize("seconds", [0.0, 61.0], ids=["open", "expired"])
def test_work_is_bounded(seconds: float) -> None:
    """A count runs the same few lines, however many windows exist or have expired."""

    def add(windows: Windows, old: bytes) -> None:
        windows.add(old, NOW + seconds)
        windows.add(b"new", NOW + seconds)

    few, many = filled(10), filled(20_000)
    lines = lines_of(partial(add, few, key(5)))
    assert lines == lines_of(partial(add, many, key(10_000))) < 100


def test_the_oldest_window_is_found_without_a_scan() -> None:
    """The windows are in a dict that links its entries.

    A plain dict would scan all entries deleted before the oldest one, below any line of Python.
    """
    assert type(filled(1)._windows) is OrderedDict
