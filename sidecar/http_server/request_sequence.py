"""The requests of one connection in their order: each is read, served and answered before the next.

A request that is refused reaches the application with a RefusedError as `scope[REFUSAL]`: the
application logs it and renders the response.
"""

import asyncio
import contextvars
import random
from collections.abc import Callable
from typing import cast

from starlette.types import ASGIApp, Scope

from sidecar.http_server.asgi import scope
from sidecar.http_server.asgi.request_cycle import RequestCycle
from sidecar.http_server.http1.refusal import RefusedError, StoppingError
from sidecar.http_server.http1.request_head import RequestHead
from sidecar.http_server.http1.request_reader import RequestReader
from sidecar.http_server.http1.response_writer import ResponseWriter
from sidecar.http_server.lingering_transport import LingeringTransport
from sidecar.http_server.listener_state import ListenerState

# Reading is paused beyond so many bytes of a body that are not received, or of later requests.
_MAX_UNREAD = 64 * 1024
# A connection ends with a response that comes before more than so many bytes of the body.
_MAX_DISCARDED = 256 * 1024


class RequestSequence:
    """Reads requests from a connection, and has each served by `app`.

    `common` is what the scopes of all its requests have in common. `changed` is called after each
    step. `busy`, unless None, refuses the first request: there is no place for the connection.

    `began` is the time of the loop at which the connection, the current request or the idle time
    began. `is_idle`: no byte has come since the last response. `has_eof`: the client sends no more.
    """

    def __init__(
        self,
        listener: ListenerState,
        app: ASGIApp,
        transport: LingeringTransport,
        common: Scope,
        *,
        changed: Callable[[], None],
        busy: RefusedError | None,
    ) -> None:
        self.transport = transport
        self.has_eof = self.is_idle = False
        self._loop = asyncio.get_running_loop()
        self.began = self._loop.time()
        self._app = app
        self._listener = listener
        self._common = common
        self._changed = changed
        self._busy = busy
        self._context = contextvars.copy_context()
        self._reader = RequestReader()
        self._cycle: RequestCycle | None = None
        self._refusal: RefusedError | None = None
        age = listener.limits.age * random.uniform(0.9, 1.1)  # noqa: S311 spreads load; protects nothing
        self._expires_at = self.began + age

    # What the client does now

    @property
    def is_over(self) -> bool:
        """Whether no further request will be read."""
        return self._refusal is not None or self.transport.is_closing()

    @property
    def is_refused(self) -> bool:
        """Whether the last response of the connection is a refusal."""
        return self._refusal is not None

    @property
    def is_waiting(self) -> bool:
        """Whether no response is due: no request has come, or the last one is answered."""
        return self._cycle is None

    @property
    def is_streaming(self) -> bool:
        """Whether a response has begun, or is expected to be a stream, and has not ended."""
        return self._cycle is not None and self._cycle.is_streaming

    @property
    def has_part(self) -> bool:
        """Whether a part of a request is here, and not all of it."""
        return self._reader.has_part

    @property
    def has_head(self) -> bool:
        """Whether the head of a request is here, whose body or response is not complete."""
        return self._reader.head is not None

    # Called by the protocol

    def receive(self, data: bytes) -> None:
        """Read `data`; ignore it after the last response or a refusal."""
        if self.is_over:
            return
        if self.is_idle:
            self.is_idle, self.began = False, self._loop.time()
        self._reader.receive(data)
        self._read_on(may_shed=True)
        if self._listener.is_cut:
            self.refuse_incomplete()

    def refuse(self, refusal: RefusedError) -> None:
        """Have the application respond with `refusal`; close if a response has begun."""
        self._refusal = refusal
        self._listener.refused[refusal.reason] += 1
        if self._reader.head is None:
            request = scope.of_refusal(self._common, refusal, self._listener.app_state)
            self._serve(request, version="1.1", expects_continue=False)
        elif self._cycle is None or self._cycle.has_begun:
            self.close()
        else:
            self._cycle.refuse(refusal)
        self._changed()

    def refuse_incomplete(self) -> None:
        """Refuse the request of which a part is here, if no response has begun."""
        has_begun = self.has_head and (self._cycle is None or self._cycle.has_begun)
        if self.has_part and not has_begun and not self.is_over:
            self.refuse(StoppingError())

    def end_with_response(self) -> None:
        """Close with the response that is due."""
        cast("RequestCycle", self._cycle).response.closes = True

    def disconnect(self) -> None:
        """Tell the application that its client is gone."""
        if self._cycle is not None:
            self._cycle.disconnect()

    # The end of a response, and of the connection

    def is_last(self) -> bool:
        """Return whether the connection ends with the response to the current request."""
        head = self._reader.head
        return (
            self._refusal is not None
            or head is None
            or head.closes
            or self._listener.is_closing
            or self._reader.left > _MAX_DISCARDED
            or self._has_all
            or self._loop.time() > self._expires_at
        )

    def response_complete(self, *, closes: bool) -> None:
        """Continue with the next request if it is here, else wait for it."""
        self._listener.begun.discard(self)
        self._cycle = None  # it holds the request
        if closes or self._refusal is not None or self._has_all:
            self.close()
        else:
            self.transport.resume_reading()
            self._read_on()

    @property
    def _has_all(self) -> bool:
        """Whether the client sends no more, and no further request is here."""
        return self.has_eof and not self._reader.rest.strip(b"\r\n")

    def close(self) -> None:
        """Close the connection. What was written is still sent.

        It is reset instead where its end would look like the end of the response (HTTP/1.0).
        """
        cycle = self._cycle
        self.transport.close(
            resets=cycle is not None and cycle.has_begun and cycle.response.ends_by_close
        )
        self._changed()

    # Reading and serving

    def _read_on(self, *, may_shed: bool = False) -> None:
        """Read what is here, up to the end of a request that waits for its response."""
        reader = self._reader
        try:
            while True:
                if reader.head is None and not self._read_head(may_shed=may_shed):
                    break
                if not reader.is_complete:
                    self._read_body()
                if not (reader.is_complete and self.is_waiting):
                    break
                reader.finish()
                self.began, self.is_idle = self._loop.time(), not reader.rest
        except RefusedError as refusal:
            self.refuse(refusal)
        if len(reader.rest) > _MAX_UNREAD:
            self.transport.pause_reading()
        self._changed()

    def _read_head(self, *, may_shed: bool) -> bool:
        """Read a head, and serve or shed its request. Returns whether it is here."""
        # The request line must be here: it says whether the response may have a body.
        if self._busy is not None and b"\n" in self._reader.rest:
            raise self._busy
        head = self._reader.read_head()
        if head is None:
            return False
        is_whole = head.is_plain and len(self._reader.rest) == head.length
        if not (may_shed and is_whole and self._shed(head)):
            request = scope.of_request(self._common, head, self._listener.app_state)
            self._serve(request, version=head.version, expects_continue=head.expects_continue)
        return True

    def _read_body(self) -> None:
        body = self._reader.read_body()
        cycle = self._cycle
        if cycle is None:
            return  # the response was complete before the body
        cycle.add(body, is_last=self._reader.is_complete)
        if cycle.unread > _MAX_UNREAD:
            self.transport.pause_reading()

    def _shed(self, head: RequestHead) -> bool:
        """Write the prepared 503 if there are too many calls; else count the request as begun.

        Returns whether it was shed.
        """
        shedding = self._listener.load_shedding
        if shedding is None or self.is_last() or not self.transport.writable.is_set():
            return False
        if not shedding.is_full(len(self._listener.begun)):
            # Counted here, because many requests may be read before one is a call in flight.
            self._listener.begun.add(self)
            return False
        self._reader.read_body()
        self.transport.write(shedding.respond(head.fields))
        return True

    def _serve(self, request: Scope, *, version: str, expects_continue: bool) -> None:
        """Serve a request by the application, in a task."""
        response = ResponseWriter(version, is_head=self._reader.is_head_method)
        cycle = RequestCycle(request, self, response, expects_continue=expects_continue)
        self._cycle = cycle
        # Not the context of now: that may be the one of the request before.
        task = self._loop.create_task(cycle.run(self._app), context=self._context.copy())
        self._listener.tasks.add(task)
        task.add_done_callback(self._listener.tasks.discard)
