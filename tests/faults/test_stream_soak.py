"""Streams that are long, slow, abandoned or silent: memory stays flat, and nothing is left."""

import asyncio
import random
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import psutil
import pytest

from tests.faults.conditions import eventually
from tests.faults.wire import host_and_port, reset
from tests.rest.streaming import ask

GIB, MIB = 2**30, 2**20
LINES = b"Accept: application/x-ndjson"
# What the memory of a process may grow after a warm-up, in bytes.
GROWTH = 16 * MIB


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server of streams in a process of its own."""

    process: asyncio.subprocess.Process
    address: str

    @property
    def memory(self) -> int:
        """The resident memory of the process, in bytes."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

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


@pytest.mark.soak
@pytest.mark.parametrize(
    ("path", "accept"),
    [("/v1/files/endless", LINES), ("/v1/watch/endless", LINES), ("/v1/watch/endless", b"A: b")],
    ids=["content", "lines", "array"],
)
async def test_a_stream_of_one_gib(path: str, accept: bytes) -> None:
    """The memory of the server is flat over 1 GiB, also while the client does not read."""
    async with serving() as server:
        reader, writer = await server.connect(ask(path, accept))
        await read(reader, 32 * MIB)
        before = highest = server.memory
        done = 0
        while done < GIB:
            done += await read(reader, 64 * MIB)
            await asyncio.sleep(0.2)  # a pause, in which the server could run ahead
            highest = max(highest, server.memory)
        print(f"{path} {accept!r}: {before / MIB:.1f} MiB, at most {highest / MIB:.1f} MiB")
        assert highest - before < GROWTH
        reset(writer)
        await eventually(server.is_idle)


@pytest.mark.soak
@pytest.mark.timing("it lasts as long as it lasts; what is left is asked for at the end")
async def test_streams_that_are_abandoned() -> None:
    """Clients that read a little and leave, in every way, leave nothing, and memory is flat."""
    chance = random.Random(1)  # noqa: S311 it protects nothing
    async with serving() as server:

        async def leave(seconds: float) -> int:
            count, end = 0, time.monotonic() + seconds
            while time.monotonic() < end:
                name = chance.choice(["endless", "endless", "wait", "two", "fail"])
                path = f"/v1/{chance.choice(['files', 'watch'])}/{name}"
                accept = chance.choice([LINES, b"Accept: text/event-stream", b"A: b"])
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

        await asyncio.gather(*(leave(5) for _ in range(16)))
        await eventually(server.is_idle)
        before = server.memory
        counts = await asyncio.gather(*(leave(25) for _ in range(16)))
        await eventually(server.is_idle)
        after = server.memory
        print(f"{sum(counts)} streams: {before / MIB:.1f} MiB, then {after / MIB:.1f} MiB")
        assert after - before < GROWTH


@pytest.mark.soak
@pytest.mark.timing("the system finds out within a minute and a half; the test waits for three")
async def test_a_client_that_is_gone_before_the_first_message() -> None:
    """A stream that has sent nothing ends by TCP's keep-alive when its client has closed."""
    async with serving() as server:
        _, writer = await server.connect(ask("/v1/watch/hold"))
        await eventually(lambda: _is(server, 1))
        # How long the system remembers a connection that this end has closed.
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_LINGER2, 1)
        writer.close()
        await eventually(server.is_idle, within=180)


async def _is(server: Server, count: int) -> bool:
    return await server.streams() == count
