"""Tests of windows: counters that expire, with bounded memory and bounded work."""

import gc
import sys
import tracemalloc
from types import FrameType
from typing import Any

import pytest

from sidecar.exchange.throttle import MAX_WINDOWS
from sidecar.exchange.windows import Windows


class Clock:
    """A clock in seconds, which the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def test_a_window_begins_with_the_first_count() -> None:
    """Counts add up until the window ends, whenever the last count was."""
    clock = Clock()
    windows = Windows(60, capacity=10, now=clock)
    windows.add("a")
    clock.now += 59.5
    windows.add("a")
    assert (windows.count("a"), windows.seconds_left("a")) == (2, 1)
    clock.now += 0.5
    assert windows.count("a") == 0
    windows.add("a")
    assert (windows.count("a"), windows.seconds_left("a")) == (1, 60)
    assert (windows.count("b"), windows.seconds_left("b")) == (0, 1)


def test_a_window_is_renewed_and_forgotten() -> None:
    """A renewed window restarts with a count of 1; a forgotten one is removed."""
    clock = Clock()
    windows = Windows(60, capacity=10, now=clock)
    for _ in range(3):
        windows.add("a")
    clock.now += 30
    windows.renew("a")
    assert (windows.count("a"), windows.seconds_left("a")) == (1, 60)
    windows.forget("a")
    windows.forget("b")
    assert (windows.count("a"), len(windows)) == (0, 0)


def test_invented_names_are_forgotten() -> None:
    """For any number of keys, at most `capacity` windows are kept, the newest ones."""
    windows = Windows(60, capacity=100, now=Clock())
    for number in range(1000):
        windows.add(number)
        assert len(windows) <= 100
    assert windows.count(999) == 1
    assert windows.count(0) == 0


def test_who_is_known_makes_nobody_forgotten() -> None:
    """Only a new window evicts another one; a count in an existing window does not."""
    windows = Windows(60, capacity=3, now=Clock())
    for name in ("a", "b", "c", "c", "c"):
        windows.add(name)
    assert [windows.count(name) for name in ("a", "b", "c")] == [1, 1, 3]


def test_a_window_that_limits_is_kept() -> None:
    """For any number of new keys, a window with a high count stays until it ends."""
    clock = Clock()
    windows = Windows(60, capacity=100, now=clock)
    for _ in range(5):
        windows.add("limited")
    for number in range(1000):
        windows.add(number)
    assert windows.count("limited") == 5
    clock.now += 60
    for number in range(200):
        windows.add(number)
    assert "limited" not in windows._windows


def test_memory_is_bounded() -> None:
    """`MAX_WINDOWS` windows take less than 16 MiB."""
    windows = Windows(60, capacity=MAX_WINDOWS, now=Clock())
    gc.collect()
    tracemalloc.start()
    for number in range(MAX_WINDOWS + 1000):
        windows.add(number.to_bytes(12, "big") + b"198.51.100.255")
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(windows) == MAX_WINDOWS
    assert used < 16 * 1024 * 1024


@pytest.mark.parametrize("seconds", [0.0, 61.0], ids=["open", "expired"])
def test_work_is_bounded(seconds: float) -> None:
    """A count takes the same few steps, however many windows exist or have expired."""
    steps = []
    for count in (10, 20_000):
        clock = Clock()
        windows = Windows(60, capacity=count, now=clock)
        for number in range(count):
            windows.add(number)
        clock.now += seconds
        steps.append(_lines_of(windows, count // 2, "new"))
    assert steps[0] == steps[1]


def _lines_of(windows: Windows, *keys: object) -> int:
    """Return the number of Python lines that run to count `keys`."""
    lines = 0

    def trace(_frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        for key in keys:
            windows.add(key)
    finally:
        sys.settrace(before)
    return lines
