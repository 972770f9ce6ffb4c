"""A load generator in Python: each connection sends its request again after each answer.

It must cost little beside the system under test, so it parses of an answer only its end.
"""

import asyncio
import functools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol, cast

from sidecar.settings.types import Address

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
        # Without the first test a stream would be parsed again with each of its chunks.
        has_end = content.endswith(b"\r\n\r\n") and _ends(bytes(content))
        return self._done() if has_end else False

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


class Exchange(Protocol):
    """One request, sent repeatedly over one connection, and the parser of its answers."""

    def request(self) -> bytes:
        """Return the bytes to send next."""

    def feed(self, data: bytes) -> bool:
        """Parse received bytes; return whether they end the answer.

        Raises ValueError for an answer that is not a success.
        """


class Http1(AnswerEnd):
    """The exchange of HTTP/1.1, which sends the same bytes each time."""

    def __init__(self, request: bytes) -> None:
        super().__init__()
        self._request = request

    def request(self) -> bytes:
        """Return the bytes of the request."""
        return self._request


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The outcome of one load: answers in all, answers a second, and latencies in seconds."""

    requests: int
    rate: float
    p50: float
    p99: float


class _Connection(asyncio.Protocol):
    """Repeats one exchange until it is closed.

    `first` and `second` are done with that answer, or with the end of the connection.
    """

    def __init__(self, exchange: Exchange) -> None:
        loop = asyncio.get_running_loop()
        self.latencies: list[float] = []  # in seconds
        self.first, self.second = loop.create_future(), loop.create_future()
        self.error: Exception | None = None
        self._exchange = exchange

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # what TCP has
        self._send()

    def data_received(self, data: bytes) -> None:
        if not self._exchange.feed(data):
            return
        self.latencies.append(perf_counter() - self._start)
        self._send()
        if len(self.latencies) == 1:
            self.first.set_result(None)
        elif len(self.latencies) == 2:
            self.second.set_result(None)

    def _send(self) -> None:
        self._start = perf_counter()
        self._transport.write(self._exchange.request())

    def connection_lost(self, exc: Exception | None) -> None:
        self.error = exc or ConnectionError("the server closed the connection")
        for future in (self.first, self.second):
            if not future.done():
                future.set_exception(self.error)

    def close(self) -> None:
        self._transport.abort()
        for future in (self.first, self.second):
            future.cancel()


def post(path: str, body: bytes) -> bytes:
    """Return the bytes of a request that sends `body` as JSON."""
    fields = b"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: %d" % len(body)
    return b"POST %s HTTP/1.1\r\n%s\r\n\r\n%s" % (path.encode(), fields, body)


def get(path: str, accept: str) -> bytes:
    """Return the bytes of a request that accepts the media type `accept`."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n".encode()


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest of `values` that `percent` of them do not exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


async def rate(address: Address, request: bytes, *, seconds: float) -> float:
    """Return how many answers a second come for `request` over CONNECTIONS connections."""
    make = functools.partial(Http1, request)
    return (await measure(address, make, connections=CONNECTIONS, seconds=seconds)).rate


async def measure(
    address: Address, make: Callable[[], Exchange], *, connections: int, seconds: float
) -> Load:
    """Load `address` with one exchange of `make` for each connection.

    The measurement starts after the first answer of each connection. It lasts `seconds`,
    or until each connection has a second answer. Raises the error of a failed connection.
    """
    loop = asyncio.get_running_loop()
    opened = [
        (await loop.create_connection(lambda: _Connection(make()), address.host, address.port))[1]
        for _ in range(connections)
    ]
    try:
        async with asyncio.timeout(_GUARD + seconds):
            return await _measure(opened, seconds)
    finally:
        for connection in opened:
            connection.close()


async def _measure(connections: Sequence[_Connection], seconds: float) -> Load:
    await asyncio.gather(*(connection.first for connection in connections))
    before = [len(connection.latencies) for connection in connections]
    start = perf_counter()
    await asyncio.gather(asyncio.sleep(seconds), *(one.second for one in connections))
    took = perf_counter() - start
    for connection in connections:
        if connection.error:
            raise connection.error
    latencies = [
        latency
        for connection, count in zip(connections, before, strict=True)
        for latency in connection.latencies[count:]
    ]
    return Load(
        requests=len(latencies) + sum(before),
        rate=len(latencies) / took,
        p50=percentile(latencies, 50),
        p99=percentile(latencies, 99),
    )
