"""The current call: its request id, the address of its client, and its access line."""

import re
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass, field, replace

from sidecar import client_address
from sidecar.spans import Span

# RFC 9562 section 4, any version; match it case-insensitively.
UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_UUID = re.compile(UUID, re.IGNORECASE)
# Version 00 of https://www.w3.org/TR/trace-context/#traceparent-header
_TRACEPARENT = re.compile("00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

Note = str | int | float | bool | None
# The note `route` of a request whose path no template matches.
UNMATCHED = "unmatched"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call: its identity, and the named values of its access line.

    The outermost layer of each protocol creates it. All code below sees the same call, in
    the same task and in tasks that were started from it.
    """

    request_id: str
    traceparent: str | None = None
    # As the caller sent it, unchecked. It goes nowhere without a span.
    tracestate: str | None = None
    # None if tracing is off.
    span: Span | None = None
    # The IP address of the client, which may differ from that of the connection.
    address: str = ""
    notes: dict[str, Note] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        *,
        request_id: str | None,
        traceparent: str | None,
        tracestate: str | None = None,
        address: str = "",
    ) -> "Call":
        """Return a call for the values that a caller sent.

        A `request_id` that is not a UUID is replaced by a new one. An invalid `traceparent`
        (W3C Trace Context) is dropped.
        """
        valid_id = request_id if request_id and _UUID.fullmatch(request_id) else str(uuid.uuid4())
        valid_trace = traceparent if traceparent and _TRACEPARENT.fullmatch(traceparent) else None
        return cls(
            request_id=valid_id, traceparent=valid_trace, tracestate=tracestate, address=address
        )

    @classmethod
    def received(
        cls, fields: Iterable[tuple[str, str]], peer: str, *, trusted_proxies: int
    ) -> "Call":
        """Return the call that a request with these header `fields` begins.

        `fields` are header fields or metadata, with names in lower case. `peer` is the IP
        address of the connection. Of X-Forwarded-For the last `trusted_proxies` are believed.
        """
        pairs = list(fields)
        values = dict(pairs)
        forwarded = [value for name, value in pairs if name == "x-forwarded-for"]
        call = cls.of(
            request_id=values.get("x-request-id"),
            traceparent=values.get("traceparent"),
            tracestate=_joined(pairs, "tracestate") if "tracestate" in values else None,
            address=client_address.find(peer, forwarded, trusted=trusted_proxies),
        )
        if call.address != peer:
            call.note(client_address=call.address)
        return call

    @property
    def trace_id(self) -> str | None:
        """The id of the trace, from the span or else from a valid `traceparent`."""
        if self.span is not None:
            return self.span.trace_id
        return self.traceparent.split("-")[1] if self.traceparent else None

    def within(self, span: Span | None) -> "Call":
        """Return this call, with the same notes, inside `span`."""
        return replace(self, span=span)

    def note(self, **notes: Note) -> None:
        """Add named values to the access line. Never add a value that a caller sent."""
        self.notes.update(notes)


def _joined(pairs: Iterable[tuple[str, str]], name: str) -> str:
    """Return the value of a list field that may be in several lines (RFC 9110 section 5.3)."""
    return ",".join(value for key, value in pairs if key == name)


_call: ContextVar[Call] = ContextVar("call")


def find_call() -> Call | None:
    """Return the current call, or None outside of one."""
    return _call.get(None)


def current_call() -> Call:
    """Return the current call; outside of one, a new call whose notes are never logged."""
    return _call.get(None) or Call.of(request_id=None, traceparent=None)


def enter(call: Call) -> Token[Call]:
    """Make `call` the current call, until `leave` with the result."""
    return _call.set(call)


def leave(token: Token[Call]) -> None:
    """Make the call that was current before `enter` the current one again."""
    _call.reset(token)


@contextmanager
def entered(call: Call) -> Iterator[Call]:
    """Make `call` the current call inside the context."""
    token = enter(call)
    try:
        yield call
    finally:
        leave(token)
