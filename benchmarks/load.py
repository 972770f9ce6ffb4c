"""A light HTTP/1.1 client: one request, over a few connections, as often as it is answered.

It must cost little beside what it measures, so it reads of an answer no more
than where that ends.
"""

import asyncio
import re
from collections.abc import Iterable
from time import perf_counter
from typing import cast

from sidecar.setting_types import Address

CONNECTIONS = 8
# How long connecting and the first answer may take, in seconds.
_GUARD = 20.0
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)


class AnswerEnd:
    """Finds the end of one answer after the other in what a connection receives."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._missing: int | None = None  # of the content, whose length is known

    def feed(self, data: bytes) -> bool:
        """Take what was received; return whether the answer ends with it.

        Raises ValueError for an answer that is not 200, or that tells nothing of its length.
        """
        if self._missing is not None:
            return self._take(len(data))
        self._buffer += data
        head, end, content = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return False
        if not head.startswith(b"HTTP/1.1 200 "):
            raise ValueError(head.decode("latin-1"))
        length = _LENGTH.search(head)
        if length is not None:
            self._missing = int(length[1])
            return self._take(len(content))
        if not _CHUNKED.search(head):
            raise ValueError("an answer tells nothing of its length")
        return self._done() if _ends(bytes(content)) else False

    def _take(self, count: int) -> bool:
        self._missing = (self._missing or 0) - count
        return self._done() if self._missing == 0 else False

    def _done(self) -> bool:
        self._buffer.clear()
        self._missing = None
        return True


def _ends(content: bytes) -> bool:
    """Whether chunked content is complete (RFC 9112 section 7.1), without trailer fields."""
    start = 0
    while (line_end := content.find(b"\r\n", start)) >= 0:
        size = int(content[start:line_end].partition(b";")[0], 16)
        start = line_end + 2 + size + 2
        if size == 0:
            return len(content) >= start
    return False


class _Connection(asyncio.Protocol):
    """Sends `request` again with the end of each answer, until it is closed.

    `first` and `second` are done with that answer, or with the end of the connection.
    """

    def __init__(self, request: bytes) -> None:
        loop = asyncio.get_running_loop()
        self.answers = 0
        self.first, self.second = loop.create_future(), loop.create_future()
        self._request = request
        self._end = AnswerEnd()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # what TCP has
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self._end.feed(data):
            return
        self._transport.write(self._request)
        self.answers += 1
        if self.answers == 1:
            self.first.set_result(None)
        elif self.answers == 2:
            self.second.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        for future in (self.first, self.second):
            if not future.done():
                future.set_exception(exc or ConnectionError("the server hung up"))

    def close(self) -> None:
        self._transport.abort()


def _answers(connections: Iterable[_Connection]) -> int:
    return sum(connection.answers for connection in connections)


def post(path: str, body: bytes) -> bytes:
    """Return the bytes of a request that sends `body` as JSON."""
    fields = b"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: %d" % len(body)
    return b"POST %s HTTP/1.1\r\n%s\r\n\r\n%s" % (path.encode(), fields, body)


async def rate(address: Address, request: bytes, *, seconds: float) -> float:
    """Return how many answers a second came for `request`, after the first of each connection.

    It is measured for `seconds`, or as long as it takes until each has another one.
    """
    loop = asyncio.get_running_loop()
    connections = [
        (await loop.create_connection(lambda: _Connection(request), address.host, address.port))[1]
        for _ in range(CONNECTIONS)
    ]
    try:
        async with asyncio.timeout(_GUARD + seconds):
            await asyncio.gather(*(connection.first for connection in connections))
            before, start = _answers(connections), perf_counter()
            await asyncio.gather(
                asyncio.sleep(seconds), *(connection.second for connection in connections)
            )
        return (_answers(connections) - before) / (perf_counter() - start)
    finally:
        for connection in connections:
            connection.close()
