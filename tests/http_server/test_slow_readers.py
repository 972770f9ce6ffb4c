"""Peers that read slowly, or not at all, over TCP and a Unix socket."""

import asyncio
import socket
from collections.abc import Callable

import pytest

from sidecar.http_server.lingering_transport import LOOK_INTERVAL, LingeringTransport
from tests.faults.conditions import eventually
from tests.http_server.test_half_close import Protocol
from tests.http_server.test_lingering_transport import accepted
from tests.loops import on_skipping_loop
from tests.virtual_time import skip

# More than the buffers of the system take.
MUCH = bytes(64 * 1024 * 1024)
# Seconds that a peer has to take something.
PATIENCE = 10.0


@pytest.mark.parametrize("pair", [accepted, socket.socketpair], ids=["TCP", "Unix"])
@on_skipping_loop
async def test_who_takes_something_in_time_is_waited_for(
    pair: Callable[[], tuple[socket.socket, socket.socket]],
) -> None:
    """A peer that takes a little again and again has all the time; one that stops has not."""
    ours, theirs = pair()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_accepted_socket(Protocol, ours)
    theirs.setblocking(False)
    lingering = LingeringTransport(transport, linger=1.0)
    lingering.write(MUCH)
    given_up = asyncio.Event()
    lingering.expect_reader(PATIENCE, given_up.set)
    for _ in range(4):
        await taken(lingering, theirs)
        skip(0.9 * PATIENCE)
        await turn()
        assert not given_up.is_set()
    assert transport.get_write_buffer_size() > len(MUCH) / 2
    for _ in range(4):
        skip(0.9 * PATIENCE)
        await turn()
    assert given_up.is_set()
    lingering.stop_expecting()
    lingering.abort()
    theirs.close()


async def taken(lingering: LingeringTransport, theirs: socket.socket) -> None:
    """Read as a peer until its system has taken more of what was written."""
    before = lingering._count_unsent()

    async def read() -> bool:
        await asyncio.get_running_loop().sock_recv(theirs, 65_536)
        return lingering._count_unsent() < before

    await eventually(read)


async def turn() -> None:
    """Run what is due, and what that schedules for now."""
    for _ in range(3):
        await asyncio.sleep(0)


@on_skipping_loop
async def test_a_peer_that_is_gone_while_nothing_is_read() -> None:
    """While a peer must wait with what it sends, its reset is noticed; then reading goes on."""
    ours, theirs = accepted()
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_accepted_socket(Protocol, ours)
    lingering = LingeringTransport(transport, linger=1.0)
    for _ in range(2):
        lingering.pause_reading()
        skip(LOOK_INTERVAL)
        await turn()
        lingering.resume_reading()
        skip(LOOK_INTERVAL)
        await turn()
    lingering.pause_reading()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes((1, 0, 0, 0, 0, 0, 0, 0)))
    theirs.close()
    await asyncio.sleep(0)
    assert not protocol.is_lost
    skip(LOOK_INTERVAL)
    await eventually(lambda: protocol.is_lost)
    lingering.forget()
