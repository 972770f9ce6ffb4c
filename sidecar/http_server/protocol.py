"""The HTTP front: what a client may do to a connection, and for how long.

uvicorn's protocol for h11 has no limit of time on a request, forgives what may be
smuggled, leaves a client that half-closed without its answer, and answers broken
HTTP in plain text. Here all of that is settled, by overriding what it calls. What
cannot be accepted is given to the application as `scope[REFUSAL]`, a RequestError,
so that every refusal is logged and answered in the application's own form.
"""

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any, cast
from weakref import WeakSet

import h11
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.server import ServerState

from sidecar.http_server import request_head
from sidecar.http_server.connection import REFUSAL, Connection, RefusedError
from sidecar.http_server.limits import Limits
from sidecar.http_server.lingering_close import LINGER, LingeringTransport
from sidecar.http_server.load_shedding import LoadShedding


@dataclass(slots=True)
class ListenerState:
    """What the connections of one listener share."""

    limits: Limits
    shedding: LoadShedding | None = None
    # Those that are not open yet: by TLS a handshake comes before, of whose failure nobody
    # hears but those that let go.
    opening: WeakSet["HttpProtocol"] = field(default_factory=WeakSet)
    # Those that wait for a request, the one that waits longest first.
    waiting: dict["HttpProtocol", None] = field(default_factory=dict)
    # Those whose request came as a whole, and waits for its answer.
    begun: set["HttpProtocol"] = field(default_factory=set)
    # Whether each answer is to be the last of its connection.
    is_closing: bool = False


class HttpProtocol(H11Protocol):
    """One connection of a client."""

    conn: Connection

    def __init__(
        self,
        front: ListenerState,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
    ) -> None:
        super().__init__(config, server_state, app_state)
        self._front = front
        front.opening.add(self)
        self._began: float | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._timed: object = None
        self._giving_up: asyncio.TimerHandle | None = None
        age = front.limits.age * random.uniform(0.9, 1.1)  # noqa: S311 to spread, not to hide
        self.conn = Connection(lambda: front.is_closing, self.loop.time() + age)

    # What asyncio calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in the base
        """Take the connection, in place of the one that waits longest if there are too many."""
        self._front.opening.discard(self)
        super().connection_made(cast("asyncio.Transport", LingeringTransport(transport)))
        most = self._front.limits.connections
        if len(self.connections) > most and self._front.waiting:
            oldest = next(iter(self._front.waiting))
            del self._front.waiting[oldest]
            oldest.transport.abort()
        elif len(self.connections) > 2 * most:  # those that are being refused are some of them
            transport.abort()
        elif len(self.connections) > most:
            self._refuse(RefusedError(503, f"There must not be more than {most} connections."))
            return
        self._began = self.loop.time()
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Read what was sent, unless the last answer is out."""
        if self.transport.is_closing() or self.conn.refusal or self._shed(data):
            return
        before, cycle = self.conn.their_state, self.cycle
        if before is h11.IDLE and self._began is None:
            self._began = self.loop.time()
        super().data_received(data)
        is_next = self.conn.their_state is h11.IDLE or self.cycle is not cycle
        if before is h11.SEND_BODY and is_next:
            # A body has ended whose answer came early: what follows has its own time.
            self._disarm()
            self._began = self.loop.time() if self.conn.trailing_data[0] else None
        self._watch()

    def eof_received(self) -> bool:  # type: ignore[override] # what asyncio takes
        """Keep the connection for the answer if the client has but ended its own direction.

        By TLS there is no such half; the client is gone.
        """
        if self.transport.is_closing() or self.scheme == "https" or self._is_waiting():
            return False
        self.conn.has_heard_all = True
        return not self.cycle.more_body

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of everything at once, also after a reset."""
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._front.waiting.pop(self, None)
        self._front.begun.discard(self)
        self._disarm()
        self._stop_giving_up()
        cast("LingeringTransport", self.transport).forget()

    def pause_writing(self) -> None:
        """Give a client that does not read its answers as long as one that does not send."""
        super().pause_writing()
        self._giving_up = self.loop.call_later(
            self._front.limits.request_timeout, self.transport.abort
        )

    def resume_writing(self) -> None:
        """Go on."""
        super().resume_writing()
        self._stop_giving_up()

    # What uvicorn calls

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 uvicorn's text
        """Refuse what is not HTTP."""
        self._refuse(cast("RefusedError", self.conn.refusal))  # told with the error of h11

    def on_response_complete(self) -> None:
        """Go on with the next request, if it has come, or wait for one."""
        self._front.begun.discard(self)
        if self.conn.trailing_data[0]:
            self._began = self.loop.time()
        super().on_response_complete()
        self._watch()

    def shutdown(self) -> None:
        """Close when the request in hand is answered, or if none comes in a last moment."""
        if self._is_waiting():
            self.loop.call_later(LINGER, self.end)
        else:
            self.cycle.keep_alive = False

    def end(self) -> None:
        """Close the connection if it waits for a request."""
        if self._is_waiting():
            self.transport.close()

    # What both lead to

    def _shed(self, data: bytes) -> bool:
        """Answer a whole request as it came, if there is no room for what it asks."""
        front, shedding = self._front, self._front.shedding
        is_able = not self.flow.write_paused and self.conn.is_fresh()
        if not (shedding and is_able and request_head.is_whole_post(data)):
            return False
        if not shedding.is_full(len(front.begun)):
            # Many may be read before the first of them has its place.
            front.begun.add(self)
            return False
        self.transport.write(shedding.answer(data))
        self._began = None
        self.on_response_complete()
        return True

    def _is_waiting(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request
        return cycle is None or cycle.response_complete

    def _watch(self) -> None:
        """Arm the deadline of what is being waited for: a header, the rest of a body, or none."""
        state = self.conn.their_state
        if self._is_waiting() and not self.conn.refusal and not self.transport.is_closing():
            self._front.waiting.setdefault(self)
        else:
            self._front.waiting.pop(self, None)
        limits = self._front.limits
        seconds = {h11.IDLE: limits.header_timeout, h11.SEND_BODY: limits.request_timeout}
        if self._began is None or state not in seconds or self.conn.refusal:
            self._disarm()
            self._began = None
        elif self._timed is not state:
            self._disarm()
            self._timed = state
            self._deadline = self.loop.call_at(self._began + seconds[state], self._expire)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self._timed = None

    def _stop_giving_up(self) -> None:
        if self._giving_up is not None:
            self._giving_up.cancel()
        self._giving_up = None

    def _expire(self) -> None:
        limits = self._front.limits
        if self._timed is h11.SEND_BODY:
            late = f"The request must be complete in {limits.request_timeout:g} s."
        elif self.conn.trailing_data[0]:
            late = f"The header must be complete in {limits.header_timeout:g} s."
        else:
            self.transport.close()
            return
        self._refuse(RefusedError(408, late))

    def _refuse(self, refusal: RefusedError) -> None:
        """Have the application answer `refusal`: in the request in hand, or in place of one."""
        self.conn.refusal = refusal
        self._watch()
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()  # there is an answer already
        elif self._is_waiting():
            self._answer(refusal)
        else:
            cast("dict[str, Any]", self.cycle.scope)[REFUSAL] = refusal
            self.cycle.message_event.set()

    def _answer(self, refusal: RefusedError) -> None:
        """Run the application for a request that could not be read."""
        scope: Any = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": "1.1",
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "method": "",
            "path": "",
            "raw_path": b"",
            "query_string": b"",
            "headers": [],
            "state": self.app_state.copy(),
            REFUSAL: refusal,
        }
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
