"""Connections whose peer has ended its side: the loop reads no more, so it would hear of no reset.

https://man7.org/linux/man-pages/man7/tcp.7.html
"""

import asyncio
import socket
from typing import Any

# Only Linux has it. Its first byte is the state of the connection.
_TCP_INFO: int | None = getattr(socket, "TCP_INFO", None)
_TCP_CLOSE = 7
# Seconds between two looks at such a connection.
INTERVAL = 5.0


# Any: a transport of asyncio, or what wraps one.
def abort_when_reset(transport: Any) -> None:
    """Abort `transport` once its peer has reset the connection, or answers no probe of TCP.

    It looks every `INTERVAL` seconds until `transport` is closing.
    """
    if transport.is_closing():
        return
    if _is_closed(transport.get_extra_info("socket")):
        transport.abort()
    else:
        asyncio.get_running_loop().call_later(INTERVAL, abort_when_reset, transport)


# Any: a socket, or what uvloop has for one.
def _is_closed(connection: Any) -> bool:
    if _TCP_INFO is None:  # pragma: no cover - not on Linux
        return False
    state: int = connection.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 1)[0]
    return state == _TCP_CLOSE
