"""An HTTP listener: one ASGI application on one listening socket, by an embedded uvicorn."""

import asyncio
import socket
import ssl
from contextlib import suppress
from typing import cast

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sidecar.http_server.connection import REFUSAL, RefusedError
from sidecar.http_server.counts import Drop, ListenerCounts
from sidecar.http_server.limits import Limits, ListenerState
from sidecar.http_server.load_shedding import LoadShedding
from sidecar.http_server.protocol import HttpProtocol
from sidecar.tls.handshake import Handshake

_DEFAULTS = Limits()


class HttpListener:
    """Serves `app` on the socket `bound` from `start` to `stop`.

    `grace` is the time in seconds that `stop` gives to requests in flight. With `tls` the
    listener speaks TLS only. While `load_shedding` is full, the listener answers each plain
    POST itself and keeps the connection; every other request is for `app`.
    """

    def __init__(
        self,
        app: ASGIApp,
        bound: socket.socket,
        *,
        grace: float,
        limits: Limits = _DEFAULTS,
        tls: ssl.SSLContext | None = None,
        load_shedding: LoadShedding | None = None,
    ) -> None:
        self._bound = bound
        self._limits = limits
        self._tls = tls
        self._handshakes: set[asyncio.Task[None]] = set()
        self._state = ListenerState.of(limits, load_shedding)
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

    async def start(self) -> None:
        """Start the application, and answer requests. Raises RuntimeError if it does not start.

        `uvicorn.Server.serve` does the same, but it takes over the signals of the process
        and has no hook for connections in the TLS handshake.
        """
        self._config.load()
        loop = asyncio.get_running_loop()
        lifespan = self._config.lifespan_class(self._config)
        self._server.lifespan = lifespan
        await lifespan.startup()
        if lifespan.should_exit:
            raise RuntimeError("the application did not start")
        server = await loop.create_server(
            self._accept, sock=self._bound, backlog=self._limits.backlog
        )
        self._server.servers = [server]
        self._main_loop = asyncio.create_task(self._server.main_loop())

    @property
    def counts(self) -> ListenerCounts:
        """The counts of now."""
        state = self._state
        waiting = state.places.count_waiting()
        return ListenerCounts(
            open=len(self._server.server_state.connections),
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
        self._server.should_exit = True
        await self._main_loop
        await self._close()
        await self._server.shutdown(sockets=[self._bound])
        if self._state.load_shedding is not None:
            self._state.load_shedding.report()

    async def _close(self) -> None:
        """Stop listening, and serve the connections in the backlog: else they are reset."""
        late: list[socket.socket] = []
        with suppress(OSError):  # no more connections, or no descriptors for them
            while True:
                late.append(self._bound.accept()[0])
        for server in self._server.servers:
            server.close()
        loop = asyncio.get_running_loop()
        for connection in late:
            connection.setblocking(False)
        accepting = [loop.connect_accepted_socket(self._accept, one) for one in late]
        await asyncio.gather(*accepting, return_exceptions=True)  # some clients have left
        if self._handshakes:
            _, unfinished = await asyncio.wait(self._handshakes, timeout=self._limits.linger)
            for handshake in unfinished:
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
        state = self._server.server_state
        return HttpProtocol(self._state, self._config, state, self._server.lifespan.state)

    def end_idle(self) -> None:
        """Close every idle connection at once."""
        for connection in tuple(self._server.server_state.connections):
            cast("HttpProtocol", connection).end()

    def cut(self) -> None:
        """Make `stop` end: close idle connections, and cancel the requests in flight."""
        self.end_idle()
        for task in tuple(self._server.server_state.tasks):
            task.cancel()


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
