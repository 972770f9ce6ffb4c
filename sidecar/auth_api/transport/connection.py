"""One kept HTTP/1.1 connection to the auth-api, for one exchange at a time.

Bytes or an end that come while no request is in hand make the connection useless: they could
become part of the next caller's response. So it is aborted at once.
"""

import asyncio
import errno
import select
import socket
import ssl
from collections.abc import Callable
from typing import Literal, Protocol, cast

from sidecar.auth_api.transport.errors import TransportError
from sidecar.auth_api.transport.response_parser import ResponseParser
from sidecar.tls.resuming_context import ResumingContext

# A kept connection that ends so soon after a request was written, without a byte of a
# response, was closed by the auth-api before it saw the request. In seconds.
RACE = 0.1
# Why a connection ends: it was `replaced` by one with new certificates, it reached its `age`, ...
CloseReason = Literal[
    "age",
    "cancelled",
    "ended",
    "failed",
    "idle",
    "late",
    "not_reusable",
    "replaced",
    "shutdown",
    "unsolicited",
]

# Only Linux has it; the other option is set anyway, and does no harm.
_QUICK_ACK: int = getattr(socket, "TCP_QUICKACK", socket.TCP_NODELAY)


class StaleConnectionError(Exception):
    """A kept connection ended before the auth-api saw the request, which may be sent again."""


class Owner(Protocol):
    """What owns connections."""

    def opened(self, connection: "Connection") -> None:
        """Take an open connection."""

    def closed(self, connection: "Connection", reason: CloseReason) -> None:
        """Let go of a connection that has ended."""


class Connection(asyncio.Protocol):
    """A connection of `owner`. `context` is the SSL context that it is opened with, if any.

    From `expires` on, in the time of the event loop, it is not used again.
    """

    def __init__(self, owner: "Owner", context: ResumingContext | None, expires: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._owner = owner
        self._poll = select.poll()
        self._parser: ResponseParser | None = None
        self._waiter: asyncio.Future[ResponseParser] | None = None
        self._on_head: Callable[[int], None] | None = None
        self._written = 0.0
        self._reason: CloseReason = "ended"
        self._is_unwanted = False
        self._transport: asyncio.Transport | None = None
        self.context = context
        self.expires = expires
        self.exchanges = 0

    async def exchange(self, request: bytes, on_head: Callable[[int], None]) -> ResponseParser:
        """Send `request` and return its whole response.

        `on_head` is called with the status once the head has come. Raises TransportError, and
        StaleConnectionError for a kept connection. A cancelled call aborts the connection.
        """
        if self._transport is None:
            raise TransportError("closed")
        self._parser, self._waiter = ResponseParser(), self._loop.create_future()
        self._on_head = on_head
        self._written = self._loop.time()
        self.exchanges += 1
        self._transport.write(request)
        try:
            return await self._waiter
        except asyncio.CancelledError:
            self.abort("cancelled")
            raise

    @property
    def tls(self) -> ssl.SSLObject | None:
        """The TLS of the connection, if it has one."""
        transport = self._transport
        return None if transport is None else transport.get_extra_info("ssl_object")

    def can_begin(self) -> bool:
        """Whether the connection is open and idle, with nothing to read from its socket."""
        transport = self._transport
        return transport is not None and not transport.is_closing() and not self._poll.poll(0)

    def abort(self, reason: CloseReason) -> None:
        """End the connection at once."""
        if self._transport is not None and not self._transport.is_closing():
            self._reason = reason
            self._transport.abort()

    def discard(self) -> None:
        """End a connection at once whose opening was given up, or as soon as it opens.

        uvloop may call `connection_made` for it, but not `connection_lost`.
        """
        self._is_unwanted = True
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
            self._owner.closed(self, "late")

    # Called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        opened = cast("asyncio.Transport", transport)
        if self._is_unwanted:
            opened.abort()
            return
        self._transport = opened
        self._owner.opened(self)
        self._socket: socket.socket = transport.get_extra_info("socket")
        self._poll.register(self._socket.fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        """Parse `data` as the response in hand; without one, abort."""
        parser = self._parser
        if parser is None:
            self.abort("unsolicited")
            return
        try:
            parser.feed(data)
        except TransportError as error:
            self._report_head(parser)
            self._fail(error)
            return
        self._report_head(parser)
        if parser.is_complete:
            self._finish(parser)
        else:
            self._acknowledge()

    def eof_received(self) -> None:
        """End the connection, and the response if it ends so."""
        parser = self._parser
        if parser is None:
            self.abort("ended")
            return
        try:
            parser.feed_eof()
        except TransportError as error:
            self._end(error)
        else:
            self._finish(parser)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the exchange in hand."""
        if self._transport is None:
            return  # it was unwanted
        self._transport = None
        self._owner.closed(self, self._reason)
        if self._waiter is not None:
            self._end(_fault_of(exc))

    def _acknowledge(self) -> None:
        """Let the kernel acknowledge what it has received, now and not 40 ms later.

        A server with Nagle's algorithm (RFC 9293 section 3.7.4) that writes head and body apart
        sends the body only after that.
        """
        self._socket.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)

    def _report_head(self, parser: ResponseParser) -> None:
        if self._on_head is not None and parser.has_head:
            on_head, self._on_head = self._on_head, None
            on_head(parser.status)

    def _finish(self, parser: ResponseParser) -> None:
        waiter = self._release()
        if not parser.can_reuse:
            self.abort("not_reusable")
        if not waiter.done():  # else the call is being cancelled
            waiter.set_result(parser)

    def _end(self, error: TransportError) -> None:
        """Fail the exchange by the end of the connection, which may have come before it."""
        parser = cast("ResponseParser", self._parser)
        is_soon = self._loop.time() - self._written <= RACE
        is_stale = self.exchanges > 1 and not parser.has_begun and is_soon
        self._fail(StaleConnectionError() if is_stale else error)

    def _fail(self, error: Exception) -> None:
        waiter = self._release()
        self.abort("failed")
        if not waiter.done():
            waiter.set_exception(error)

    def _release(self) -> "asyncio.Future[ResponseParser]":
        waiter = cast("asyncio.Future[ResponseParser]", self._waiter)
        self._parser = self._waiter = self._on_head = None
        return waiter


def _fault_of(error: Exception | None) -> TransportError:
    if isinstance(error, ssl.SSLError):
        # With TLS 1.3 a certificate of ours is refused in place of a response.
        return TransportError("tls", getattr(error, "reason", None))
    number = error.errno if isinstance(error, OSError) else None
    return TransportError("closed", None if number is None else errno.errorcode.get(number))
