"""W3C Trace Context (level 1) as contexts of OpenTelemetry, and back."""

import re

from opentelemetry.context import Context
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

ROOT = Context()  # without a parent; None would mean "the current one"
_KEY = r"[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13}"
_VALUE = r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
_MEMBER = re.compile(f"({_KEY})=({_VALUE})")
_MAX_MEMBERS = 32


def read(traceparent: str | None, tracestate: str | None) -> Context:
    """Return the context of the caller's span, or a root.

    `traceparent` is valid. A `tracestate` that is not valid is dropped as a whole.
    """
    if traceparent is None:
        return ROOT
    _, trace_id, span_id, flags = traceparent.split("-")
    caller = SpanContext(
        int(trace_id, 16),
        int(span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(int(flags, 16)),
        trace_state=_read_state(tracestate) if tracestate else None,
    )
    return set_span_in_context(NonRecordingSpan(caller), ROOT)


def write(context: SpanContext) -> dict[str, str]:
    """Return the header fields that make the span of `context` the parent."""
    flags = f"{context.trace_flags:02x}"
    headers = {"traceparent": f"00-{context.trace_id:032x}-{context.span_id:016x}-{flags}"}
    if context.trace_state:
        headers["tracestate"] = context.trace_state.to_header()
    return headers


def _read_state(tracestate: str) -> TraceState | None:
    """Return the valid state, or None. OpenTelemetry's own reader logs each fault."""
    members = [member for part in tracestate.split(",") if (member := part.strip(" \t"))]
    matches = [match for member in members if (match := _MEMBER.fullmatch(member))]
    entries = [(match[1], match[2]) for match in matches]
    is_valid = len(matches) == len(members) <= _MAX_MEMBERS
    return TraceState(entries) if is_valid and len(dict(entries)) == len(entries) else None
