"""The protocol of one HTTP/1 connection: its requests in order, its time limits and its end.

A request that it refuses reaches the application with a RefusedError as `scope[REFUSAL]`: the
application logs it and renders the response.
"""

import asyncio
import math
import random
from collections.abc import Callable
from functools import partial
from typing import cast
from urllib.parse import unquote

from starlette.types import ASGIApp, Scope

from sidecar.http_server.counts import Drop, Refusal
from sidecar.http_server.http1.refusal import REFUSAL, RefusedError, StoppingError
from sidecar.http_server.http1.request_head import RequestHead
from sidecar.http_server.http1.request_reader import RequestReader
from sidecar.http_server.http1.response_writer import ResponseWriter
from sidecar.http_server.limits import ListenerState
from sidecar.http_server.lingering_close import LingeringTransport
from sidecar.http_server.places import Place
from sidecar.http_server.request_cycle import RequestCycle

# Bytes of a body that the application has not received, or of requests that follow, from which
# the client must wait.
_MAX_UNREAD = 64 * 1024


class HttpProtocol(asyncio.Protocol):
    """One connection of a client to `app`."""

    transport: LingeringTransport

    def __init__(self, listener: ListenerState, app: ASGIApp) -> None:
        self.writable = asyncio.Event()
        self.writable.set()
        self._app = app
        self._listener, self._limits = listener, listener.limits
        self._loop = asyncio.get_running_loop()
        self._place = Place(listener.places)
        self._reader = RequestReader()
        self._cycle: RequestCycle | None = None
        self._scope: Scope = {}
        self._refusal: RefusedError | None = None
        self._is_connected = self._has_eof = self._is_reading_paused = False
        age = self._limits.age * random.uniform(0.9, 1.1)  # noqa: S311 spreads load; protects nothing
        self._end_of_life = self._loop.time() + age
        # When the client began with what it does now, and whether that is nothing after a response.
        self._began = 0.0
        self._is_idle = False
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    # Called by asyncio

    def accepted(self, peer: object, abort: Callable[[], None]) -> None:
        """Take a place for a connection before its TLS handshake."""
        self._place.take(peer, abort, Drop.HANDSHAKE)

    def handshake_ended(self) -> None:
        """Give the place back if the TLS handshake failed."""
        if not self._is_connected:
            self._place.leave()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with a connection. It has a place already if there was a TLS handshake."""
        self._is_connected = True
        self._socket = cast("asyncio.Transport", transport)
        self._is_secure = transport.get_extra_info("sslcontext") is not None
        self.transport = LingeringTransport(self._socket, self._limits.linger, self._ends_by_close)
        self._listener.connections.add(self)
        self._scope = self._open_scope()
        if self._is_secure:
            self._place.abort = self._socket.abort
        else:
            peer = self._socket.get_extra_info("peername")
            self._place.take(peer, self._socket.abort, Drop.IDLE)
        self._began = self._loop.time()
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Read `data`; ignore it after the last response or a refusal."""
        if self._is_over():
            return
        if self._is_idle:
            self._is_idle = False
            self._began = self._loop.time()
        self._reader.receive(data)
        self._read_on(may_shed=True)
        if self._listener.is_cut:
            self.refuse_incomplete()

    def eof_received(self) -> bool:
        """Return whether a whole request waits for its response. TLS has no half-close: False.

        A client that ends its side during a response does not want the rest.
        """
        cycle = self._cycle
        if cycle is not None and cycle.has_begun and not cycle.is_complete:
            self.transport.abort()
        if self.transport.is_closing() or self._is_secure:
            return False
        if cycle is None or cycle.is_complete:
            return self.transport.close_if_unsent()
        if not cycle.has_whole_body:
            self.transport.abort()  # to close it could wait for ever until responses are read
            return False
        self._has_eof = True
        self.transport.abort_when_gone()
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 the end is all it needs
        """Tell the application, and release timers and shared state."""
        self._listener.connections.discard(self)
        self._listener.begun.discard(self)
        self._place.leave()
        self._stop_timer()
        self.transport.forget()
        if self._cycle is not None:
            self._cycle.disconnect()
        self.writable.set()

    def pause_writing(self) -> None:
        """Abort a client that does not read its responses within the request timeout.

        Meanwhile its call does not count as begun: its response is ready.
        """
        self.writable.clear()
        self._listener.begun.discard(self)
        self.transport.expect_reader(
            self._limits.request_timeout, partial(self._place.end, Drop.UNREAD)
        )
        self._watch()

    def resume_writing(self) -> None:
        """Resume writing, and cancel the abort."""
        self.writable.set()
        self.transport.stop_expecting()
        self._watch()

    # Called by the request cycle

    def write(self, data: bytes) -> None:
        """Write `data`, unless the connection is ending."""
        if not self.transport.is_closing():
            self._socket.write(data)

    def resume_reading(self) -> None:
        """Read on from the client."""
        if self._is_reading_paused:
            self._is_reading_paused = False
            self.transport.resume_reading()

    def is_last(self) -> bool:
        """Return whether the connection ends with the response to the current request."""
        head = self._reader.head
        return (
            self._refusal is not None
            or head is None
            or head.closes
            or self._listener.is_closing
            or (self._has_eof and not self._reader.rest)
            or self._loop.time() > self._end_of_life
        )

    def response_complete(self) -> None:
        """Continue with the next request if it is here, else wait for it."""
        self._listener.begun.discard(self)
        if self._refusal is not None or cast("RequestCycle", self._cycle).response.closes:
            self.close()
        else:
            self.resume_reading()
            self._read_on()

    def close(self) -> None:
        """Close the connection. What was written is still sent."""
        self.transport.close()
        self._watch()

    # Called by the listener

    def shutdown(self) -> None:
        """Close with the current response; if none is due, after the linger time."""
        if self._is_waiting():
            self._loop.call_later(self._limits.linger, self.end)
        else:
            cast("RequestCycle", self._cycle).response.closes = True

    def end(self) -> None:
        """Close the connection, unless a request is being served."""
        if self._is_waiting():
            self.close()

    def refuse_incomplete(self) -> None:
        """Refuse the request of which a part is here, if no response has begun."""
        if self._is_over() or not self._reader.has_part:
            return
        if self._reader.head is None or not cast("RequestCycle", self._cycle).has_begun:
            self._refuse(StoppingError())

    # The requests

    def _read_on(self, *, may_shed: bool = False) -> None:
        """Read what is here, up to the end of a request that waits for its response."""
        reader = self._reader
        try:
            while not self._is_over():
                if reader.head is None and not self._read_head(may_shed=may_shed):
                    break
                if not reader.is_complete:
                    self._read_body()
                if not (reader.is_complete and self._is_waiting()):
                    break
                reader.finish()
                self._began, self._is_idle = self._loop.time(), not reader.rest
        except RefusedError as refusal:
            self._refuse(refusal)
        if len(reader.rest) > _MAX_UNREAD:
            self._pause_reading()
        self._watch()

    def _read_head(self, *, may_shed: bool) -> bool:
        """Read a head, and serve or shed its request. Returns whether it is here."""
        if self._place.refusal is not None and b"\n" in self._reader.rest:
            reason, detail = self._place.refusal
            raise RefusedError(reason, 503, detail)
        head = self._reader.read_head()
        if head is None:
            return False
        is_whole = head.is_plain and len(self._reader.rest) == head.length
        if not (may_shed and is_whole and self._shed(head)):
            self._serve(self._scope_of(head), head)
        return True

    def _read_body(self) -> None:
        body = self._reader.read_body()
        cycle = self._cycle
        if cycle is None or cycle.is_complete:
            return  # the response did not wait for it
        cycle.add(body, is_last=self._reader.is_complete)
        if cycle.unread > _MAX_UNREAD:
            self._pause_reading()

    def _shed(self, head: RequestHead) -> bool:
        """Write the prepared 503 if there are too many calls. Returns whether it did."""
        shedding = self._listener.load_shedding
        if shedding is None or self.is_last() or not self.writable.is_set():
            return False
        if not shedding.is_full(len(self._listener.begun)):
            # Many requests may be read before the first one is a call in flight.
            self._listener.begun.add(self)
            return False
        self._reader.read_body()
        self._socket.write(shedding.respond(head.fields))
        return True

    def _serve(self, scope: Scope, head: RequestHead | None) -> None:
        """Serve a request by the application, in a task."""
        is_head = self._reader.is_head_method
        response = ResponseWriter(head.version if head else "1.1", is_head=is_head)
        expects_continue = head is not None and head.expects_continue
        self._cycle = RequestCycle(scope, self, response, expects_continue=expects_continue)
        task = self._loop.create_task(self._cycle.run(self._app))
        self._listener.tasks.add(task)
        task.add_done_callback(self._listener.tasks.discard)

    def _scope_of(self, head: RequestHead) -> Scope:
        path, _, query = head.target.partition(b"?")
        return {
            **self._scope,
            "http_version": head.version,
            "method": head.method,
            "path": unquote(path.decode("ascii")),
            "raw_path": path,
            "query_string": query,
            "headers": head.fields,
            "state": self._listener.app_state.copy(),
        }

    def _open_scope(self) -> Scope:
        """Return what the scopes of all requests of this connection have in common."""
        server, client = map(self._socket.get_extra_info, ("sockname", "peername"))
        peer = (self._listener.peer, 0) if self._listener.peer is not None else client
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "scheme": "https" if self._is_secure else "http",
            "server": (server, None) if isinstance(server, str) else server and server[:2],
            "client": peer and peer[:2],
            "root_path": "",
        }

    def _refuse(self, refusal: RefusedError) -> None:
        """Have the application respond with `refusal`; close if a response has begun."""
        self._refusal = refusal
        self._listener.refused[refusal.reason] += 1
        if self._reader.head is None:
            empty = {"method": "", "path": "", "raw_path": b"", "query_string": b"", "headers": []}
            scope = {"http_version": "1.1", **empty, "state": self._listener.app_state.copy()}
            self._serve({**self._scope, **scope, REFUSAL: refusal}, None)
        elif (cycle := cast("RequestCycle", self._cycle)).has_begun:
            self.close()
        else:
            cycle.refuse(refusal)
        self._watch()

    # The state of the connection

    def _is_over(self) -> bool:
        """Return whether no further request will be read."""
        return self._refusal is not None or self.transport.is_closing()

    def _is_waiting(self) -> bool:
        return self._cycle is None or self._cycle.is_complete

    def _ends_by_close(self) -> bool:
        """Return whether to close now would look like the end of a response (HTTP/1.0)."""
        cycle = self._cycle
        is_streaming = cycle is not None and cycle.has_begun and not cycle.is_complete
        return is_streaming and cast("RequestCycle", cycle).response.ends_by_close

    def _pause_reading(self) -> None:
        if not self._is_reading_paused and not self.transport.is_closing():
            self._is_reading_paused = True
            self._socket.pause_reading()

    def _watch(self) -> None:
        """Update the place of the connection, and its time limit."""
        reason = self._find_wait()
        if reason is None:
            self._place.serve()
        else:
            self._place.wait(reason)
        self._deadline = self._find_deadline()
        if self._deadline is not None and self._deadline < self._timer_at:
            self._set_timer(self._deadline)

    def _find_wait(self) -> Drop | None:
        """Return what the client must do now, None while a request or a refusal is served."""
        if self.transport.is_closing():
            return Drop.ENDING
        if not self.writable.is_set():
            return Drop.UNREAD
        if self._refusal is not None:
            return None
        if self._is_waiting() and not self._reader.has_part:
            return Drop.IDLE
        return Drop.INCOMPLETE if self._reader.has_part else None

    def _find_deadline(self) -> float | None:
        """Return when the client must have done that, None if there is no limit."""
        if self._is_over():
            return None
        if self._reader.head is not None:
            is_served = self._reader.is_complete
            return None if is_served else self._began + self._limits.request_timeout
        limits = self._limits
        return self._began + (limits.keep_alive if self._is_idle else limits.header_timeout)

    def _set_timer(self, at: float) -> None:
        """Have `_expire` called at this time. For a later deadline it sets the timer anew."""
        self._stop_timer()
        self._timer, self._timer_at = self._loop.call_at(at, self._expire), at

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = None, math.inf

    def _expire(self) -> None:
        self._stop_timer()
        deadline = self._deadline
        if deadline is None:
            return
        if self._loop.time() < deadline:
            self._set_timer(deadline)
        elif self._reader.head is not None:
            detail = f"The request must be complete in {self._limits.request_timeout:g} s."
            self._refuse(RefusedError(Refusal.BODY_TIMEOUT, 408, detail))
        elif self._reader.rest:
            detail = f"The header must be complete in {self._limits.header_timeout:g} s."
            self._refuse(RefusedError(Refusal.HEADER_TIMEOUT, 408, detail))
        else:
            self.close()
