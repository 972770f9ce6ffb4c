"""An HTTP/1.1 transport of httpx2 that keeps its connections to one server.

Bodies are small, so a response is read whole before it is returned. Every failure is a
TransportError; another exception is a bug.
"""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextvars import Context
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httpx2

from sidecar.auth_api.dns.look_up import LookUpError, SocketAddress
from sidecar.auth_api.dns.resolver import Resolver
from sidecar.auth_api.transport.connect_timeout import LateLoopError, connect_timeout
from sidecar.auth_api.transport.connection import Connection, StaleConnectionError
from sidecar.auth_api.transport.errors import TransportError
from sidecar.auth_api.transport.happy_eyeballs import NoConnectionError, connect, delay_within
from sidecar.auth_api.transport.open_errors import fault_of
from sidecar.auth_api.transport.pool import ConnectionPool
from sidecar.auth_api.transport.progress import Progress
from sidecar.auth_api.transport.response_parser import ResponseParser
from sidecar.call import current_call
from sidecar.tls.resuming_context import ResumingContext


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The server of a URL: its scheme, host and port."""

    is_tls: bool
    host: str
    port: int

    @classmethod
    def of(cls, url: httpx2.URL) -> "Origin":
        """Return the origin of `url` (RFC 9110 section 4.3.1)."""
        is_tls = url.scheme == "https"
        host = url.raw_host.decode("ascii")  # `host` would undo punycode
        return cls(is_tls=is_tls, host=host, port=url.port or (443 if is_tls else 80))


class KeepAliveTransport(httpx2.AsyncBaseTransport):
    """Sends requests to `origin` over kept connections.

    `connect_timeout` is for one connection with its handshake, in seconds; a look-up is not
    part of it. `tls` returns the current SSL context. The extension `progress` of a request is
    told how far the request has come.
    """

    def __init__(
        self,
        origin: Origin,
        *,
        pool: ConnectionPool,
        resolver: Resolver,
        connect_timeout: float,
        tls: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        self._origin = origin
        self._pool = pool
        self._resolver = resolver
        self._connect_timeout = connect_timeout
        if origin.is_tls and tls is None:
            raise ValueError("https needs an SSL context")
        self._tls = tls
        self._context: ResumingContext | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Return the whole response to `request`. Raises TransportError."""
        data = _serialize(request, is_last=not self._pool.keeps)
        progress: Progress = request.extensions["progress"]
        progress.is_resolved = progress.is_open = False
        context = self._current_context()
        connection = self._pool.take(context)
        if connection is not None:
            progress.call.note(upstream_reused=True)
            progress.is_open = True
            try:
                return await self._exchange(connection, data, progress.head)
            except StaleConnectionError:
                # RFC 9112 section 9.3.1: closed before the auth-api saw the request.
                self._pool.counters.resent += 1
                progress.call.note(upstream_reused=False, upstream_resent=True)
            progress.is_open = False
        addresses = await self._resolve()
        progress.is_resolved = True
        connection = await self._open(addresses, context)
        progress.opened()
        return await self._exchange(connection, data, progress.head)

    async def aclose(self) -> None:
        """Abort all connections."""
        self._pool.close()

    async def _exchange(
        self, connection: Connection, data: bytes, on_head: Callable[[int], None]
    ) -> httpx2.Response:
        parser = await connection.exchange(data, on_head)
        # Not the current context, which may be a new one since the exchange began.
        # Only once: to read a session copies it, and its tickets come with the first response.
        if connection.context is not None and connection.exchanges == 1:
            connection.context.keep(connection.tls)
        self._pool.put_back(connection)
        return _to_response(parser)

    async def _open(
        self, addresses: Sequence[SocketAddress], context: ResumingContext | None
    ) -> Connection:
        """Return a new connection. Raises TransportError."""
        origin = self._origin
        loop = asyncio.get_running_loop()
        start = time.perf_counter()

        async def open_one(address: SocketAddress) -> Connection:
            arguments: dict[str, Any] = {}
            if context is not None:
                arguments = {"ssl": context, "server_hostname": origin.host}
            connection = self._pool.new(context)
            opening = loop.create_connection(
                lambda: connection, address.host, address.port, **arguments
            )
            try:
                # In no call's context: the callbacks of the connection serve many calls.
                await loop.create_task(opening, context=Context())
            except BaseException:
                connection.discard()  # it may be open already, or open yet
                raise
            return connection

        delay = delay_within(self._connect_timeout, len(addresses))
        try:
            async with connect_timeout(self._connect_timeout):
                return await connect(addresses, open_one, discard=Connection.discard, delay=delay)
        except LateLoopError:
            raise TransportError("local", "a late event loop") from None
        except TimeoutError:
            raise TransportError("connect_timeout") from None
        except NoConnectionError as error:
            raise fault_of(error, is_tls=origin.is_tls) from None
        finally:
            current_call().note(connect_ms=round((time.perf_counter() - start) * 1000, 3))

    async def _resolve(self) -> Sequence[SocketAddress]:
        start = time.perf_counter()
        try:
            return await self._resolver.resolve(self._origin.host, self._origin.port)
        except LookUpError as error:
            raise TransportError("local" if error.is_local else "dns", error.cause_name) from None
        finally:
            waited = time.perf_counter() - start
            if waited > 0.001:
                current_call().note(dns_ms=round(waited * 1000, 3))

    def _current_context(self) -> ResumingContext | None:
        if self._tls is None or not self._origin.is_tls:
            return None
        context = self._tls()
        if self._context is None or self._context.context is not context:
            self._context = ResumingContext.of(context)
        return self._context


def _serialize(request: httpx2.Request, *, is_last: bool) -> bytes:
    """Return the bytes of `request` (RFC 9112 sections 3 and 9.6)."""
    close = [(b"Connection", b"close")] if is_last else []
    fields = b"".join(b"%b: %b\r\n" % pair for pair in (*request.headers.raw, *close))
    line = b"%b %b HTTP/1.1\r\n" % (request.method.encode(), request.url.raw_path)
    return line + fields + b"\r\n" + request.read()


class _Body(httpx2.AsyncByteStream):
    """A body that is here already. Unlike as `content`, httpx2 does not decode it at once."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._body


def _to_response(parser: ResponseParser) -> httpx2.Response:
    """Return the response. Raises TransportError for a token in a content coding.

    Requests accept none (RFC 9110 section 12.5.3). The body of an error in one is dropped.
    """
    codings = [pair for pair in parser.fields if pair[0] == b"content-encoding"]
    if all(coding.strip().lower() == b"identity" for _, coding in codings):
        return httpx2.Response(
            parser.status, headers=parser.fields, stream=_Body(bytes(parser.body))
        )
    if parser.status == HTTPStatus.OK:
        raise TransportError("content_encoding")
    fields = [pair for pair in parser.fields if pair not in codings]
    return httpx2.Response(parser.status, headers=fields, stream=_Body(b""))
