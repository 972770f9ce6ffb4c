"""Streams that are long, slow, abandoned or silent: memory stays flat, and nothing is left."""

import asyncio
import random
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import pytest

from tests.faults.conditions import Footprint, Margin, eventually, footprint, left_over
from tests.faults.wire import host_and_port, reset
from tests.rest.streaming import ask

GIB, MIB = 2**30, 2**20
LINES, EVENTS = b"Accept: application/x-ndjson", b"Accept: text/event-stream"
# What the memory of a process may grow after a warm-up, in bytes.
GROWTH = 16 * MIB


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server of streams in a process of its own."""

    process: asyncio.subprocess.Process
    address: str

    @property
    def footprint(self) -> Footprint:
        """What the process takes."""
        return footprint(self.process.pid)

    @property
    def memory(self) -> int:
        """The resident memory of the process, in bytes."""
        return self.footprint.memory

    async def streams(self) -> int:
        """Return the number of open streams."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        return int(await self.line())

    async def line(self) -> str:
        """Return the next line that the process prints."""
        assert self.process.stdout is not None
        return (await self.process.stdout.readline()).decode().strip()

    async def is_idle(self) -> bool:
        """Whether no stream is open."""
        return await self.streams() == 0

    async def connect(self, request: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect with small buffers, and send a request."""
        connection = socket.socket()
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        await asyncio.get_running_loop().sock_connect(connection, host_and_port(self.address))
        reader, writer = await asyncio.open_connection(sock=connection, limit=65_536)
        writer.write(request)
        return reader, writer


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    """Run a server."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.rest.stream_server", stdin=pipe, stdout=pipe
    )
    try:
        server = Server(process=process, address="")
        yield Server(process=process, address=await server.line())
    finally:
        assert process.stdin is not None
        process.stdin.close()
        assert await process.wait() == 0


async def read(reader: asyncio.StreamReader, size: int) -> int:
    """Read `size` bytes or a little more, and return how many."""
    count = 0
    while count < size:
        part = await reader.read(MIB)
        assert part
        count += len(part)
    return count


@pytest.fixture(scope="module", name="gone")
async def _gone() -> AsyncIterator[Server]:
    """Yield a server whose one stream is silent, and whose client has closed long before."""
    async with serving() as server:
        _, writer = await server.connect(ask("/v1/watch/hold"))
        await eventually(lambda: _is(server, 1))
        # How long the system remembers a connection that this end has closed.
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_LINGER2, 1)
        writer.close()
        yield server


async def _is(server: Server, count: int) -> bool:
    return await server.streams() == count


@pytest.mark.soak
@pytest.mark.usefixtures("gone")  # it becomes older meanwhile
@pytest.mark.parametrize(
    ("path", "accept", "size"),
    [
        ("/v1/files/endless", LINES, GIB),
        ("/v1/watch/endless", LINES, GIB // 8),
        ("/v1/watch/endless", EVENTS, GIB // 8),
        ("/v1/watch/endless", b"A: b", GIB // 8),
    ],
    ids=["content", "lines", "events", "array"],
)
async def test_a_stream_of_one_gib(path: str, accept: bytes, size: int) -> None:
    """The memory of the server is flat over 1 GiB, also while the client does not read.

    The other framings, which take longer, have an eighth of it.
    """
    async with serving() as server:
        reader, writer = await server.connect(ask(path, accept))
        await read(reader, 32 * MIB)
        before = highest = server.memory
        done = 0
        while done < size:
            done += await read(reader, size // 16)
            await asyncio.sleep(0.1)  # a pause, in which the server could run ahead
            highest = max(highest, server.memory)
        print(
            f"{path} {accept!r}: {done / MIB:.0f} MiB sent in {before / MIB:.1f} MiB, "
            f"at most {highest / MIB:.1f} MiB"
        )
        assert highest - before < GROWTH
        reset(writer)
        await eventually(server.is_idle)


async def leave(server: Server, end: float, chance: random.Random) -> int:
    """Read a little of streams and leave them, in every way; return how many they were."""
    count = 0
    while time.monotonic() < end:
        name = chance.choice(["endless", "endless", "wait", "two", "fail"])
        path = f"/v1/{chance.choice(['files', 'watch'])}/{name}"
        accept = chance.choice([LINES, EVENTS, b"A: b"])
        reader, writer = await server.connect(ask(path, accept))
        with suppress(asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            async with asyncio.timeout(chance.random()):
                await reader.readexactly(chance.choice([1, 100, 100_000, MIB]))
        if chance.random() < 0.5:
            reset(writer)
        else:
            writer.close()
        count += 1
    return count


async def read_on(server: Server, end: float, pause: float) -> int:
    """Read an endless stream, 64 KiB and then a pause; return how many bytes came."""
    reader, writer = await server.connect(ask("/v1/files/endless"))
    count = 0
    while time.monotonic() < end:
        part = await reader.read(65_536)
        assert part
        count += len(part)
        await asyncio.sleep(pause)
    reset(writer)
    return count


@pytest.mark.soak
@pytest.mark.timing("it lasts as long as it lasts; what is left is asked for at the end")
async def test_streams_that_are_abandoned() -> None:
    """Clients that leave in every way, slow ones and endless streams leave nothing; memory is flat.

    Slow clients and those that read on get their streams meanwhile.
    """
    chance = random.Random(1)  # noqa: S311 it protects nothing
    async with serving() as server:

        async def crowd(seconds: float) -> tuple[int, list[int]]:
            end = time.monotonic() + seconds
            reading = [read_on(server, end, pause) for pause in (0.0, 0.1, 0.1, 0.1)]
            leaving = [leave(server, end, chance) for _ in range(16)]
            counts = await asyncio.gather(*leaving, *reading)
            await eventually(server.is_idle)
            return sum(counts[:16]), counts[16:]

        await crowd(4)
        before = server.footprint
        count, sizes = await crowd(16)
        after = server.footprint
        print(
            f"{count} streams left, {[size // MIB for size in sizes]} MiB read: "
            f"{before.memory / MIB:.1f} MiB, then {after.memory / MIB:.1f} MiB"
        )
        assert min(sizes) > 0
        assert left_over(before, after, Margin(memory=GROWTH)) == ""


@pytest.mark.soak
@pytest.mark.timing("the system finds out within a minute and a half; the test waits for three")
async def test_a_client_that_is_gone_before_the_first_message(gone: Server) -> None:
    """A stream that has sent nothing ends by TCP's keep-alive when its client has closed."""
    await eventually(gone.is_idle, within=180)
