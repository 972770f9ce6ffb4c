"""The scripts of the kit, read by a raw client, and the server that closes idle connections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.faults import scripted
from tests.faults.conditions import eventually
from tests.faults.wire import host_and_port
from tests.upstream import Script, Upstream, answer

# The longest that anything here may take before the test fails, in seconds.
GUARD = 20
REQUEST = b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\n{}"
REPLY = answer(200, b"body")


@asynccontextmanager
async def asked(script: Script) -> AsyncIterator[asyncio.StreamReader]:
    """Send a request to an upstream with that script, and give what reads its answer."""
    async with asyncio.timeout(GUARD), Upstream() as upstream:
        upstream.script = script
        address = upstream.url.split("/")[2]
        reader, writer = await asyncio.open_connection(*host_and_port(address))
        writer.write(REQUEST)
        yield reader
        writer.close()


@pytest.mark.parametrize("after", [b"", REPLY[:20]], ids=["at once", "in the answer"])
async def test_it_resets(after: bytes) -> None:
    """The bytes before the RST arrive, and then the RST."""
    async with asked(scripted.resets(after=after)) as reader:
        assert await reader.readexactly(len(after)) == after
        with pytest.raises(ConnectionResetError):
            await reader.read()


async def test_it_is_endless() -> None:
    """Chunk after chunk comes until the client leaves."""
    async with asked(scripted.endless()) as reader:
        assert await reader.readexactly(len(scripted.CHUNKED)) == scripted.CHUNKED
        for _ in range(200):
            assert await reader.readexactly(6) == b"1000\r\n"
            assert len(await reader.readexactly(4098)) == 4098


async def test_a_head_is_endless() -> None:
    """A field of a header is sent again and again."""
    head, field = b"HTTP/1.1 200 OK\r\n", b"X-Field: 1\r\n"
    async with asked(scripted.endless(field, head=head)) as reader:
        assert await reader.readexactly(len(head) + 3 * len(field)) == head + 3 * field


@pytest.mark.timing("it is closed in the end, however late")
async def test_an_idle_connection_is_closed() -> None:
    """A connection serves any number of requests, and is closed by the server when idle."""
    async with asyncio.timeout(GUARD), scripted.KeepAlive(GUARD) as server:
        reader, writer = await asyncio.open_connection(*host_and_port(server.address))
        for idle in (GUARD, 0.01):
            server.idle = idle
            writer.write(REQUEST)
            assert await reader.readexactly(len(server.reply)) == server.reply
        assert await reader.read() == b""
        writer.close()
        assert (server.connections, server.closed) == (1, 1)
        assert server.requests == [REQUEST] * 2


async def test_a_request_may_meet_the_close() -> None:
    """With no time to be idle, a second request on the connection is lost unanswered."""
    async with asyncio.timeout(GUARD), scripted.KeepAlive(0) as server:
        reader, writer = await asyncio.open_connection(*host_and_port(server.address))
        writer.write(REQUEST)
        await reader.readexactly(len(server.reply))
        await eventually(lambda: server.closed == 1)
        writer.write(REQUEST)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await reader.readexactly(1)
        writer.close()
        assert server.requests == [REQUEST]


async def test_a_request_on_a_reused_connection_is_lost() -> None:
    """After so many answers the next request of a connection is read, and never answered."""
    async with asyncio.timeout(GUARD), scripted.KeepAlive(GUARD, answers=2) as server:
        reader, writer = await asyncio.open_connection(*host_and_port(server.address))
        for _ in range(2):
            writer.write(REQUEST)
            assert await reader.readexactly(len(server.reply)) == server.reply
        writer.write(REQUEST)
        assert await reader.read() == b""
        writer.close()
        assert server.requests == [REQUEST] * 3
        assert (server.connections, server.closed) == (1, 0)
