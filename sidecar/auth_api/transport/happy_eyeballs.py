"""Happy Eyeballs (RFC 8305): connection attempts to several addresses, staggered in time.

The event loop in use opens the connections: uvloop has no happy_eyeballs_delay of its own.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from itertools import zip_longest
from typing import TypeVar

from sidecar.auth_api.dns.look_up import SocketAddress

T = TypeVar("T")

# RFC 8305 section 8: the recommended and the least Connection Attempt Delay, in seconds.
DELAY, MIN_DELAY = 0.25, 0.01


class NoConnectionError(Exception):
    """Every attempt failed. `errors` are their exceptions, in the order of the attempts.

    The first is also the cause. It says most: addresses that this host cannot use come last
    (RFC 6724 section 6, rule 1).
    """

    def __init__(self, errors: Sequence[BaseException]) -> None:
        super().__init__(f"{len(errors)} failed")
        self.errors = tuple(errors)


async def connect(
    addresses: Sequence[SocketAddress],
    open_one: Callable[[SocketAddress], Coroutine[object, object, T]],
    *,
    discard: Callable[[T], object],
    delay: float = DELAY,
) -> T:
    """Return the first connection that `open_one` opens to one of `addresses`, at least one.

    The next attempt begins `delay` seconds after the last one, or as soon as one fails
    (RFC 8305 section 5). The other attempts are cancelled, and all are if this call is.
    `discard` gets each connection that opens nevertheless, and closes it without waiting.
    Raises NoConnectionError if all attempts fail.
    """
    if len(addresses) > 1:
        return await _race(addresses, open_one, discard=discard, delay=delay)
    try:
        return await open_one(addresses[0])  # without the cost of a task
    except Exception as error:
        raise NoConnectionError([error]) from error


def delay_within(seconds: float, count: int) -> float:
    """Return the delay between `count` attempts, so that each begins within `seconds`.

    It is never longer than `DELAY`, nor shorter than `MIN_DELAY` (RFC 8305 section 5).
    """
    return max(MIN_DELAY, min(DELAY, seconds / count))


async def _race(
    addresses: Sequence[SocketAddress],
    open_one: Callable[[SocketAddress], Coroutine[object, object, T]],
    *,
    discard: Callable[[T], object],
    delay: float,
) -> T:
    attempts: list[asyncio.Task[T]] = []
    winner: asyncio.Task[T] | None = None
    try:
        winner = await _first_success(interleave(addresses), open_one, attempts, delay)
    finally:
        for attempt in [attempt for attempt in attempts if attempt is not winner]:
            attempt.cancel()
            attempt.add_done_callback(partial(_discard, discard))
    if winner:
        return winner.result()
    errors = [error for attempt in attempts if (error := attempt.exception()) is not None]
    raise NoConnectionError(errors) from errors[0]


async def _first_success(
    addresses: Sequence[SocketAddress],
    open_one: Callable[[SocketAddress], Coroutine[object, object, T]],
    attempts: list[asyncio.Task[T]],
    delay: float,
) -> asyncio.Task[T] | None:
    """Return the first attempt that succeeds, None if all fail. Add each one to `attempts`."""
    remaining = deque(addresses)
    while remaining or not all(attempt.done() for attempt in attempts):
        if remaining:
            attempts.append(asyncio.create_task(open_one(remaining.popleft())))
        if winner := await _wait(attempts, delay if remaining else None):
            return winner
    return None


def interleave(addresses: Sequence[SocketAddress]) -> list[SocketAddress]:
    """Return `addresses` with their families in turn, the first one's first.

    RFC 8305 section 4, with a First Address Family Count of 1.
    """
    first = [address for address in addresses if address.family == addresses[0].family]
    others = [address for address in addresses if address.family != addresses[0].family]
    pairs = zip_longest(first, others)
    return [address for pair in pairs for address in pair if address is not None]


async def _wait(
    attempts: Sequence[asyncio.Task[T]], seconds: float | None
) -> asyncio.Task[T] | None:
    """Wait until an attempt ends, `seconds` at most; return the first that succeeded."""
    running = [attempt for attempt in attempts if not attempt.done()]
    await asyncio.wait(running, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    succeeded = (attempt for attempt in attempts if attempt.done() and attempt.exception() is None)
    return next(succeeded, None)


def _discard(discard: Callable[[T], object], attempt: asyncio.Task[T]) -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        discard(attempt.result())
