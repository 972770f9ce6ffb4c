"""The progress of one request: how far it has come, for its log line and its fault."""

from collections.abc import Callable
from dataclasses import dataclass, field

from sidecar.auth_api.transport.errors import TransportError
from sidecar.call import Call, current_call
from sidecar.spans import Endpoint, TrySpan


@dataclass(slots=True, kw_only=True)
class Progress:
    """How far a request of `call` has come.

    `on_open` is called when a connection has opened, or a response came over a kept one.
    A connection reports the head outside of the context of the call.
    """

    call: Call = field(default_factory=current_call)
    on_open: Callable[[], None] = lambda: None
    is_resolved: bool = False
    is_open: bool = False
    status: int | None = None
    tries: int = 0
    span: TrySpan | None = None

    def begin_try(self, endpoint: Endpoint) -> None:
        """Start the span of a try of the request, if the call has one."""
        if self.call.span is not None:
            self.span = self.call.span.start_try(endpoint, resends=self.tries)
        self.tries += 1

    def end_try(self, fault: str | None = None) -> None:
        """End the span of the try, unless that has been done."""
        if self.span is not None:
            self.span.end(status=self.status, fault=fault)
            self.span = None

    def opened(self) -> None:
        """Record an open connection."""
        self.is_open = True
        self.on_open()

    def head(self, status: int) -> None:
        """Record the status of the response."""
        self.status = status
        self.on_open()
        self.call.note(upstream_status=status)

    def timed_out(self) -> TransportError:
        """Return the fault of a try that takes too long."""
        if self.is_open:
            return TransportError("timeout")
        return TransportError("connect_timeout" if self.is_resolved else "dns")
