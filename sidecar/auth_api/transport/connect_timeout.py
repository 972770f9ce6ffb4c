"""The timeout of a connection, which the delay of a late event loop does not shorten.

uvloop runs timers before I/O: after a stall of the loop, a plain timeout would end a connection
that the kernel has opened already.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

# The least time for I/O after the timer, in seconds.
IO_TURN = 0.01


class LateLoopError(Exception):
    """The timeout passed while the event loop was late by more than half of it."""


@asynccontextmanager
async def connect_timeout(seconds: float) -> AsyncIterator[None]:
    """Cancel the block after `seconds`, and so much more as the event loop was late then.

    Raises TimeoutError, and LateLoopError if it says nothing about the other side.
    """
    loop = asyncio.get_running_loop()
    due, late = loop.time() + seconds, 0.0
    limit = asyncio.timeout(None)

    def expire() -> None:
        nonlocal late
        late = loop.time() - due
        limit.reschedule(loop.time() + max(IO_TURN, late))

    timer = loop.call_at(due, expire)
    try:
        async with limit:
            yield
    except TimeoutError:
        if late > seconds / 2:
            raise LateLoopError from None
        raise
    finally:
        timer.cancel()
