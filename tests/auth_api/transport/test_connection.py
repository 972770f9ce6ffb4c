"""One connection, driven by hand: what comes at moments that no real socket can time."""

import asyncio
import socket
import ssl
from collections.abc import Iterator

import pytest

from sidecar.auth_api.transport.connection import Connection
from sidecar.auth_api.transport.errors import TransportError
from sidecar.auth_api.transport.pool import ConnectionCounters, ConnectionPool
from tests.auth_api.transport.server import response


@pytest.fixture(name="peer")
def _peer() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Give the two ends of a connection."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


async def opened(pool: ConnectionPool, end: socket.socket) -> Connection:
    """Return an open connection over `end`."""
    loop = asyncio.get_running_loop()
    _, connection = await loop.connect_accepted_socket(lambda: pool.new(None), end.dup())
    return connection


def ignore(_status: int) -> None:
    """Do nothing with a status."""


@pytest.mark.parametrize("data", [response(b"x"), b"no HTTP"], ids=["a response", "broken"])
async def test_a_response_to_a_cancelled_call(
    peer: tuple[socket.socket, socket.socket], data: bytes
) -> None:
    """What comes in the moment in which a call is cancelled reaches nobody."""
    pool = ConnectionPool(60.0)
    connection = await opened(pool, peer[0])
    call = asyncio.create_task(connection.exchange(b"x", ignore))
    await asyncio.sleep(0)
    call.cancel()
    connection.data_received(data)
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.sleep(0)
    assert not connection.can_begin()
    assert pool.counters.open == 0


async def test_a_connection_that_opens_although_nobody_wants_it(
    peer: tuple[socket.socket, socket.socket],
) -> None:
    """A connection that is discarded before it opens ends as soon as it does."""
    pool = ConnectionPool(60.0)
    loop, connection = asyncio.get_running_loop(), pool.new(None)
    connection.discard()
    await loop.connect_accepted_socket(lambda: connection, peer[0].dup())
    peer[0].close()
    assert await loop.run_in_executor(None, peer[1].recv, 1) == b""
    assert pool.counters == ConnectionCounters()


async def test_an_error_of_tls_without_a_reason(
    peer: tuple[socket.socket, socket.socket],
) -> None:
    """An SSLError that Python itself makes ends the exchange as one of OpenSSL does."""
    connection = await opened(ConnectionPool(60.0), peer[0])
    call = asyncio.create_task(connection.exchange(b"x", ignore))
    await asyncio.sleep(0)
    connection.connection_lost(ssl.SSLError("canary"))
    with pytest.raises(TransportError) as raised:
        await call
    assert (raised.value.name, raised.value.detail) == ("tls", None)


async def test_a_connection_that_ended_before_its_first_request(
    peer: tuple[socket.socket, socket.socket],
) -> None:
    """A connection that is lost as soon as it is open fails as one that was closed."""
    pool = ConnectionPool(60.0)
    connection = await opened(pool, peer[0])
    connection.abort("late")
    await asyncio.sleep(0)
    with pytest.raises(TransportError) as raised:
        await connection.exchange(b"x", ignore)
    assert raised.value.name == "closed"
    assert connection.tls is None
    assert pool.counters.closed == {"late": 1}
    pool.put_back(connection)
    assert pool.counters.idle == 0


@pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="only Linux has it")
async def test_a_part_of_a_response_is_acknowledged_at_once() -> None:
    """A server with Nagle's algorithm waits for that before it sends the rest: 40 ms by default."""
    option = (socket.IPPROTO_TCP, socket.TCP_QUICKACK)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    with ours, theirs:
        ours.setblocking(False)
        connection = await opened(ConnectionPool(60.0), ours)
        has_head = asyncio.Event()
        call = asyncio.create_task(connection.exchange(b"x", lambda _status: has_head.set()))
        await asyncio.sleep(0)
        ours.setsockopt(*option, 0)  # as after a few exchanges
        theirs.sendall(response(b"x")[:-1])
        await has_head.wait()
        await asyncio.sleep(0)
        assert ours.getsockopt(*option) == 1
        theirs.sendall(b"x")
        assert (await call).body == b"x"
        connection.abort("shutdown")
