"""The spans of a call, with names and attributes of OpenTelemetry's semantic conventions.

No attribute holds text of a caller: no URL, no header field, no address, no identifier.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from opentelemetry.trace import Span as ApiSpan
from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace import Tracer as ApiTracer

from sidecar.call import UNMATCHED
from sidecar.spans import Endpoint, Notes, Span, TrySpan
from sidecar.telemetry.tracing import trace_context

_OTHER = "_OTHER"  # the conventions' value for an unknown method
_HEALTH = "/grpc.health.v1.Health/"
# The codes that are errors of a server. The others say that the call was wrong.
_SERVER_ERRORS = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)


class OtelTracer:
    """Starts server spans by `tracer`. Parents are passed on explicitly."""

    def __init__(self, tracer: ApiTracer) -> None:
        self._tracer = tracer

    def start_http(
        self, traceparent: str | None, tracestate: str | None, *, method: str, scheme: str
    ) -> Span:
        """Start the span of an HTTP request."""
        known = _OTHER if method == "other" else method
        span = self._tracer.start_span(
            _name_of(method),
            trace_context.read(traceparent, tracestate),
            SpanKind.SERVER,
            {"http.request.method": known, "url.scheme": scheme},
        )
        return _HttpSpan(self._tracer, span) if span.is_recording() else _Unsampled(span)

    def start_grpc(
        self, traceparent: str | None, tracestate: str | None, *, method: str
    ) -> Span | None:
        """Start the span of a gRPC call; None for a health check, of which there are many."""
        if method.startswith(_HEALTH):
            return None
        known = _OTHER if method == "unknown" else method.removeprefix("/")
        span = self._tracer.start_span(
            "grpc" if known is _OTHER else known,
            trace_context.read(traceparent, tracestate),
            SpanKind.SERVER,
            {"rpc.system.name": "grpc", "rpc.method": known},
        )
        return _RpcSpan(self._tracer, span) if span.is_recording() else _Unsampled(span)


def _name_of(method: str) -> str:
    """Return the method as the name of a span has it."""
    return "HTTP" if method == "other" else method


class _Identity:
    """The ids of a span."""

    def __init__(self, span: ApiSpan) -> None:
        self._span = span

    @property
    def trace_id(self) -> str:
        """The id of the trace."""
        return f"{self._span.get_span_context().trace_id:032x}"

    @property
    def headers(self) -> Mapping[str, str]:
        """The header fields that make it the parent."""
        return trace_context.write(self._span.get_span_context())


class _Unsampled(_Identity):
    """A call that is not exported. It is its own RPC and try, since no span is recorded."""

    def start_rpc(self, _method: str) -> Span:
        """Return the call itself."""
        return self

    def start_try(self, _endpoint: Endpoint, *, resends: int) -> TrySpan:  # noqa: ARG002 there is no span
        """Return the call itself, whose context says that it is not sampled."""
        return self

    def end(self, *_: object, **__: object) -> None:
        """Do nothing."""


class _Span(_Identity):
    """A recorded span that can have others below it."""

    def __init__(self, tracer: ApiTracer, span: ApiSpan) -> None:
        super().__init__(span)
        self._tracer = tracer

    def start_rpc(self, method: str) -> "_RpcSpan":
        """Start the span of a call inside the process."""
        name = method.removeprefix("/")
        attributes = {"rpc.system.name": "grpc", "rpc.method": name}
        return _RpcSpan(self._tracer, self._start(name, SpanKind.INTERNAL, attributes))

    def start_try(self, endpoint: Endpoint, *, resends: int) -> "_TrySpan":
        """Start the client span of one try."""
        attributes = {
            "http.request.method": "POST",
            "server.address": endpoint.host,
            "server.port": endpoint.port,
            "url.full": endpoint.url,
        }
        if resends:
            attributes["http.request.resend_count"] = resends
        return _TrySpan(self._start("POST", SpanKind.CLIENT, attributes))

    def _start(self, name: str, kind: SpanKind, attributes: Mapping[str, Any]) -> ApiSpan:
        below = set_span_in_context(self._span, trace_context.ROOT)
        return self._tracer.start_span(name, below, kind, attributes)

    def _end(self, attributes: dict[str, Any], notes: Notes, *, error: str | None) -> None:
        """End the span, as failed if there is an `error`, whose better name is the reason."""
        reason = notes.get("reason")
        if reason is not None:
            attributes["karmo.reason"] = reason
        if error is not None:
            attributes["error.type"] = reason or error
            self._span.set_status(StatusCode.ERROR)
        self._span.set_attributes(attributes)
        self._span.end()


class _HttpSpan(_Span):
    """The server span of an HTTP request."""

    def end(self, notes: Notes) -> None:
        """End it with the status and the route. A stream that failed in band is an error too."""
        status = int(notes["status"] or 0)
        attributes: dict[str, Any] = {"http.response.status_code": status}
        route = notes.get("route")
        if route and route != UNMATCHED:
            self._span.update_name(f"{_name_of(str(notes['method']))} {route}")
            attributes["http.route"] = route
        is_error = status >= HTTPStatus.INTERNAL_SERVER_ERROR
        # Only a stream that has begun has a code: it may fail after its status was sent.
        code = str(notes.get("code"))
        error = code if code in _SERVER_ERRORS else None
        self._end(attributes, notes, error=str(status) if is_error else error)


class _RpcSpan(_Span):
    """The span of an RPC: of the gRPC server, or inside the process."""

    def end(self, notes: Notes) -> None:
        """End it with the code."""
        code = str(notes["code"])
        attributes: dict[str, Any] = {"rpc.response.status_code": code}
        self._end(attributes, notes, error=code if code in _SERVER_ERRORS else None)


class _TrySpan(_Identity):
    """The client span of one try."""

    def end(self, *, status: int | None, fault: str | None) -> None:
        """End it. Without status and fault the caller went away."""
        if status is not None:
            self._span.set_attribute("http.response.status_code", status)
            if status >= HTTPStatus.BAD_REQUEST:
                fault = fault or str(status)
        elif fault is None:
            fault = "cancelled"
        if fault is not None:
            self._span.set_attribute("error.type", fault)
            self._span.set_status(StatusCode.ERROR)
        self._span.end()
