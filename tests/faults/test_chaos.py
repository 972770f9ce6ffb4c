"""The chaos proxy of the kit, before a server that sends back what it gets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.faults.chaos import Chaos
from tests.faults.conditions import eventually
from tests.faults.wire import LOOPBACK, accepts, held_port, host_and_port

# The longest that anything here may take before the test fails, in seconds.
GUARD = 20
TEXT = b"0123456789"


@pytest.fixture
async def chaos() -> AsyncIterator[Chaos]:
    """Give a proxy without a fault, before an echo server."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass  # the client was reset, as some tests want it
        finally:
            writer.close()

    server = await asyncio.start_server(echo, LOOPBACK, 0)
    port = server.sockets[0].getsockname()[1]
    async with server, Chaos(f"{LOOPBACK}:{port}") as proxy:
        yield proxy


class Client:
    """A connection to the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def echo(self, data: bytes) -> bytes:
        """Return as many bytes as were sent. Raises IncompleteReadError if fewer come back."""
        self.writer.write(data)
        return await self.reader.readexactly(len(data))

    async def rest(self) -> bytes:
        """Return all that comes before FIN. Raises ConnectionError at RST."""
        return await self.reader.read()


@asynccontextmanager
async def client(chaos: Chaos) -> AsyncIterator[Client]:
    """Connect to the proxy, and be guarded while connected."""
    async with asyncio.timeout(GUARD):
        reader, writer = await asyncio.open_connection(*host_and_port(chaos.address))
        try:
            yield Client(reader, writer)
        finally:
            writer.close()


async def test_without_a_fault_all_passes(chaos: Chaos) -> None:
    """Bytes and half-closes pass both ways, and both are counted."""
    data = TEXT * 100_000
    async with client(chaos) as caller:
        assert await caller.echo(data) == data
        assert chaos.open == 1
        caller.writer.write_eof()
        assert await caller.rest() == b""
    await eventually(lambda: chaos.open == 0)
    assert (chaos.accepted, chaos.passed) == (1, {"up": len(data), "down": len(data)})


async def test_all_connections_are_reset_at_once(chaos: Chaos) -> None:
    """Every open connection ends by RST, and a new one is served."""
    async with client(chaos) as one, client(chaos) as other:
        for caller in (one, other):
            await caller.echo(TEXT)
        chaos.reset()
        for caller in (one, other):
            with pytest.raises(ConnectionResetError):
                await caller.rest()
    async with client(chaos) as caller:
        assert await caller.echo(TEXT) == TEXT


@pytest.mark.timing("nothing comes, however long it is waited for")
async def test_silence_keeps_both_sides_open(chaos: Chaos) -> None:
    """What is sent in silence is lost; afterwards the same connection works."""
    async with client(chaos) as caller:
        await caller.echo(TEXT)
        chaos.is_silent = True
        caller.writer.write(b"lost")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(caller.reader.read(1), 0.1)
        assert (chaos.open, chaos.passed["up"]) == (1, len(TEXT))
        chaos.is_silent = False
        assert await caller.echo(TEXT) == TEXT


@pytest.mark.timing("nothing comes, however long it is waited for")
async def test_silence_hides_that_a_side_has_gone(chaos: Chaos) -> None:
    """The target keeps its connection when the client has left in silence."""
    async with client(chaos) as caller:
        await caller.echo(TEXT)
        chaos.is_silent = True
    async with client(chaos) as caller:
        caller.writer.write_eof()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(caller.reader.read(1), 0.1)
        assert chaos.open == 2


async def test_a_closed_listener_refuses_and_comes_back(chaos: Chaos) -> None:
    """New connections are refused, an open one works, and the same port is taken again."""
    async with client(chaos) as caller:
        await caller.echo(TEXT)
        chaos.refuse()
        assert not accepts(chaos.address)
        assert await caller.echo(TEXT) == TEXT
        await chaos.accept()
        async with client(chaos) as another:
            assert await another.echo(TEXT) == TEXT


async def test_a_dead_target_resets_the_client() -> None:
    """Where nothing listens, a connection is reset at once."""
    with held_port() as port:
        async with Chaos(f"{LOOPBACK}:{port}") as chaos, client(chaos) as caller:
            with pytest.raises(ConnectionResetError):
                await caller.rest()
