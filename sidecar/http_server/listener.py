"""One HTTP listener: an ASGI application on a socket of ours, by an embedded uvicorn."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sidecar.http_server.connection import REFUSAL, RefusedError
from sidecar.http_server.limits import Limits
from sidecar.http_server.lingering_close import LINGER
from sidecar.http_server.load_shedding import LoadShedding
from sidecar.http_server.protocol import HttpProtocol, ListenerState

_DEFAULTS = Limits()
_A_MOMENT = 0.02  # seconds


class HttpListener:
    """Serves `app` on `bound` from `start` to `stop`, which gives it `grace` seconds to end.

    With `tls` it speaks nothing else. While `shedding` is full it answers what it can
    see to be a call, whose connection is kept; what is harder to see is for `app`.
    """

    def __init__(
        self,
        app: ASGIApp,
        bound: socket.socket,
        *,
        grace: float,
        limits: Limits = _DEFAULTS,
        tls: ssl.SSLContext | None = None,
        shedding: LoadShedding | None = None,
    ) -> None:
        self._bound = bound
        self._tls = _Bounded.of(tls, self._is_full) if tls else None
        self._front = ListenerState(limits=limits, shedding=shedding)
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
        """Start the application and answer requests.

        `uvicorn.Server.serve` does the same, but takes the process's signals and
        knows no time for the handshake of TLS.
        """
        self._config.load()
        loop = asyncio.get_running_loop()
        lifespan = self._config.lifespan_class(self._config)
        self._server.lifespan = lifespan
        await lifespan.startup()
        if lifespan.should_exit:
            raise RuntimeError("the application did not start")
        server = await loop.create_server(
            self._new_protocol,
            sock=self._bound,
            backlog=self._front.limits.backlog,
            **self._handshake(),
        )
        self._server.servers = [server]
        self._main_loop = asyncio.create_task(self._server.main_loop())

    def retire(self) -> None:
        """Go on, but let each answer be the last of its connection."""
        self._front.is_closing = True

    async def stop(self) -> None:
        """Stop listening, let requests in flight end, then stop the application."""
        self.retire()
        self._server.should_exit = True
        await self._main_loop
        await self._close()
        await self._server.shutdown(sockets=[self._bound])
        if self._front.shedding is not None:
            self._front.shedding.tell()

    async def _close(self) -> None:
        """Listen no more, and serve who connected before: closing alone would reset them."""
        late: list[socket.socket] = []
        with suppress(OSError):  # there are no more, or no descriptors for them
            while True:
                late.append(self._bound.accept()[0])
        for server in self._server.servers:
            server.close()
        loop = asyncio.get_running_loop()
        for connection in late:
            connection.setblocking(False)
        taken = [
            loop.connect_accepted_socket(self._new_protocol, connection, **self._handshake())
            for connection in late
        ]
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                await asyncio.gather(*taken, return_exceptions=True)  # who left needs nothing
                while self._front.opening:  # noqa: ASYNC110 nobody tells of a handshake that fails
                    await asyncio.sleep(_A_MOMENT)

    def _new_protocol(self) -> HttpProtocol:
        state = self._server.server_state
        return HttpProtocol(self._front, self._config, state, self._server.lifespan.state)

    def _handshake(self) -> dict[str, Any]:
        if self._tls is None:
            return {}
        seconds = self._front.limits.header_timeout
        # The last answer is out, and many clients never say that they have heard the end.
        ends = {"ssl_handshake_timeout": seconds, "ssl_shutdown_timeout": LINGER}
        return {"ssl": self._tls, **ends}

    def _is_full(self) -> bool:
        """Return whether there are more connections than those that are served and refused."""
        count = len(self._front.opening) + len(self._server.server_state.connections)
        return count > 2 * self._front.limits.connections

    def end_idle(self) -> None:
        """End the connections that wait for a request, without a last moment for one to come."""
        for connection in tuple(self._front.waiting):
            connection.end()

    def cut(self) -> None:
        """Let `stop` wait no longer: end what waits, and have the application end the rest."""
        self.end_idle()
        for task in tuple(self._server.server_state.tasks):
            task.cancel()


class _Bounded(ssl.SSLContext):
    """Begins no handshake while `is_full`: it comes before the protocol could count it."""

    within: ssl.SSLContext
    is_full: Callable[[], bool]

    @classmethod
    def of(cls, within: ssl.SSLContext, is_full: Callable[[], bool]) -> "_Bounded":
        """Return one that gives connections the context `within`."""
        made = cls(ssl.PROTOCOL_TLS_SERVER)
        made.within, made.is_full = within, is_full
        return made

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """Begin a connection, as asyncio and uvloop do for each. Raises ConnectionError."""
        if self.is_full():
            raise ConnectionAbortedError("there are too many connections")
        return self.within.wrap_bio(*args, **kwargs)


def _raise_refusals(app: ASGIApp) -> ASGIApp:
    """Let a request that is refused while `app` reads it end there, with RefusedError."""

    async def read_on(scope: Scope, receive: Receive, send: Send) -> None:
        async def receive_unless_refused() -> Message:
            message = await receive()
            if REFUSAL in scope:
                raise cast("RefusedError", scope[REFUSAL])
            return message

        await app(scope, receive_unless_refused, send)

    return read_on
