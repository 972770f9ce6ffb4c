"""The protocol of one HTTP/1 connection: uvicorn's, with limits, strict parsing and shedding.

uvicorn's protocol for h11 has no time limit for a request, accepts malformed heads that permit
request smuggling, drops a client that half-closed before its response, and answers broken HTTP in
plain text. This subclass does not. A request that it refuses reaches the application with a
RequestError as `scope[REFUSAL]`: the application logs it and renders the response.
"""

import asyncio
import random
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from sidecar.http_server import request_head
from sidecar.http_server.connection import REFUSAL, Connection, RefusedError, StoppingError
from sidecar.http_server.counts import Drop, Refusal
from sidecar.http_server.limits import ListenerState
from sidecar.http_server.lingering_close import LingeringTransport
from sidecar.http_server.places import Place


class HttpProtocol(H11Protocol):
    """One connection of a client."""

    conn: Connection

    def __init__(self, listener: ListenerState, *uvicorn: Any) -> None:
        """Join `listener`; `uvicorn` are the arguments of the base class."""
        super().__init__(*uvicorn)
        self._listener, self._limits = listener, listener.limits
        self._place = Place(listener.places)
        self._began: float | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._timed: object = None
        self._seconds = {
            h11.IDLE: self._limits.header_timeout,
            h11.SEND_BODY: self._limits.request_timeout,
        }
        age = self._limits.age * random.uniform(0.9, 1.1)  # noqa: S311 spreads load; protects nothing
        self.conn = Connection(lambda: listener.is_closing, self.loop.time() + age)

    # Called by asyncio

    def accepted(self, peer: object, abort: Callable[[], None]) -> None:
        """Take a place for a connection before its TLS handshake."""
        self._place.take(peer, abort, Drop.HANDSHAKE)

    def handshake_ended(self) -> None:
        """Give the place back if the TLS handshake failed."""
        if cast("object", self.flow) is None:
            self._place.leave()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in the base
        """Begin with a connection. It has a place already if there was a TLS handshake."""
        self._lingering = LingeringTransport(
            transport, self._limits.linger, self.conn.ends_by_close
        )
        super().connection_made(cast("asyncio.Transport", self._lingering))
        if self.scheme == "https":
            self._place.abort = transport.abort
        else:
            self._place.take(self.client, transport.abort, Drop.IDLE)
        if self._listener.peer is not None:
            self.client = (self._listener.peer, 0)
        if self._place.refusal is not None:
            reason, detail = self._place.refusal
            self.conn.limit_error = request_head.HeadError(reason, 503, detail)
        self._began = self.loop.time()
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Parse `data`; ignore it after the last response or a refusal."""
        if self.transport.is_closing() or self.conn.refusal or self._shed(data):
            return
        before, cycle = self.conn.their_state, self.cycle
        if before is h11.IDLE and self._began is None:
            self._began = self.loop.time()
        super().data_received(data)
        is_next = self.conn.their_state is h11.IDLE or self.cycle is not cycle
        if before is h11.SEND_BODY and is_next:
            # The response was sent before the body ended; now the body has ended. The next
            # request gets a new time limit.
            self._disarm()
            self._began = self.loop.time() if self.conn.trailing_data[0] else None
        self._watch()
        if self._listener.is_cut:
            self.refuse_incomplete()

    def eof_received(self) -> bool:  # type: ignore[override] # what asyncio takes
        """Return whether a whole request waits for its response. TLS has no half-close: False.

        A client that ends its side during a response does not want the rest.
        """
        if self.conn.is_streaming():
            self.transport.abort()
        if self.transport.is_closing() or self.scheme == "https":
            return False
        if self._is_waiting():
            return self._lingering.close_if_unsent()
        if self.cycle.more_body:
            self.transport.abort()  # to close it could wait for ever until responses are read
            return False
        self.conn.has_eof = True
        self._lingering.abort_when_gone()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Release timers and shared state; after a reset the base class does not."""
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._place.leave()
        self._listener.begun.discard(self)
        self._disarm()
        self._lingering.forget()

    def pause_writing(self) -> None:
        """Abort a client that does not read its responses within the request timeout.

        Meanwhile its call does not count as begun: its response is ready.
        """
        super().pause_writing()
        self._listener.begun.discard(self)
        self._lingering.expect_reader(
            self._limits.request_timeout, partial(self._place.end, Drop.UNREAD)
        )
        self._watch()

    def resume_writing(self) -> None:
        """Resume writing, and cancel the abort."""
        super().resume_writing()
        self._lingering.stop_expecting()
        self._watch()

    # Called by uvicorn

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 uvicorn's text
        """Refuse broken HTTP."""
        self._refuse(cast("RefusedError", self.conn.refusal))  # set with the error of h11

    def on_response_complete(self) -> None:
        """Continue with the next request if its first bytes are here, else wait for it."""
        self._listener.begun.discard(self)
        if self.conn.trailing_data[0]:
            self._began = self.loop.time()
        super().on_response_complete()
        self._watch()

    def shutdown(self) -> None:
        """Close with the current response; if none is due, after the linger time."""
        if self._is_waiting():
            self.loop.call_later(self._limits.linger, self.end)
        else:
            self.cycle.keep_alive = False

    def end(self) -> None:
        """Close the connection, unless a request is being served."""
        if self._is_waiting():
            self.transport.close()

    def refuse_incomplete(self) -> None:
        """Refuse the request of which a part is here, if no response has begun."""
        conn = self.conn
        has_part = conn.their_state is h11.SEND_BODY or (
            conn.their_state is h11.IDLE and conn.trailing_data[0]
        )
        is_open = not conn.refusal and not self.transport.is_closing()
        if has_part and is_open and conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._refuse(StoppingError())

    # Common to both

    def _shed(self, data: bytes) -> bool:
        """Write the prepared 503 if there are too many calls and `data` is a whole POST."""
        listener, load_shedding = self._listener, self._listener.load_shedding
        is_ready = not self.flow.write_paused and self.conn.is_fresh()
        if not (load_shedding and is_ready and request_head.is_whole_post(data)):
            return False
        if not load_shedding.is_full(len(listener.begun)):
            # Many requests may be read before the first one is a call in flight.
            listener.begun.add(self)
            self.conn.is_head_checked = True
            return False
        self.transport.write(load_shedding.respond(data))
        self._began = None
        self.on_response_complete()
        return True

    def _is_waiting(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request
        return cycle is None or cycle.response_complete

    def _watch(self) -> None:
        """Update the place; arm the time limit of an incomplete head or body, or disarm it."""
        reason = self._find_wait()
        if reason is None:
            self._place.serve()
        else:
            self._place.wait(reason)
        state = self.conn.their_state
        if self._began is None or state not in self._seconds or self.conn.refusal:
            self._disarm()
            self._began = None
        elif self._timed is not state:
            self._disarm()
            self._timed = state
            self._deadline = self.loop.call_at(self._began + self._seconds[state], self._expire)

    def _find_wait(self) -> Drop | None:
        """Return what the client must do now, None while a request or a refusal is served."""
        if self.transport.is_closing():
            return Drop.ENDING
        if self.flow.write_paused:
            return Drop.UNREAD
        if self.conn.refusal:
            return None
        if self._is_waiting():
            return Drop.INCOMPLETE if self.conn.has_part() else Drop.IDLE
        return Drop.INCOMPLETE if self.cycle.more_body else None

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self._timed = None

    def _expire(self) -> None:
        if self._timed is h11.SEND_BODY:
            reason = Refusal.BODY_TIMEOUT
            detail = f"The request must be complete in {self._limits.request_timeout:g} s."
        elif self.conn.trailing_data[0]:
            reason = Refusal.HEADER_TIMEOUT
            detail = f"The header must be complete in {self._limits.header_timeout:g} s."
        else:
            self.transport.close()
            return
        self._refuse(RefusedError(reason, 408, detail))

    def _refuse(self, refusal: RefusedError) -> None:
        """Have the application respond with `refusal`; close if a response has begun."""
        self.conn.refusal = refusal
        self._listener.refused[refusal.reason] += 1
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()
        elif self._is_waiting():
            self._answer(refusal)
        else:
            cast("dict[str, Any]", self.cycle.scope)[REFUSAL] = refusal
            self.cycle.message_event.set()
        self._watch()

    def _answer(self, refusal: RefusedError) -> None:
        """Run the application for a request that could not be read."""
        scope = refusal.scope(
            asgi={"version": self.asgi_version, "spec_version": "2.3"},
            server=self.server,
            client=self.client,
            scheme=self.scheme,
            state=self.app_state.copy(),
        )
        self.cycle = RequestResponseCycle(
            scope=scope,
            conn=self.conn,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            on_response=self.on_response_complete,
        )
        task = self.loop.create_task(self.cycle.run_asgi(self.app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)
