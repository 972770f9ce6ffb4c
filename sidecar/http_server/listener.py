"""An HTTP listener: one ASGI application on its listening sockets, by an embedded uvicorn."""

import asyncio
import math
import socket
import ssl
from contextlib import suppress
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sidecar.client_address import UNIX_PEER
from sidecar.http_server.connection import REFUSAL, RefusedError
from sidecar.http_server.counts import Drop, ListenerCounts
from sidecar.http_server.limits import Limits
from sidecar.http_server.load_shedding import LoadShedding
from sidecar.http_server.protocol import HttpProtocol, ListenerState
from sidecar.tls.forwarding_context import ForwardingContext

_DEFAULTS = Limits()
_POLL_INTERVAL = 0.02  # seconds
# At the cut: turns of the loop, of 5 ms or more, in which requests that have arrived are read.
_TURNS, _TURN = 10, 0.005


class HttpListener:
    """Serves `app` on the sockets `bound`, all of TCP or all Unix, from `start` to `stop`.

    `grace` is the time in seconds that `stop` gives to requests in flight. With `tls` the
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
        self._state = ListenerState(
            limits=limits,
            load_shedding=load_shedding,
            peer=UNIX_PEER if self._is_unix else None,
        )
        self._config = uvicorn.Config(
            _raise_refusals(app),
            http=HttpProtocol,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=limits.keep_alive,  # type: ignore[arg-type] # any number will do
            timeout_graceful_shutdown=grace,  # type: ignore[arg-type] # as above
        )
        self._server = uvicorn.Server(self._config)
        self._cutting: asyncio.Task[None] | None = None
        self._ends_at = math.inf  # a time of the event loop: the end of the cut

    async def start(self) -> None:
        """Start the application, and answer requests. Raises RuntimeError if it does not start.

        `uvicorn.Server.serve` does the same, but it takes over the signals of the process
        and has no timeout for TLS handshakes.
        """
        self._config.load()
        loop = asyncio.get_running_loop()
        lifespan = self._config.lifespan_class(self._config)
        self._server.lifespan = lifespan
        await lifespan.startup()
        if lifespan.should_exit:
            raise RuntimeError("the application did not start")
        create = loop.create_unix_server if self._is_unix else loop.create_server
        self._server.servers = [
            await create(
                self._new_protocol, sock=each, backlog=self._limits.backlog, **self._handshake()
            )
            for each in self._bound
        ]
        self._main_loop = asyncio.create_task(self._server.main_loop())

    @property
    def counts(self) -> ListenerCounts:
        """The counts of now."""
        state = self._state
        return ListenerCounts(
            open=len(self._server.server_state.connections),
            idle=len(state.waiting),
            opening=len(state.opening),
            refused=dict(state.refused),
            dropped=dict(state.dropped),
            shed=state.load_shedding.total if state.load_shedding else 0,
        )

    def retire(self) -> None:
        """Go on serving, and close each connection with its next response."""
        self._state.is_closing = True

    async def stop(self) -> None:
        """Stop listening, let requests in flight end, then stop the application."""
        self.retire()
        self._server.should_exit = True
        await self._close()
        await self._main_loop
        await self._server.shutdown(sockets=list(self._bound))
        if self._cutting is not None:
            self._cutting.cancel()
        if self._state.load_shedding is not None:
            self._state.load_shedding.report()

    async def _close(self) -> None:
        """Stop listening, and serve the connections in the backlog: else they are reset."""
        late: list[socket.socket] = []
        for bound in self._bound:
            with suppress(OSError):  # no more connections, or no descriptors for them
                while True:
                    late.append(bound.accept()[0])
        for server in self._server.servers:
            server.close()
        accepting = [asyncio.create_task(self._accept(connection)) for connection in late]
        loop = asyncio.get_running_loop()
        end = loop.time() + self._limits.linger
        is_waiting = True
        while is_waiting:  # nothing reports a failed handshake
            await asyncio.sleep(_POLL_INTERVAL)
            is_open = bool(self._state.opening) or not all(task.done() for task in accepting)
            is_waiting = is_open and loop.time() < min(end, self._ends_at)
        for task in accepting:
            task.cancel()

    async def _accept(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        with suppress(OSError):  # the client has left, or the handshake failed
            await asyncio.get_running_loop().connect_accepted_socket(
                self._new_protocol, connection, **self._handshake()
            )

    def _new_protocol(self) -> HttpProtocol:
        state = self._server.server_state
        return HttpProtocol(self._state, self._config, state, self._server.lifespan.state)

    def _handshake(self) -> dict[str, Any]:
        """Return the arguments for TLS of what accepts connections."""
        if self._tls is None:
            return {}
        return {
            "ssl": ForwardingContext.to(self._choose_context),
            "ssl_handshake_timeout": self._limits.header_timeout,
            # After the last response: many clients never send their own close_notify.
            "ssl_shutdown_timeout": self._limits.linger,
        }

    def _choose_context(self) -> ssl.SSLContext:
        """Return the context of a new connection. Raises ConnectionError if there are too many.

        The handshake comes before the protocol could count the connection.
        """
        count = len(self._state.opening) + len(self._server.server_state.connections)
        # As many as are served may be in the middle of being refused.
        if count > 2 * self._limits.connections:
            self._state.dropped[Drop.ABORTED] += 1
            raise ConnectionAbortedError("there are too many connections")
        return cast("ssl.SSLContext", self._tls)  # called by a listener that has one

    def end_idle(self) -> None:
        """Close every idle connection at once."""
        for connection in tuple(self._state.waiting):
            connection.end()

    def cut(self, grace: float) -> None:
        """Make `stop` end: end the requests in flight, and refuse incomplete and later ones.

        The application must refuse a later request at once, and answer a cancelled one. After
        `grace` seconds the connections that are left are aborted.
        """
        loop = asyncio.get_running_loop()
        self._ends_at = loop.time() + grace
        self._state.is_cut = True
        for connection in self._connections():
            connection.refuse_incomplete()
        for task in tuple(self._server.server_state.tasks):
            # In the next turn the task has begun. If it had not, it would end without a response.
            loop.call_soon(task.cancel)
        self._cutting = asyncio.create_task(self._end_connections())

    async def _end_connections(self) -> None:
        """End idle connections, and at the end of the cut all. First read what has arrived."""
        await _pass_turns()
        self.end_idle()
        await asyncio.sleep(self._ends_at - asyncio.get_running_loop().time())
        await _pass_turns()  # on a busy machine the time may be over before
        for connection in self._connections():
            connection.transport.abort()

    def _connections(self) -> tuple[HttpProtocol, ...]:
        return cast("tuple[HttpProtocol, ...]", tuple(self._server.server_state.connections))


async def _pass_turns() -> None:
    for _ in range(_TURNS):
        await asyncio.sleep(_TURN)


def _raise_refusals(app: ASGIApp) -> ASGIApp:
    """Raise RefusedError in `app` where it reads a request that the protocol has refused."""

    async def read_on(scope: Scope, receive: Receive, send: Send) -> None:
        async def receive_unless_refused() -> Message:
            message = await receive()
            if REFUSAL in scope:
                raise cast("RefusedError", scope[REFUSAL])
            return message

        await app(scope, receive_unless_refused, send)

    return read_on
