"""Check of connections whose peer has ended its side: the loop does not notice a reset of them."""

import asyncio
import select
from typing import Any

# Seconds between two looks at such a connection.
INTERVAL = 5.0


# Any: a transport of asyncio, or what wraps one.
def abort_when_gone(transport: Any) -> None:
    """Abort `transport` once its peer has reset the connection, or answers no probe of TCP.

    It looks every `INTERVAL` seconds until `transport` is closing.
    """
    if transport.is_closing():
        return
    if _is_gone(transport.get_extra_info("socket").fileno()):
        transport.abort()
    else:
        asyncio.get_running_loop().call_later(INTERVAL, abort_when_gone, transport)


def _is_gone(descriptor: int) -> bool:
    """Return whether both directions of a connection have ended (POLLERR, POLLHUP of poll(2))."""
    poll = select.poll()
    poll.register(descriptor, 0)  # the system always reports these two
    return bool(poll.poll(0))
