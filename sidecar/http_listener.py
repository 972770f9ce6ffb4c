"""One HTTP listener: an ASGI application on a socket of ours, by an embedded uvicorn."""

import asyncio
import socket

import uvicorn
from starlette.types import ASGIApp

from sidecar.settings import Address

_BACKLOG = 1024


def bind(address: Address) -> socket.socket:
    """Return a socket that listens on `address`. Raises OSError."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        # A port whose last connections are still closing may be taken; one in use may not.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((address.host, address.port))
        # At once: until one of them listens, two processes may bind the same port.
        bound.listen(_BACKLOG)
    except OSError as error:
        bound.close()
        raise OSError(f"cannot listen on {address}: {error.strerror}") from None
    return bound


def address_of(bound: socket.socket) -> Address:
    """Return where `bound` is, with its port if any free one was asked for."""
    host, port = bound.getsockname()[:2]
    return Address(host, port)


class HttpListener:
    """Serves `app` on `bound` from `start` to `stop`, which gives it `grace` seconds to end."""

    def __init__(self, app: ASGIApp, bound: socket.socket, *, grace: int) -> None:
        self._bound = bound
        self._config = uvicorn.Config(
            app,
            http="h11",  # it caps the header block and checks Host; httptools does neither
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=_BACKLOG,
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
