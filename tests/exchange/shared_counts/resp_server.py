"""A server of RESP2, the protocol of Redis, that answers each command as a script says."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeAlias

from sidecar.exchange.shared_counts.redis_store import Timeouts

Command: TypeAlias = tuple[bytes, ...]
# Returns the answer to a command, or None to close the connection.
Script: TypeAlias = Callable[[Command], Awaitable[bytes | None]]

OK = b"+OK\r\n"
# No busy machine misses them.
PATIENT = Timeouts(connect=20, answer=20, request=40)


class RespServer:
    """A listening server. `commands` are those that it received, of all connections."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.commands: list[Command] = []
        self.connections = 0
        self.address = ""
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """Its URL."""
        return f"redis://{self.address}"

    @property
    def is_connected(self) -> bool:
        """Whether it has an open connection."""
        return bool(self._writers)

    def disconnect(self) -> None:
        """Close all connections."""
        for writer in self._writers:
            writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection."""
        self.connections += 1
        self._writers.add(writer)
        try:
            while (command := await _read(reader)) and (answer := await self._answer(command)):
                writer.write(answer)
                await writer.drain()
        except ConnectionError:
            pass  # the client left
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, command: Command) -> bytes | None:
        self.commands.append(command)
        return await self.script(command)


async def _read(reader: asyncio.StreamReader) -> Command | None:
    """Return the next command, an array of bulk strings, or None at the end."""
    try:
        count = int((await reader.readuntil(b"\r\n"))[1:])
        words = []
        for _ in range(count):
            length = int((await reader.readuntil(b"\r\n"))[1:])
            words.append((await reader.readexactly(length + 2))[:-2])
    except asyncio.IncompleteReadError:
        return None
    return tuple(words)


@asynccontextmanager
async def serving(
    script: Script, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[RespServer]:
    """Run a server on a free port of the loopback address."""
    resp = RespServer(script)
    server = await asyncio.start_server(resp.serve, "127.0.0.1", 0, ssl=tls)
    resp.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield resp
    finally:
        server.close()
        resp.disconnect()
        await server.wait_closed()


def amounts_of(command: Command) -> Sequence[tuple[str, int]]:
    """Return the names in an EVAL of the product, and the amount for each."""
    count = int(command[2])
    names, amounts = command[3 : 3 + count], command[4 + count :]
    return [(name.decode(), int(amount)) for name, amount in zip(names, amounts, strict=True)]


def integers(*numbers: int) -> bytes:
    """Return an array of `numbers` as an answer."""
    return b"*%d\r\n" % len(numbers) + b"".join(b":%d\r\n" % number for number in numbers)


def counting() -> Script:
    """Return a script that counts as Redis does. Its windows do not end, and have 40 s left."""
    totals: dict[str, int] = {}

    async def count(command: Command) -> bytes:
        if command[0] != b"EVAL":
            return OK
        numbers = []
        for name, amount in amounts_of(command):
            totals[name] = totals.get(name, 0) + amount
            numbers += [totals[name], 40_000]
        return integers(*numbers)

    return count


def replying(answer: bytes | None) -> Script:
    """Return a script with one answer to all commands."""

    async def reply(_command: Command) -> bytes | None:
        return answer

    return reply


async def silence(_command: Command) -> None:
    """Script that never answers."""
    await asyncio.Event().wait()
