"""Admin ASGI application: the probes, the drain and routes of others, on their own listener."""

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sidecar import logs
from sidecar.http_server.http1.refusal import REFUSAL

Probe = Callable[[], bool]
_NO_STORE: Mapping[str, str] = {"Cache-Control": "no-store"}
# Browsers send Origin (RFC 6454 section 7.3), and newer ones Sec-Fetch-Site
# (https://www.w3.org/TR/fetch-metadata/).
_FROM_BROWSERS = frozenset({"origin", "sec-fetch-site"})


def build(
    *,
    is_started: Probe,
    is_ready: Probe,
    drain: Callable[[], None],
    further: Iterable[Route] = (),
) -> ASGIApp:
    """Return the application, with the routes `further` of other parts.

    `is_started` returns whether everything listens, `is_ready` whether new calls should be
    routed here. `drain` begins a graceful shutdown, as SIGTERM does. No probe depends on the
    auth-api, because a restart of the sidecar would not repair it.
    """

    async def livez(_request: Request) -> Response:
        return _respond("alive", status_code=200)

    async def startupz(_request: Request) -> Response:
        return _respond_to_probe(is_started(), "started")

    async def readyz(_request: Request) -> Response:
        return _respond_to_probe(is_ready(), "ready")

    async def begin_drain(request: Request) -> Response:
        if not _is_local(request):
            # The listener may be open to probes from other machines, which must not stop us.
            return _refuse(403, "A drain must be requested from this machine.")
        if _FROM_BROWSERS & set(request.headers):
            return _refuse(403, "A drain must not be requested by a web page.")
        drain()
        return _respond("draining", status_code=202)

    routes = [Route(f"/{probe.__name__}", probe) for probe in (livez, startupz, readyz)]
    app = Starlette(
        routes=[*routes, Route("/drain", begin_drain, methods=["POST"]), *further],
        exception_handlers={HTTPException: _refuse_http_exception},
    )

    return _answering(app)


def _answering(app: ASGIApp) -> ASGIApp:
    """Answer what the listener has refused, and everything else by `app`, with a debug line."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        refused = scope.get(REFUSAL)
        response = _refuse(refused.status, refused.detail) if refused else app
        await response(scope, receive, _logged(scope, send))

    return answer


def _logged(scope: Scope, send: Send) -> Send:
    """Return `send`, with a debug line at the start of the response."""

    async def send_logged(message: Message) -> None:
        if message["type"] == "http.response.start":
            route = getattr(scope.get("route"), "path", "unmatched")
            logs.debug("admin request", route=route, status=message["status"])
        await send(message)

    return send_logged


def _is_local(request: Request) -> bool:
    client = request.client
    address = ipaddress.ip_address(client.host if client else "::")
    # An IPv6 listener sees IPv4 clients at mapped addresses (RFC 4291 section 2.5.5.2).
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _respond_to_probe(holds: bool, state: str) -> Response:
    return _respond(state if holds else f"not {state}", status_code=200 if holds else 503)


def _refuse_http_exception(_request: Request, error: Exception) -> Response:
    """Answer an exception of Starlette, such as 404 and 405."""
    refusal = cast("HTTPException", error)  # it is registered for this type only
    return _refuse(refusal.status_code, refusal.detail, refusal.headers)


def _refuse(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return a problem document of the type about:blank (RFC 9457 section 4.2.1)."""
    title = HTTPStatus(status).phrase
    problem = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return JSONResponse(
        problem,
        status_code=status,
        headers={**_NO_STORE, **(headers or {})},
        media_type="application/problem+json",
    )


def _respond(status: str, *, status_code: int) -> Response:
    return JSONResponse({"status": status}, status_code=status_code, headers=_NO_STORE)
