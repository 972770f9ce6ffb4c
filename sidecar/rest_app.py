"""The public REST application: the transcoder, the problem pages, and every error as a problem."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from http import HTTPMethod, HTTPStatus
from types import MappingProxyType
from typing import cast
from urllib.parse import unquote

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.json_format import MessageToJson
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from karmo.problem.v1 import problem_details_pb2 as pb
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sidecar import client_address, logs, problem_pages
from sidecar.admission import Admission
from sidecar.http_connection import REFUSAL
from sidecar.problems import (
    CATALOGUE,
    FieldError,
    Problem,
    Reason,
    explained,
    find_detail,
    nearest,
    to_status,
)
from sidecar.setting_types import Address
from sidecar.shedding import NOBODY
from sidecar.transcoding import Options, Transcoder, media_type
from sidecar.transcoding.errors import RequestError
from sidecar.transcoding.status import HTTP_STATUS

# What only the listener itself says.
_REASONS: Mapping[int, Reason] = MappingProxyType({503: pb.PROBLEM_REASON_OVERLOADED})
# RFC 7617 sections 2 and 2.1. `error` is for clients that read the challenge
# and not the body.
CHALLENGE = 'Basic realm="partners-api", charset="UTF-8", error="invalid_client"'
OPTIONS = Options(
    metadata_headers=frozenset({"authorization", "traceparent", "x-request-id"}),
    ignore_unknown=True,
    # Clients of OAuth libraries do not choose the Accept field that these send.
    ignore_accept=True,
    max_body_bytes=16 * 1024,
)


def build(
    services: Sequence[ServiceDescriptor],
    channel: grpc.aio.Channel,
    *,
    public_url: str,
    trusted_proxies: int = 0,
    admission: Admission | None = None,
) -> ASGIApp:
    """Return the application that serves `services` through `channel`, which it closes at its end.

    `public_url` is the base of the problem types. Of the client's address
    `trusted_proxies` are believed. What `admission` has no room for is not even read.
    """
    renderer = Renderer(public_url)
    transcoder = Transcoder(services, channel, options=OPTIONS, render_error=renderer.render)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with channel:
            yield

    app = Starlette(
        routes=problem_pages.routes(public_url),
        exception_handlers={HTTPException: renderer.render_http, Exception: renderer.render_fault},
        lifespan=lifespan,
    )

    async def admit(scope: Scope, receive: Receive, send: Send) -> None:
        if admission is None or not admission.is_full():
            await transcoder(scope, receive, send)
            return
        response = renderer.render_problem(Request(scope), admission.overloaded)
        await response(scope, receive, send)

    # Not a Mount, which would take from Starlette what it answers with 405.
    app.router.default = admit
    # RFC 9700 section 4.12: a redirect to the path without a slash replays credentials.
    app.router.redirect_slashes = False
    return AccessLog(app, renderer, trusted_proxies)


def prepare(problem: Problem, public_url: str) -> bytes:
    """Return the response that `problem` is, as it is sent, with NOBODY for the request id."""
    request = Request({"type": "http", "headers": []})
    call = logs.Call(request_id=NOBODY)
    with logs.opened(call):
        response = Renderer(public_url).render_problem(request, problem)
    _complete(response.headers, call)
    fields = b"".join(b"%s: %s\r\n" % pair for pair in response.raw_headers)
    reason = HTTPStatus(response.status_code).phrase
    line = f"HTTP/1.1 {response.status_code} {reason}\r\n".encode()
    return line + fields + b"\r\n" + bytes(response.body)


class Renderer:
    """Makes the one form that errors have, the problem document, of all forms that they come in."""

    def __init__(self, public_url: str) -> None:
        self._public_url = public_url

    def render(self, request: Request, error: RequestError | Status) -> Response:
        """Answer for the transcoder: a request that is no call, or a call that failed."""
        if isinstance(error, Status):
            return self._respond(request, error)
        problem = Problem(
            reason=_REASONS.get(error.status) or nearest(error.status),
            detail=error.detail,
            errors=tuple(
                FieldError(detail=fault.detail, pointer=fault.pointer)
                for fault in error.faults
                if fault.pointer is not None
            ),
        )
        return self._respond(request, self._status(problem), **error.headers)

    def render_problem(self, request: Request, problem: Problem) -> Response:
        """Answer with `problem`."""
        return self._respond(request, self._status(problem))

    def render_http(self, request: Request, error: Exception) -> Response:
        """Answer for Starlette's own routes."""
        refusal = cast("HTTPException", error)  # registered for no other
        reason = nearest(refusal.status_code)
        problem = Problem(reason=reason, detail=CATALOGUE[reason].remedy)
        return self._respond(request, self._status(problem), **(refusal.headers or {}))

    def render_fault(self, request: Request, _error: Exception) -> Response:
        """Answer for a bug of ours, of which the log tells more."""
        reason = pb.PROBLEM_REASON_INTERNAL
        problem = Problem(reason=reason, detail=CATALOGUE[reason].remedy)
        return self._respond(request, self._status(problem))

    def render_stopping(self, request: Request) -> Response:
        """Answer for a process that cannot wait for the request any longer."""
        problem = explained(pb.PROBLEM_REASON_SERVICE_STOPPING)
        return self._respond(request, self._status(problem), Connection="close")

    def _status(self, problem: Problem) -> Status:
        request_id = logs.current_call().request_id
        return to_status(problem, request_id=request_id, public_url=self._public_url)

    def _respond(self, request: Request, status: Status, **headers: str) -> Response:
        details = find_detail(status, pb.ProblemDetails)
        if details is None or not 400 <= details.status <= 599:
            # From a peer that speaks codes only, or that does not know our details.
            reason = nearest(HTTP_STATUS.get(status.code, 500))
            return self._respond(request, self._status(explained(reason)), **headers)
        info = find_detail(status, ErrorInfo) or ErrorInfo()
        logs.current_call().note(karmo_code=details.karmo_code, reason=info.reason)
        retry = find_detail(status, RetryInfo)
        if retry is not None:
            headers["Retry-After"] = str(retry.retry_delay.seconds)
        if details.status == 401:  # RFC 9110 section 15.5.2, and nowhere else
            headers["WWW-Authenticate"] = CHALLENGE
        return Response(
            MessageToJson(details, indent=None, ensure_ascii=False),
            status_code=details.status,
            media_type=media_type.choose_problem(request.headers.getlist("accept")),
            headers={"Vary": "Accept", "Content-Language": "en", **headers},
        )


class AccessLog:
    """Opens the call that records belong to, and writes the access line of each request.

    The outermost layer, it also sees to the headers that every answer has. Of a
    request it writes only what is no text of the client's.
    """

    def __init__(self, app: ASGIApp, renderer: Renderer, trusted_proxies: int) -> None:
        self._app = app
        self._renderer = renderer
        self._trusted_proxies = trusted_proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI event, which is an HTTP request or the lifespan."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        _to_origin_form(scope)
        call = _open(scope, self._trusted_proxies)
        method = scope["method"] if scope["method"] in set(HTTPMethod) else "other"

        async def send_complete(message: Message) -> None:
            if message["type"] == "http.response.start":
                call.note(status=message["status"])
                _complete(MutableHeaders(scope=message), call)
            await send(message)

        with logs.access(call, protocol="rest", method=method, peer=_peer(scope)):
            try:
                await self._answer(scope, receive, send_complete)
            except asyncio.CancelledError:
                if "status" in call.notes:
                    raise
                # uvicorn's time for calls in flight is over; it would answer in plain text.
                request = Request(scope, receive)
                await self._renderer.render_stopping(request)(scope, receive, send_complete)
            except Exception as error:  # noqa: BLE001 answered by now; its text stays here
                logs.failure("the REST application failed", error)
            finally:
                # 499, as proxies write it: the client went away before it had an answer.
                call.note(route=_route(scope), status=call.notes.get("status", 499))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused: RequestError | None = scope.get(REFUSAL)
        if refused is None:
            await self._app(scope, receive, send)
            return
        logs.current_call().note(refusal=refused.detail)  # of the front, in words of its own
        response = self._renderer.render(Request(scope), refused)
        await response(scope, receive, send)


def _to_origin_form(scope: Scope) -> None:
    """Take scheme and host off a target in absolute form (RFC 9112 section 3.2.2)."""
    found = _ABSOLUTE.fullmatch(scope.get("raw_path") or b"")
    if found:
        scope["raw_path"] = found[1] or b"/"
        scope["path"] = unquote(scope["raw_path"])


def _open(scope: Scope, trusted_proxies: int) -> logs.Call:
    """Open the call, and let the application see its identity in place of what the client sent."""
    headers = [(name, value) for name, value in scope["headers"] if name not in _IDENTITY]
    sent = {name: value.decode("latin-1") for name, value in scope["headers"] if name in _IDENTITY}
    peer = scope["client"][0] if scope.get("client") else ""
    forwarded = [value.decode("latin-1") for name, value in headers if name == b"x-forwarded-for"]
    call = logs.Call.of(
        request_id=sent.get(b"x-request-id"),
        traceparent=sent.get(b"traceparent"),
        address=client_address.find(peer, forwarded, trusted=trusted_proxies),
    )
    if call.address != peer:
        call.note(client=call.address)
    headers.append((b"x-request-id", call.request_id.encode()))
    if call.traceparent:
        headers.append((b"traceparent", call.traceparent.encode()))
    scope["headers"] = headers
    return call


def _complete(headers: MutableHeaders, call: logs.Call) -> None:
    headers["X-Request-Id"] = call.request_id
    headers["X-Content-Type-Options"] = "nosniff"
    if "Cache-Control" not in headers:  # RFC 6749 section 5.1
        headers["Cache-Control"] = "no-store"
        headers["Pragma"] = "no-cache"


def _route(scope: Scope) -> str | None:
    """Return the template of the path, or None if there is none that matches it."""
    return scope.get("transcoding.route") or getattr(scope.get("route"), "path", None) or None


def _peer(scope: Scope) -> str | None:
    return str(Address(*scope["client"])) if scope.get("client") else None


_ABSOLUTE = re.compile(rb"https?://[^/]*(.*)", re.IGNORECASE | re.DOTALL)
_IDENTITY = frozenset({b"x-request-id", b"traceparent"})
