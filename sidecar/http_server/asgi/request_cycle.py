"""One HTTP request and its response, for an ASGI application (HTTP, specification 2.3)."""

import asyncio
from typing import Protocol, cast

from starlette.types import ASGIApp, Message, Scope

from sidecar import logs
from sidecar.http_server.http1.refusal import REFUSAL, RefusedError
from sidecar.http_server.http1.response_writer import CONTINUE, FAILED, ResponseWriter
from sidecar.http_server.lingering_transport import LingeringTransport

# The key of the scope for `RequestCycle.expect_stream`, an extension of ours to ASGI.
STREAM = "sidecar.stream"


class Connection(Protocol):
    """The connection of a request, as its cycle uses it."""

    transport: LingeringTransport

    has_eof: bool

    def is_last(self) -> bool:
        """Return whether the connection ends with this response."""

    def response_complete(self, *, closes: bool) -> None:
        """Continue after a complete response. `closes`: the connection must end with it."""

    def close(self) -> None:
        """End the connection. What was written is still sent."""


class RequestCycle:
    """Gives a request to an application, and its response to the connection.

    If it `expects_continue`, `100 Continue` is sent once the application wants the body and
    no part of it has come.

    `has_begun`: a part of the response is written. `is_complete`: all of it is.
    """

    def __init__(
        self,
        scope: Scope,
        connection: Connection,
        response: ResponseWriter,
        *,
        expects_continue: bool,
    ) -> None:
        self._scope = scope
        self.response = response
        self.has_begun = self.is_complete = False
        self._connection = connection
        self._transport = connection.transport
        self._expects_continue = expects_continue
        self._refusal: RefusedError | None = scope.get(REFUSAL)
        self._body = b""
        self._has_whole_body = self._expects_stream = False
        scope[STREAM] = self.expect_stream
        self._is_disconnected = False
        self._can_receive = asyncio.Event()
        self._is_started = False  # the application has sent the start, which may not be written

    @property
    def is_streaming(self) -> bool:
        """Whether the response has begun, or is expected to be a stream, and has not ended."""
        return (self.has_begun or self._expects_stream) and not self.is_complete

    @property
    def unread(self) -> int:
        """The bytes of the body that the application has not received yet."""
        return len(self._body)

    # Called by the connection

    def add(self, body: bytes, *, is_last: bool) -> None:
        """Add a part of the body."""
        self._body += body
        self._has_whole_body = is_last
        if body:
            self._expects_continue = False
        if body or is_last:
            self._can_receive.set()

    def refuse(self, refusal: RefusedError) -> None:
        """Raise `refusal` in the application where it reads the body."""
        self._refusal = self._scope[REFUSAL] = refusal
        self._can_receive.set()

    def disconnect(self) -> None:
        """Tell the application that its client is gone."""
        self._is_disconnected = True
        self._can_receive.set()

    async def run(self, app: ASGIApp) -> None:
        """Serve the request by `app`.

        A failure of the application, or an end without a whole response, becomes a 500. If a part
        of the response is written, it ends the connection.
        """
        try:
            await app(self._scope, self.receive, self.send)
            if not (self.has_begun or self.is_complete or self._is_disconnected):
                logs.warning("the application returned without a response")
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 nothing else would log it
            # The listener cancels it when it stops. Any other cancellation is a failure.
            if not cast("asyncio.Task[None]", asyncio.current_task()).cancelling():
                logs.failure("the application failed", error)
        finally:
            self._scope = {}  # it holds this cycle
        if self.is_complete or self._is_disconnected:
            return
        if self.has_begun:
            self._connection.close()  # without the end of the response, so that the client notices
            return
        self.response.closes = True
        self._transport.write(FAILED)
        self._complete()

    # Called by the application

    def expect_stream(self) -> None:
        """Expect a stream: who ends a connection while it waits for one has left.

        Else such a client gets its response. But nobody may see for long that a client of a stream
        without a message is gone.
        """
        self._expects_stream = True
        if self._connection.has_eof:
            self._transport.abort()

    async def receive(self) -> Message:
        """Return the next part of the body, or the end of the connection.

        Raises RefusedError if the rest of the request is refused.
        """
        is_over = self.is_complete or self._is_disconnected or self._refusal is not None
        if not (is_over or self._can_receive.is_set()):
            if self._expects_continue:
                self._expects_continue = False
                self._transport.write(CONTINUE)
            self._transport.resume_reading()
            await self._can_receive.wait()
        self._can_receive.clear()
        if self._refusal is not None:
            raise self._refusal
        if self.is_complete or self._is_disconnected:
            return {"type": "http.disconnect"}
        body, self._body = self._body, b""
        return {"type": "http.request", "body": body, "more_body": not self._has_whole_body}

    async def send(self, message: Message) -> None:
        """Write a part of the response.

        Raises RuntimeError for a message out of order, and ValueError for one that HTTP cannot
        express.
        """
        if not self._transport.writable.is_set():
            await self._transport.writable.wait()
        if self._is_disconnected:
            return
        if message["type"] == "http.response.start" and not self._is_started:
            # A client that waits for 100 Continue may or may not send the body now.
            closes = self._expects_continue or self._connection.is_last()
            self.response.start(message["status"], message.get("headers", ()), closes=closes)
            self._is_started, self._expects_continue = True, False
            # Content of this turn goes with the head, in one write. The head of a stream does not
            # wait for more: only by a write is it noticed that the client is gone.
            asyncio.get_running_loop().call_soon(self._write_head)
            return
        if message["type"] != "http.response.body" or not self._is_started or self.is_complete:
            raise RuntimeError(f"{message['type']} is not what comes next in a response")
        is_last = not message.get("more_body", False)
        data = self.response.write(message.get("body", b""), is_last=is_last)
        self.has_begun = True
        self._transport.write(data)
        if is_last:
            self._complete()

    def _write_head(self) -> None:
        if not self.has_begun:
            self.has_begun = True
            self._transport.write(self.response.write(b"", is_last=False))

    def _complete(self) -> None:
        self.is_complete = True
        self._can_receive.set()
        self._connection.response_complete(closes=self.response.closes)
