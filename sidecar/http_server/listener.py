"""An HTTP listener: one ASGI application on its listening sockets."""

import asyncio
import math
import socket
import ssl
from contextlib import suppress

from starlette.types import ASGIApp

from sidecar.client_address import UNIX_PEER
from sidecar.http_server.asgi.lifespan import Lifespan
from sidecar.http_server.counts import Drop, ListenerCounts
from sidecar.http_server.limits import Limits
from sidecar.http_server.listener_state import ListenerState
from sidecar.http_server.load_shedding import LoadShedding
from sidecar.http_server.protocol import HttpProtocol
from sidecar.tls.handshake import Handshake

_DEFAULTS = Limits()
# At the cut: turns of the loop, of 5 ms or more, in which requests that have arrived are read.
_TURNS, _TURN = 10, 0.005
_POLL = 0.05  # seconds between two looks whether all connections have ended


class HttpListener:
    """Serves `app` on the sockets `bound`, all of TCP or all Unix, from `start` to `stop`.

    `grace` is the time in seconds that `stop` gives to requests in flight, and then to the end of
    the application. With `tls` the
    listener speaks TLS only. While `load_shedding` is full, the listener answers each plain
    POST itself and keeps the connection; every other request is for `app`.
    """

    def __init__(
        self,
        app: ASGIApp,
        *bound: socket.socket,
        grace: float,
        limits: Limits = _DEFAULTS,
        tls: ssl.SSLContext | None = None,
        load_shedding: LoadShedding | None = None,
    ) -> None:
        self._bound = bound
        self._limits = limits
        self._tls = tls
        self._is_unix = any(each.family == socket.AF_UNIX for each in bound)
        self._handshakes: set[asyncio.Task[None]] = set()
        self._state = ListenerState.of(
            limits, load_shedding, peer=UNIX_PEER if self._is_unix else None
        )
        self._app = app
        self._grace = grace
        self._lifespan = Lifespan(app)
        self._servers: list[asyncio.Server] = []
        self._cutting: asyncio.Task[None] | None = None
        self._ends_at = math.inf  # a time of the event loop: the end of the cut

    async def start(self) -> None:
        """Start the application, and answer requests.

        Raises RuntimeError if it does not start, as one without a lifespan does not.
        """
        await self._lifespan.start()
        self._state.app_state = self._lifespan.state
        loop = asyncio.get_running_loop()
        create = loop.create_unix_server if self._is_unix else loop.create_server
        self._servers = [
            await create(self._accept, sock=each, backlog=self._limits.backlog)
            for each in self._bound
        ]

    @property
    def counts(self) -> ListenerCounts:
        """The current counts."""
        state = self._state
        waiting = state.places.count_waiting()
        return ListenerCounts(
            open=len(state.connections),
            idle=waiting.total() - waiting[Drop.HANDSHAKE],
            opening=waiting[Drop.HANDSHAKE],
            refused=dict(state.refused),
            dropped=dict(state.places.dropped),
            shed=state.load_shedding.total if state.load_shedding else 0,
        )

    def retire(self) -> None:
        """Go on serving, and close each connection with its next response."""
        self._state.is_closing = True

    async def stop(self) -> None:
        """Stop listening, let requests in flight end, then stop the application."""
        self.retire()
        await self._close()
        for connection in tuple(self._state.connections):
            connection.shutdown()
        try:
            await asyncio.wait_for(self._wait_for_the_end(), self._grace)
        except TimeoutError:
            for task in tuple(self._state.tasks):
                task.cancel()
        if self._cutting is not None:
            self._cutting.cancel()
        if self._state.load_shedding is not None:
            self._state.load_shedding.report()
        await self._lifespan.stop(self._grace)

    async def _wait_for_the_end(self) -> None:
        while self._state.connections or self._state.tasks:  # noqa: ASYNC110 an event would slow each call
            await asyncio.sleep(_POLL)

    async def _close(self) -> None:
        """Stop listening, and serve the connections in the backlog: else they are reset."""
        late: list[socket.socket] = []
        for bound in self._bound:
            with suppress(OSError):  # no more connections, or no descriptors for them
                while True:
                    late.append(bound.accept()[0])
        for server in self._servers:
            server.close()
        for bound in self._bound:
            bound.close()
        loop = asyncio.get_running_loop()
        for connection in late:
            connection.setblocking(False)
        accepting = [loop.connect_accepted_socket(self._accept, one) for one in late]
        await asyncio.gather(*accepting, return_exceptions=True)  # some clients have left
        if self._handshakes:
            left = min(self._limits.linger, max(self._ends_at - loop.time(), 0))
            await asyncio.wait(self._handshakes, timeout=left)
            self._end_handshakes()

    def _end_handshakes(self) -> None:
        for handshake in tuple(self._handshakes):
            handshake.cancel()

    def _accept(self) -> asyncio.Protocol:
        """Return the protocol of a new connection, which begins with TLS if that is on."""
        protocol = self._new_protocol()
        if self._tls is None:
            return protocol
        return Handshake(
            protocol,
            self._tls,
            timeout=self._limits.header_timeout,
            # After the last response: many clients never send their own close_notify.
            shutdown_timeout=self._limits.linger,
            running=self._handshakes,
        )

    def _new_protocol(self) -> HttpProtocol:
        return HttpProtocol(self._state, self._app)

    def end_idle(self) -> None:
        """Close every connection that waits for a request, or for the rest of one."""
        for connection in tuple(self._state.connections):
            connection.end()

    def cut(self, grace: float) -> None:
        """Make `stop` end: end the requests in flight, and refuse incomplete and later ones.

        The application must refuse a later request at once, and answer a cancelled one. After
        `grace` seconds the connections that are left are aborted.
        """
        loop = asyncio.get_running_loop()
        self._ends_at = loop.time() + grace
        self._state.is_cut = True
        for connection in tuple(self._state.connections):
            connection.refuse_incomplete()
        for task in tuple(self._state.tasks):
            # Not now: a task that is cancelled before it has begun ends without a response.
            loop.call_soon(task.cancel)
        self._cutting = asyncio.create_task(self._end_connections())

    async def _end_connections(self) -> None:
        """Read what has arrived, then end the connections that wait.

        All others are aborted at the end of the cut.
        """
        await _pass_turns()
        self.end_idle()
        await asyncio.sleep(self._ends_at - asyncio.get_running_loop().time())
        await _pass_turns()  # on a busy machine the time may be over before
        self._end_handshakes()
        for connection in tuple(self._state.connections):
            connection.transport.abort()


async def _pass_turns() -> None:
    for _ in range(_TURNS):
        await asyncio.sleep(_TURN)
