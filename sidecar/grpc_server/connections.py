"""The open connections of the gRPC listener, as the system sees them.

gRPC core neither lists its connections nor closes one on request. So the open sockets of this
process are searched for those at the address of the listener. To end one, its socket is shut
down, and core then finds the connection closed.
"""

import os
import socket
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress

from sidecar.interceptors.connection_use import Peer
from sidecar.settings.types import Address

_DESCRIPTORS = "/proc/self/fd"  # Linux; elsewhere no connection is found
_INTERNET = (socket.AF_INET, socket.AF_INET6)
_ANY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 compared with, not bound
# What an IPv6 socket has before the address of an IPv4 client (RFC 4291 section 2.5.5.2).
_MAPPED = "::ffff:"


class Connections:
    """The connections to `addresses`: IP addresses with the ports in use.

    Connections over Unix sockets are not among them: their clients have no address.
    """

    def __init__(self, addresses: Iterable[Address]) -> None:
        # Other listeners can have the same port at other addresses.
        self._local = {(address.host, address.port) for address in addresses}

    def peers(self) -> set[Peer]:
        """Return the clients of the open connections."""
        return {peer for peer, _ in self._each()}

    def end(self, peers: Collection[Peer]) -> int:
        """Shut down the connections of `peers`, and return how many there were."""
        ended = 0
        for peer, connection in self._each():
            if peer in peers:
                with suppress(OSError):  # its client was faster
                    connection.shutdown(socket.SHUT_RDWR)
                ended += 1
        return ended

    def _each(self) -> Iterator[tuple[Peer, socket.socket]]:
        """Yield each connection, and a socket for it that is closed after the turn of the loop."""
        for descriptor in descriptors():
            with suppress(OSError), _duplicate(descriptor) as duplicate:
                if duplicate.family in _INTERNET and self._is_ours(*duplicate.getsockname()[:2]):
                    # A listening socket has no peer, so it raises OSError.
                    host, port = duplicate.getpeername()[:2]
                    yield (_unmapped(host), port), duplicate

    def _is_ours(self, host: str, port: int) -> bool:
        hosts = (_unmapped(host), *_ANY_ADDRESS)
        return any((each, port) in self._local for each in hosts)


def descriptors() -> list[int]:
    """Return the open file descriptors of this process."""
    try:
        with os.scandir(_DESCRIPTORS) as entries:
            return [int(entry.name) for entry in entries]
    except OSError:
        return []


def _duplicate(descriptor: int) -> socket.socket:
    """Return a socket of its own for `descriptor`. Raises OSError if that is no open socket.

    What is done to it cannot reach another file, even if core closes `descriptor` meanwhile and
    the system gives its number to a new one.
    """
    copy = os.dup(descriptor)
    try:
        return socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise


def _unmapped(host: str) -> str:
    return host.removeprefix(_MAPPED) if "." in host else host
