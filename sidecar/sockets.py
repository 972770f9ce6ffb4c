"""Listening sockets: taken before anything starts, so that a busy address is told at once."""

import socket

from sidecar.setting_types import Address

BACKLOG = 1024


def listen(address: Address) -> socket.socket:
    """Return a socket that listens on `address`. Raises OSError, whose text names it."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    # The protocol is named because asyncio turns Nagle's delay off only where it is.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        # A port whose last connections are still closing may be taken; one in use may not.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((address.host, address.port))
        # At once: until one of them listens, two processes may bind the same port.
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        raise OSError(f"cannot listen on {address}: {error.strerror}") from None
    return bound


def address_of(bound: socket.socket) -> Address:
    """Return where `bound` is, with its port if any free one was asked for."""
    host, port = bound.getsockname()[:2]
    return Address(host, port)
