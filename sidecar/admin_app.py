"""The admin application: the probes and the drain, on a listener of their own."""

import ipaddress
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from sidecar.http_server.connection import REFUSAL

Probe = Callable[[], bool]
_NOT_KEPT: Mapping[str, str] = {"Cache-Control": "no-store"}


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
        if not _is_of_this_machine(request):
            # Probes come from other machines, and this one would be a way to stop the service.
            return _refuse(403, "The wish to drain must come from this machine.")
        if "origin" in request.headers:
            # A browser of this machine may show a page of anybody (RFC 6454 section 7.3).
            return _refuse(403, "The wish to drain must not come from a web page.")
        drain()
        return _respond("draining", status_code=202)

    routes = [Route(f"/{probe.__name__}", probe) for probe in (livez, startupz, readyz)]
    app = Starlette(
        routes=[*routes, Route("/drain", begin_drain, methods=["POST"])],
        exception_handlers={HTTPException: _refuse_as_said},
    )

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        refused = scope.get(REFUSAL)
        response = _refuse(refused.status, refused.detail) if refused else app
        await response(scope, receive, send)

    return answer


def _is_of_this_machine(request: Request) -> bool:
    client = request.client
    address = ipaddress.ip_address(client.host if client else "::")
    # A listener of IPv6 sees those of IPv4 by an address of its own (RFC 4291 section 2.5.5.2).
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _tell(is_so: bool, what: str) -> Response:
    return _respond(what if is_so else f"not {what}", status_code=200 if is_so else 503)


def _refuse_as_said(_request: Request, error: Exception) -> Response:
    """Answer for Starlette."""
    refusal = cast("HTTPException", error)  # registered for no other
    return _refuse(refusal.status_code, refusal.detail, refusal.headers)


def _refuse(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with a problem that says no more than its status (RFC 9457 section 4.2.1)."""
    title = HTTPStatus(status).phrase
    problem = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return JSONResponse(
        problem,
        status_code=status,
        headers={**_NOT_KEPT, **(headers or {})},
        media_type="application/problem+json",
    )


def _respond(status: str, *, status_code: int) -> Response:
    return JSONResponse({"status": status}, status_code=status_code, headers=_NOT_KEPT)
