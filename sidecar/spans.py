"""The interface of spans: the steps of a trace that a call is recorded as.

Without tracing there is no tracer, and a call has no span. `sidecar.telemetry.tracing` implements
this.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

Notes = Mapping[str, str | int | float | bool | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """What the span of a try says of the server: host, port, and URL without its query."""

    host: str
    port: int
    url: str

    @classmethod
    def of(cls, url: str) -> "Endpoint":
        """Return the endpoint at `url`, which is an absolute http or https URL."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        place = parts.netloc.rpartition("@")[2]
        return cls(host=host, port=port, url=f"{parts.scheme}://{place}{parts.path}")


class TrySpan(Protocol):
    """The span of one try of a request to another server."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The header fields (W3C Trace Context) that make this span the parent."""

    def end(self, *, status: int | None, fault: str | None) -> None:
        """End the span: `status` is that of the response, `fault` names what failed."""


class Span(Protocol):
    """The span of a call."""

    @property
    def trace_id(self) -> str:
        """The id of the trace: 32 hexadecimal digits."""

    def start_rpc(self, method: str) -> "Span":
        """Start the span of the RPC `method`, as gRPC writes its path, below this one.

        Returns this span if the trace is not sampled.
        """

    def start_try(self, endpoint: Endpoint, *, resends: int) -> TrySpan:
        """Start the span of a try below this one. `resends` is the number of earlier tries."""

    def end(self, notes: Notes) -> None:
        """End the span. `notes` are those of the access line."""


class Tracer(Protocol):
    """Starts the span of each call that a listener receives.

    `traceparent` (valid) and `tracestate` (unchecked) are the caller's header fields.
    """

    def start_http(
        self, traceparent: str | None, tracestate: str | None, *, method: str, scheme: str
    ) -> Span:
        """Start the span of an HTTP request. `method` is a standard method or `other`."""

    def start_grpc(
        self, traceparent: str | None, tracestate: str | None, *, method: str
    ) -> Span | None:
        """Start the span of a gRPC call, but not of a health check.

        `method` is the path of a served method, or `unknown`.
        """
