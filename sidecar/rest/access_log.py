"""The access log of REST: one line for each request, and the headers of every response."""

import asyncio
import re
from collections.abc import Collection
from functools import lru_cache
from http import HTTPMethod
from typing import TypeAlias
from urllib.parse import unquote

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sidecar import logs
from sidecar.call import UNMATCHED, Call, current_call
from sidecar.http_server.http1.refusal import REFUSAL
from sidecar.rest.problem_documents import Renderer
from sidecar.settings.types import Address
from sidecar.spans import Tracer
from sidecar.transcoding.errors import RequestError

# A header field as in ASGI: its name is in lower case.
Field: TypeAlias = tuple[bytes, bytes]


class AccessLog:
    """Enters the call of each request, writes its access line, and completes the headers.

    It is the outermost layer of the application. The line holds no text of the client.
    With `tracer` a request has a span. `observe` gets the values of each line.
    """

    def __init__(
        self,
        app: ASGIApp,
        renderer: Renderer,
        trusted_proxies: int,
        *,
        tracer: Tracer | None = None,
        observe: logs.Observe | None = None,
    ) -> None:
        self._app = app
        self._renderer = renderer
        self._trusted_proxies = trusted_proxies
        self._tracer = tracer
        self._observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI event, which is an HTTP request or the lifespan."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        _to_origin_form(scope)
        call = _open(scope, self._trusted_proxies)
        method = scope["method"] if scope["method"] in _METHODS else "other"
        if self._tracer is not None:
            span = self._tracer.start_http(
                call.traceparent, call.tracestate, method=method, scheme=scope["scheme"]
            )
            call = call.within(span)

        async def send_complete(message: Message) -> None:
            if message["type"] == "http.response.start":
                call.note(status=message["status"])
                message["headers"] = complete_headers(message["headers"], call)
            await send(message)

        with logs.access(call, self._observe, protocol="rest", method=method, peer=_peer(scope)):
            try:
                await self._answer(scope, receive, send_complete)
            except asyncio.CancelledError:
                if "status" in call.notes:
                    raise
                # The grace period of the listener is over. Its own response would have no document.
                request = Request(scope, receive)
                await self._renderer.render_stopping(request)(scope, receive, send_complete)
            except Exception as error:  # noqa: BLE001 its text must not leave the process
                logs.failure("the REST application failed", error)
            finally:
                # 499, as proxies write it: the client went away before the response.
                call.note(route=_route(scope), status=call.notes.get("status", 499))
                if "transcoding.messages" in scope:  # a stream has begun
                    messages, code = scope["transcoding.messages"], scope["transcoding.code"]
                    call.note(messages=messages, code=code)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused: RequestError | None = scope.get(REFUSAL)
        if refused is None:
            await self._app(scope, receive, send)
            return
        current_call().note(refusal=refused.detail)  # the listener's own text
        response = self._renderer.render(Request(scope), refused)
        await response(scope, receive, send)


def _to_origin_form(scope: Scope) -> None:
    """Remove scheme and host from a target in absolute form (RFC 9112 section 3.2.2)."""
    match = _ABSOLUTE.fullmatch(scope.get("raw_path") or b"")
    if match:
        scope["raw_path"] = match[1] or b"/"
        scope["path"] = unquote(scope["raw_path"])


def _open(scope: Scope, trusted_proxies: int) -> Call:
    """Return the call that a request begins; replace the identity fields in `scope` by its own."""
    fields = (
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in scope["headers"]
        if name in _CALL_FIELDS
    )
    peer = scope["client"][0] if scope.get("client") else ""
    call = Call.received(fields, peer, trusted_proxies=trusted_proxies)
    headers = [(name, value) for name, value in scope["headers"] if name not in _IDENTITY]
    headers.append((b"x-request-id", call.request_id.encode()))
    if call.traceparent:
        headers.append((b"traceparent", call.traceparent.encode()))
    scope["headers"] = headers
    return call


def complete_headers(headers: Collection[Field], call: Call) -> list[Field]:
    """Return the header fields of a response with those that every response has."""
    added = [(b"x-request-id", call.request_id.encode()), _NOSNIFF]
    if not any(name == b"cache-control" for name, _ in headers):  # RFC 6749 section 5.1
        added += _NO_STORE
    replaced = {name for name, _ in added}
    return [field for field in headers if field[0] not in replaced] + added


def _route(scope: Scope) -> str:
    """Return the template that the path matches, whatever the method, or UNMATCHED."""
    route = scope.get("transcoding.route") or getattr(scope.get("route"), "path", None)
    return route or UNMATCHED


def _peer(scope: Scope) -> str | None:
    """Return the IP address and port of the client, or the name of one without a port."""
    if not scope.get("client"):
        return None
    host, port = scope["client"]
    return _format_address(host, port) if port else host


@lru_cache(maxsize=1024)  # a connection has many requests
def _format_address(host: str, port: int) -> str:
    return str(Address(host, port))


_METHODS = frozenset(HTTPMethod)
_NOSNIFF = (b"x-content-type-options", b"nosniff")
_NO_STORE = ((b"cache-control", b"no-store"), (b"pragma", b"no-cache"))
_ABSOLUTE = re.compile(rb"https?://[^/]*(.*)", re.IGNORECASE | re.DOTALL)
_IDENTITY = frozenset({b"x-request-id", b"traceparent"})
_CALL_FIELDS = _IDENTITY | {b"tracestate", b"x-forwarded-for"}
