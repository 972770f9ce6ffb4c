"""Connections whose peer has ended its side: which of them are gone, over TCP and a Unix socket."""

import asyncio
import socket
from collections.abc import Callable

import pytest

from sidecar.http_server import lingering_transport
from sidecar.http_server.lingering_transport import LOOK_INTERVAL, LingeringTransport
from tests.faults.conditions import eventually
from tests.faults.wire import reset
from tests.http_server.test_lingering_transport import accepted
from tests.loops import on_skipping_loop
from tests.virtual_time import skip


class Protocol(asyncio.Protocol):
    """A connection that stays open when its peer has ended its side."""

    def __init__(self) -> None:
        self.has_eof = False
        self.is_lost = False

    def eof_received(self) -> bool:
        """Stay open."""
        self.has_eof = True
        return True

    def connection_lost(self, _error: Exception | None) -> None:
        """Note the end."""
        self.is_lost = True


@pytest.mark.parametrize("pair", [accepted, socket.socketpair], ids=["TCP", "Unix"])
@on_skipping_loop
async def test_a_peer_that_is_gone(
    pair: Callable[[], tuple[socket.socket, socket.socket]],
) -> None:
    """A peer that has only ended its side is waited for; one that is gone ends the connection."""
    ours, theirs = pair()
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_accepted_socket(Protocol, ours)
    _, writer = await asyncio.open_connection(sock=theirs)
    writer.write_eof()
    await eventually(lambda: protocol.has_eof)
    lingering = LingeringTransport(transport, linger=1.0)
    lingering.abort_when_gone()
    skip(LOOK_INTERVAL)
    await asyncio.sleep(0)  # what is due runs
    assert not transport.is_closing()
    reset(writer)
    await eventually(lambda: lingering_transport._is_gone(ours.fileno()))
    skip(LOOK_INTERVAL)
    await eventually(lambda: protocol.is_lost)


@on_skipping_loop
async def test_a_connection_that_ends_is_not_looked_at() -> None:
    """A connection that is closing in another way is left alone."""
    ours, theirs = accepted()
    transport, protocol = await asyncio.get_running_loop().connect_accepted_socket(Protocol, ours)
    lingering = LingeringTransport(transport, linger=1.0)
    lingering.abort_when_gone()
    transport.close()
    theirs.close()
    skip(LOOK_INTERVAL)
    await eventually(lambda: protocol.is_lost)
