"""What must hold after any fault: nothing is left of it, and the next good request is served."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psutil

from tests.faults.forms import forms_of

MIB = 1024 * 1024
# How long a condition may take to hold before the test fails, in seconds.
GUARD = 20.0
_INTERVAL = 0.01  # seconds between two looks


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What a process takes: open file descriptors, and resident memory in bytes."""

    descriptors: int
    memory: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Margin:
    """How much more than before may be left after a fault: descriptors, and bytes of memory."""

    descriptors: int = 2
    memory: int = 8 * MIB


async def eventually(
    condition: Callable[[], bool | Awaitable[bool]], *, within: float = GUARD
) -> None:
    """Wait until `condition` holds, by asking it again and again.

    For what nothing tells of, like the state of another process. Raises
    TimeoutError when it does not hold after `within` seconds.
    """
    deadline = time.monotonic() + within
    while not await _holds(condition):
        if time.monotonic() > deadline:
            raise TimeoutError(f"it must hold within {within} s: {condition}")
        await asyncio.sleep(_INTERVAL)


async def _holds(condition: Callable[[], bool | Awaitable[bool]]) -> bool:
    told = condition()
    return told if isinstance(told, bool) else await told


def footprint(pid: int | None = None) -> Footprint:
    """Return what the process `pid` takes, or this one. Raises psutil.NoSuchProcess."""
    process = psutil.Process(pid)
    with process.oneshot():
        return Footprint(descriptors=process.num_fds(), memory=process.memory_info().rss)


def left_over(before: Footprint, after: Footprint, margin: Margin) -> str:
    """Return in words what is left beyond `margin`, or nothing."""
    descriptors = after.descriptors - before.descriptors
    memory = after.memory - before.memory
    words = []
    if descriptors > margin.descriptors:
        words.append(f"{descriptors} descriptors more than before")
    if memory > margin.memory:
        words.append(f"{memory / MIB:.1f} MiB more than before")
    return ", ".join(words)


@asynccontextmanager
async def recovers(
    good: Callable[[], Awaitable[object]],
    *,
    pid: int | None = None,
    margin: Margin = Margin(),
    within: float = GUARD,
) -> AsyncIterator[None]:
    """Let a fault happen inside, and check that the process `pid`, or this one, is over it.

    `good` makes a good request, and raises if that is not served. It is awaited
    once before, so that what stays open for every caller is open. Raises AssertionError
    if more than `margin` is left `within` seconds after the fault.
    """
    await good()
    before = footprint(pid)
    yield
    await good()

    def left() -> str:
        return left_over(before, footprint(pid), margin)

    try:
        await eventually(lambda: not left(), within=within)
    except TimeoutError:
        raise AssertionError(left()) from None


def no_secret(text: str, *secrets: str) -> None:
    """Check that `text` shows none of `secrets`, in whatever form.

    Raises AssertionError, which tells the number of the secret only, and
    ValueError for a secret that is too short to be searched for.
    """
    for number, secret in enumerate(secrets):
        is_shown = any(form in text for form in forms_of(secret))
        assert not is_shown, f"secret {number} is in the text"
