"""How late the event loop runs its timers."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Seconds between two measurements.
INTERVAL = 0.25


@contextmanager
def measured(observe: Callable[[float], None]) -> Iterator[None]:
    """In the context, measure the running loop again and again; `observe` gets the seconds.

    A timer of uvloop is up to 1 ms late or early by itself.
    """
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle

    def begin() -> asyncio.TimerHandle:
        return loop.call_later(INTERVAL, end, time.perf_counter() + INTERVAL)

    def end(due: float) -> None:
        nonlocal timer
        observe(max(0.0, time.perf_counter() - due))
        timer = begin()

    timer = begin()
    try:
        yield
    finally:
        timer.cancel()
