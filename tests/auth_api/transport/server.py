"""A server whose connections stay open, and do what a test scripts."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Self

import httpx2

from sidecar.auth_api.dns.resolver import Resolver
from sidecar.auth_api.transport.keep_alive import KeepAliveTransport, Origin
from sidecar.auth_api.transport.pool import ConnectionPool
from sidecar.auth_api.transport.progress import Progress

# Answers one request on a connection. Returns whether another one may come on it.
Answer = Callable[["Request"], Awaitable[bool]]


def response(body: bytes, *fields: bytes) -> bytes:
    """Return a whole response that keeps its connection."""
    lines = (b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *fields)
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


@dataclass(frozen=True, slots=True)
class Request:
    """A request on connection number `connection`, as the `number`th on it, and its body."""

    writer: asyncio.StreamWriter
    connection: int
    number: int
    body: bytes

    async def send(self, data: bytes) -> bool:
        """Write `data`; return True, as an answer after which the connection stays."""
        self.writer.write(data)
        await self.writer.drain()
        return True


async def echo(request: Request) -> bool:
    """Answer with the body of the request."""
    return await request.send(response(request.body))


class Server:
    """Listens while it is entered. `requests` are all that it read, in their order.

    `ended` counts the connections that the client has ended.
    """

    def __init__(
        self,
        answer: Answer = echo,
        tls: ssl.SSLContext | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.answer = answer
        self.host = host
        self.port = port
        self.requests: list[Request] = []
        self.connections = 0
        self.ended = 0
        self._tls = tls
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self.host, self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        scheme = "https" if self._tls else "http"
        self.url = httpx2.URL(f"{scheme}://{self.host}:{self.port}/token?p=1")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()
        # Tasks that see their end need some turns. One that the end of the loop cancels instead is
        # reported by Python 3.11.
        for _turn in range(10):
            await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = self.connections
        self.connections += 1
        self._writers.add(writer)
        try:
            number, stays = 0, True
            while stays:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                number += 1
                body = await reader.readexactly(length)
                request = Request(writer, connection, number, body)
                self.requests.append(request)
                stays = await self.answer(request)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.ended += 1
        finally:
            self._writers.discard(writer)
            writer.close()


class Client:
    """A transport to `url`, closed at the end of the context."""

    def __init__(
        self,
        url: httpx2.URL,
        *,
        keep_alive: float = 60.0,
        connect_timeout: float = 60.0,
        tls: Callable[[], ssl.SSLContext] | None = None,
        resolver: Resolver | None = None,
    ) -> None:
        self.url = url
        self.pool = ConnectionPool(keep_alive)
        self.transport = KeepAliveTransport(
            Origin.of(url),
            pool=self.pool,
            resolver=resolver or Resolver(stale=60.0),
            connect_timeout=connect_timeout,
            tls=tls,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.transport.aclose()

    async def ask(self, body: bytes, progress: Progress | None = None) -> bytes:
        """Return the body of the response to a request with `body`. Raises TransportError."""
        request = httpx2.Request(
            "POST", self.url, content=body, extensions={"progress": progress or Progress()}
        )
        return await (await self.transport.handle_async_request(request)).aread()
