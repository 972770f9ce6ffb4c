"""One HTTP listener: an ASGI application on a socket of ours, by an embedded uvicorn."""

import asyncio
import socket

import uvicorn
from starlette.types import ASGIApp

from sidecar.sockets import BACKLOG


class HttpListener:
    """Serves `app` on `bound` from `start` to `stop`, which gives it `grace` seconds to end."""

    def __init__(self, app: ASGIApp, bound: socket.socket, *, grace: int) -> None:
        self._bound = bound
        self._config = uvicorn.Config(
            app,
            # It bounds an incomplete header block and checks Host; httptools does neither.
            http="h11",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=grace,
        )
        self._server = uvicorn.Server(self._config)

    async def start(self) -> None:
        """Start the application and answer requests.

        `uvicorn.Server.serve` does the same, but takes the process's signals.
        """
        self._config.load()
        self._server.lifespan = self._config.lifespan_class(self._config)
        await self._server.startup(sockets=[self._bound])
        self._main_loop = asyncio.create_task(self._server.main_loop())

    async def stop(self) -> None:
        """Stop listening, let requests in flight end, then stop the application."""
        self._server.should_exit = True
        await self._main_loop
        await self._server.shutdown(sockets=[self._bound])
