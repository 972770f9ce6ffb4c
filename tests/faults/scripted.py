"""Scripts of the upstream of tests/upstream.py, and a server whose connections do not stay.

Each function returns a script, which is run after a request was received whole.
"""

import asyncio
import itertools
from collections.abc import MutableSequence
from typing import Self

from tests.faults.wire import LOOPBACK, reset
from tests.upstream import TOKEN, Script, answer, read_request

CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


def resets(*, after: bytes = b"") -> Script:
    """Send `after`, and end the connection by RST."""

    async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(after)
        await writer.drain()
        reset(writer)

    return script


def endless(piece: bytes = b"1000\r\n" + b" " * 4096 + b"\r\n", *, head: bytes = CHUNKED) -> Script:
    """Send `head`, and then `piece`, a chunk by default, again and again until the client leaves.

    With a field of a header as the piece, and a status line as the head, the head does not end.
    """

    async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:  # until drain() raises ConnectionError
            writer.write(piece)
            await writer.drain()

    return script


class KeepAlive:
    """A server that keeps connections open, and closes each that is idle for `idle` seconds.

    With `answers` it closes also when one more request than that came on a connection,
    which it reads and leaves unanswered: the race of a close with a request, lost for
    certain. Both may be set while it runs. `requests` holds what it received, `connections`
    how many were ever made, and `closed` how many of them were closed for being idle.
    """

    def __init__(self, idle: float, *, answers: int | None = None) -> None:
        self.idle = idle
        self.answers = answers
        self.requests: MutableSequence[bytes] = []
        self.connections = 0
        self.closed = 0
        self.reply = answer(200, TOKEN, Connection="keep-alive")
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, LOOPBACK, 0)
        self.address = f"{LOOPBACK}:{self._server.sockets[0].getsockname()[1]}"
        self.url = f"http://{self.address}/v1/oauth/token"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            self.requests.append(await read_request(reader))
            for answered in itertools.count(1):
                writer.write(self.reply)
                await writer.drain()
                async with asyncio.timeout(self.idle):
                    self.requests.append(await read_request(reader))
                if answered == self.answers:
                    break
        except TimeoutError:
            self.closed += 1
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client left first
        finally:
            self._writers.remove(writer)
            writer.close()
