"""Ending a connection: also where the peer was faster. The rest is in test_protocol.py."""

import asyncio
import socket
import struct

from sidecar.http_server.lingering_transport import LingeringTransport


async def test_a_peer_that_has_reset_is_no_fault() -> None:
    """A reset that the loop has not told of yet ends the connection, and raises nothing."""
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    class Protocol(asyncio.Protocol):
        """Tells of the end."""

        def connection_lost(self, _error: Exception | None) -> None:
            ended.set_result(None)

    ours, theirs = accepted()
    transport, _ = await asyncio.get_running_loop().connect_accepted_socket(Protocol, ours)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    theirs.close()
    lingering = LingeringTransport(transport, linger=1.0)
    lingering.close()
    assert lingering.is_closing()
    async with asyncio.timeout(20):
        await ended
    lingering.forget()


def accepted() -> tuple[socket.socket, socket.socket]:
    """Return both ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    return ours, theirs
