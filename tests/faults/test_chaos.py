"""The chaos proxy of the kit, before a server that sends back what it gets."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.faults.chaos import Chaos
from tests.faults.conditions import eventually
from tests.faults.flow import SILENT, Fault, Flow
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


async def seconds(chaos: Chaos, data: bytes) -> float:
    """Return how long an echo takes."""
    async with client(chaos) as caller:
        start = time.monotonic()
        assert await caller.echo(data) == data
        return time.monotonic() - start


@pytest.mark.parametrize(
    ("flow", "at_least"),
    [
        (Flow(latency=0.1), 0.1),
        (Flow(jitter=0.1, piece=1), 0.1),  # 10 times half of it, on average
        (Flow(bandwidth=50), 0.2),  # 10 bytes at 50 a second
    ],
    ids=["latency", "jitter", "bandwidth"],
)
async def test_a_slow_flow_takes_its_time(chaos: Chaos, flow: Flow, at_least: float) -> None:
    """What is slowed down takes at least so long, in either direction."""
    for fault in (Fault(up=flow), Fault(down=flow)):
        chaos.fault = fault
        assert await seconds(chaos, TEXT) >= at_least


def test_the_same_seed_gives_the_same_chances() -> None:
    """Two proxies of one seed draw the same delays, and one of another seed others."""
    flow = Flow(jitter=1)
    first, same, other = (Chaos("", seed=seed) for seed in (1, 1, 2))
    delays = [[flow.delay(1, proxy.delays) for _ in range(5)] for proxy in (first, same, other)]
    assert delays[0] == delays[1] != delays[2]


async def test_a_flow_in_pieces_arrives_in_pieces(chaos: Chaos) -> None:
    """With small pieces the first thing read is not all that was sent at once."""
    chaos.fault = Fault(down=Flow(piece=1, latency=0.02))
    async with client(chaos) as caller:
        caller.writer.write(TEXT)
        first = await caller.reader.read(len(TEXT))
        assert 1 <= len(first) < len(TEXT)
        assert first + await caller.reader.readexactly(len(TEXT) - len(first)) == TEXT


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_one_byte_is_corrupted(chaos: Chaos, direction: str) -> None:
    """The byte at the offset is inverted, wherever the pieces are cut, and no other is."""
    flow = Flow(corrupt_at=5, piece=3)
    chaos.fault = Fault(up=flow) if direction == "up" else Fault(down=flow)
    async with client(chaos) as caller:
        assert await caller.echo(TEXT) == b"01234\xca6789"
        assert await caller.echo(TEXT) == TEXT


@pytest.mark.parametrize("limit", [1, 4, 10])
async def test_a_limit_ends_by_fin(chaos: Chaos, limit: int) -> None:
    """After so many bytes the connection ends in order."""
    chaos.fault = Fault(down=Flow(end_after=limit))
    async with client(chaos) as caller:
        caller.writer.write(TEXT)
        assert await caller.rest() == TEXT[:limit]
    await eventually(lambda: chaos.open == 0)


@pytest.mark.parametrize("limit", [0, 4, 10])
async def test_a_limit_ends_by_reset(chaos: Chaos, limit: int) -> None:
    """After so many bytes the connection ends by RST, which counts before a later FIN."""
    chaos.fault = Fault(down=Flow(reset_after=limit, end_after=20))
    async with client(chaos) as caller:
        caller.writer.write(TEXT)
        assert await caller.reader.readexactly(limit) == TEXT[:limit]
        with pytest.raises(ConnectionResetError):
            await caller.rest()
    await eventually(lambda: chaos.open == 0)


async def test_a_limit_upstream_ends_both_sides(chaos: Chaos) -> None:
    """The client is reset too when the limit is on the way to the target."""
    chaos.fault = Fault(up=Flow(reset_after=4))
    async with client(chaos) as caller:
        caller.writer.write(TEXT)
        with pytest.raises(ConnectionResetError):
            await caller.rest()
    assert chaos.passed["up"] == 4


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


async def test_silence_keeps_both_sides_open(chaos: Chaos) -> None:
    """What is sent in silence is lost; afterwards the same connection works."""
    async with client(chaos) as caller:
        await caller.echo(TEXT)
        chaos.fault = SILENT
        caller.writer.write(b"lost")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(caller.reader.read(1), 0.1)
        assert (chaos.open, chaos.passed["up"]) == (1, len(TEXT))
        chaos.fault = Fault()
        assert await caller.echo(TEXT) == TEXT


async def test_silence_hides_that_a_side_has_gone(chaos: Chaos) -> None:
    """The target keeps its connection when the client has left in silence."""
    async with client(chaos) as caller:
        await caller.echo(TEXT)
        chaos.fault = SILENT
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


async def test_only_a_share_is_treated(chaos: Chaos) -> None:
    """Of forty connections about a half is spoiled, and always the same ones."""
    chaos.fault = Fault(down=Flow(corrupt_at=0), share=0.5)
    spoiled = []
    for _ in range(40):
        async with client(chaos) as caller:
            spoiled.append(await caller.echo(TEXT) != TEXT)
    assert 10 < sum(spoiled) < 30
    lots = Chaos("").lots
    assert spoiled == [lots.random() < 0.5 for _ in range(40)]
