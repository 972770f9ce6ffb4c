"""The protocol of one HTTP/1 connection: its place, its time limits and its end."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import cast

from starlette.types import ASGIApp

from sidecar.http_server.asgi import scope
from sidecar.http_server.counts import Drop, Refusal
from sidecar.http_server.deadline import Deadline
from sidecar.http_server.http1.refusal import RefusedError
from sidecar.http_server.lingering_transport import LingeringTransport
from sidecar.http_server.listener_state import ListenerState
from sidecar.http_server.places import Place
from sidecar.http_server.request_sequence import RequestSequence


class HttpProtocol(asyncio.Protocol):
    """One connection of a client to `app`."""

    transport: LingeringTransport
    _requests: RequestSequence

    def __init__(self, listener: ListenerState, app: ASGIApp) -> None:
        self._app = app
        self._listener, self._limits = listener, listener.limits
        self._place = Place(listener.places)
        self._deadline = Deadline(self._expire)
        self._is_connected = self._is_secure = False

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
        accepted = cast("asyncio.Transport", transport)
        common = scope.of_connection(accepted, self._listener.peer)
        self._is_connected = True
        self._is_secure = common["scheme"] == "https"
        self.transport = LingeringTransport(accepted, self._limits.linger)
        if self._is_secure:
            self._place.abort = accepted.abort
        else:
            self._place.take(accepted.get_extra_info("peername"), accepted.abort, Drop.IDLE)
        busy = self._place.refusal
        self._requests = RequestSequence(
            self._listener,
            self._app,
            self.transport,
            common,
            changed=self._watch,
            busy=RefusedError(busy[0], 503, busy[1]) if busy else None,
        )
        self._listener.connections.add(self)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Read `data`."""
        self._requests.receive(data)

    def eof_received(self) -> bool:
        """Return whether the connection stays open: its client sends no more.

        It does if a response is due, or the rest of one is not sent yet. A stream ends: who ends a
        connection during one does not want the rest. So does an incomplete request. TLS has no
        half-close.
        """
        requests = self._requests
        if requests.is_streaming:
            self.transport.abort()
        if self.transport.is_closing() or self._is_secure:
            return False
        if requests.is_waiting:
            return self.transport.close_if_unsent()
        if requests.has_part and not requests.is_refused:
            self.transport.abort()  # a close would wait until the client reads, perhaps for ever
            return False
        requests.has_eof = True
        self.transport.abort_when_gone()
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 the cause does not matter
        """Tell the application, and release timers and shared state."""
        self._listener.connections.discard(self)
        self._listener.begun.discard(self._requests)
        self._place.leave()
        self._deadline.cancel()
        self.transport.forget()
        self._requests.disconnect()

    def pause_writing(self) -> None:
        """Abort a client that takes nothing of its response for the request timeout.

        Meanwhile its call does not count as begun: its response is ready.
        """
        self._listener.begun.discard(self._requests)
        self.transport.expect_reader(
            self._limits.request_timeout, partial(self._place.end, Drop.UNREAD)
        )
        self._watch()

    def resume_writing(self) -> None:
        """Resume writing, and cancel the abort."""
        self.transport.stop_expecting()
        self._watch()

    # Called by the listener

    def shutdown(self) -> None:
        """Close with the current response; if none is due, after the linger time."""
        if self._requests.is_waiting:
            asyncio.get_running_loop().call_later(self._limits.linger, self.end)
        else:
            self._requests.end_with_response()

    def end(self) -> None:
        """Close the connection, unless a request is being served."""
        if self._requests.is_waiting:
            self._requests.close()

    def refuse_incomplete(self) -> None:
        """Refuse the request of which a part is here, if no response has begun."""
        self._requests.refuse_incomplete()

    # What the client must do, and until when

    def _watch(self) -> None:
        """Update the place of the connection, and its time limit."""
        reason = self._find_wait()
        if reason is None:
            self._place.serve()
        else:
            self._place.wait(reason)
        self._deadline.set(self._find_deadline())

    def _find_wait(self) -> Drop | None:
        """Return what the client must do now, None while a request or a refusal is served."""
        requests = self._requests
        if self.transport.is_closing():
            return Drop.ENDING
        if not self.transport.writable.is_set():
            return Drop.UNREAD
        if requests.is_refused:
            return None
        if requests.has_part:
            return Drop.INCOMPLETE
        return Drop.IDLE if requests.is_waiting else None

    def _find_deadline(self) -> float | None:
        """Return the time of the loop by which the client must do that, None without a limit."""
        requests, limits = self._requests, self._limits
        if requests.is_over:
            return None
        if requests.has_head:
            return requests.began + limits.request_timeout if requests.has_part else None
        return requests.began + (limits.keep_alive if requests.is_idle else limits.header_timeout)

    def _expire(self) -> None:
        """Refuse the request that is not complete, or close an idle connection."""
        requests, limits = self._requests, self._limits
        if requests.has_head:
            detail = f"The request must be complete in {limits.request_timeout:g} s."
            requests.refuse(RefusedError(Refusal.BODY_TIMEOUT, 408, detail))
        elif requests.has_part:
            detail = f"The header must be complete in {limits.header_timeout:g} s."
            requests.refuse(RefusedError(Refusal.HEADER_TIMEOUT, 408, detail))
        else:
            requests.close()
