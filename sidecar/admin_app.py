"""The admin application: the probes, on a listener of their own."""

from collections.abc import Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


def build(is_ready: Callable[[], bool]) -> Starlette:
    """Return the application. `is_ready` tells whether calls are wanted now.

    Neither probe depends on the auth-api: restarting the sidecar would not mend it.
    """

    async def livez(_request: Request) -> Response:
        return _respond("alive", status_code=200)

    async def readyz(_request: Request) -> Response:
        ready = is_ready()
        return _respond("ready" if ready else "not ready", status_code=200 if ready else 503)

    return Starlette(routes=[Route("/livez", livez), Route("/readyz", readyz)])


def _respond(status: str, *, status_code: int) -> Response:
    headers = {"Cache-Control": "no-store"}
    return JSONResponse({"status": status}, status_code=status_code, headers=headers)
