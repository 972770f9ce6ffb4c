"""The public REST application: the transcoder, the problem pages, and a line for each request."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from http import HTTPMethod, HTTPStatus
from urllib.parse import unquote

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sidecar import logs
from sidecar.call import Call, current_call, entered
from sidecar.http_server.connection import REFUSAL
from sidecar.http_server.load_shedding import NOBODY
from sidecar.problems import Problem
from sidecar.rest import problem_pages
from sidecar.rest.problem_documents import Renderer
from sidecar.settings.types import Address
from sidecar.transcoding import Options, Transcoder
from sidecar.transcoding.errors import RequestError

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
) -> ASGIApp:
    """Return the application that serves `services` through `channel`, which it closes at its end.

    `public_url` is the base of the problem types. Of the client's address
    `trusted_proxies` are believed.
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

    # Not a Mount, which would take from Starlette what it answers with 405.
    app.router.default = transcoder
    # RFC 9700 section 4.12: a redirect to the path without a slash replays credentials.
    app.router.redirect_slashes = False
    return AccessLog(app, renderer, trusted_proxies)


def prepare(problem: Problem, public_url: str) -> bytes:
    """Return the response that `problem` is, as it is sent, with NOBODY for the request id."""
    request = Request({"type": "http", "headers": []})
    call = Call(request_id=NOBODY)
    with entered(call):
        response = Renderer(public_url).render_problem(request, problem)
    _complete(response.headers, call)
    fields = b"".join(b"%s: %s\r\n" % pair for pair in response.raw_headers)
    reason = HTTPStatus(response.status_code).phrase
    line = f"HTTP/1.1 {response.status_code} {reason}\r\n".encode()
    return line + fields + b"\r\n" + bytes(response.body)


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
        current_call().note(refusal=refused.detail)  # of the front, in words of its own
        response = self._renderer.render(Request(scope), refused)
        await response(scope, receive, send)


def _to_origin_form(scope: Scope) -> None:
    """Take scheme and host off a target in absolute form (RFC 9112 section 3.2.2)."""
    found = _ABSOLUTE.fullmatch(scope.get("raw_path") or b"")
    if found:
        scope["raw_path"] = found[1] or b"/"
        scope["path"] = unquote(scope["raw_path"])


def _open(scope: Scope, trusted_proxies: int) -> Call:
    """Return the call that a request begins, and put its identity into the headers of `scope`.

    The application sees it in place of what the client sent.
    """
    fields = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
    peer = scope["client"][0] if scope.get("client") else ""
    call = Call.received(fields, peer, trusted_proxies=trusted_proxies)
    headers = [(name, value) for name, value in scope["headers"] if name not in _IDENTITY]
    headers.append((b"x-request-id", call.request_id.encode()))
    if call.traceparent:
        headers.append((b"traceparent", call.traceparent.encode()))
    scope["headers"] = headers
    return call


def _complete(headers: MutableHeaders, call: Call) -> None:
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
