"""The admin application: the probes and the drain, on a listener of their own."""

import ipaddress
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from sidecar.http_connection import REFUSAL

Probe = Callable[[], bool]


def build(*, is_started: Probe, is_ready: Probe, drain: Callable[[], None]) -> ASGIApp:
    """Return the application.

    `is_started` tells whether everything listens, `is_ready` whether calls are wanted
    now, and `drain` makes the process stop as SIGTERM does. No probe depends on the
    auth-api: restarting the sidecar would not mend it.
    """

    async def livez(_request: Request) -> Response:
        return _respond("alive", status_code=200)

    async def startupz(_request: Request) -> Response:
        return _tell(is_started(), "started")

    async def readyz(_request: Request) -> Response:
        return _tell(is_ready(), "ready")

    async def begin_drain(request: Request) -> Response:
        if request.client is None or not ipaddress.ip_address(request.client.host).is_loopback:
            # Probes come from other machines, and this one would be a way to stop the service.
            return _respond("only this machine may drain", status_code=403)
        drain()
        return _respond("draining", status_code=202)

    app = Starlette(
        routes=[
            Route("/livez", livez),
            Route("/startupz", startupz),
            Route("/readyz", readyz),
            Route("/drain", begin_drain, methods=["POST"]),
        ]
    )

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        refused = scope.get(REFUSAL)
        response = _respond(refused.detail, status_code=refused.status) if refused else app
        await response(scope, receive, send)

    return answer


def _tell(is_so: bool, what: str) -> Response:
    return _respond(what if is_so else f"not {what}", status_code=200 if is_so else 503)


def _respond(status: str, *, status_code: int) -> Response:
    headers = {"Cache-Control": "no-store"}
    return JSONResponse({"status": status}, status_code=status_code, headers=headers)
