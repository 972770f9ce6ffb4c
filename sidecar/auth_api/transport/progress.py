"""The progress of one request: how far it has come, for its log line and its fault."""

from collections.abc import Callable
from dataclasses import dataclass, field

from sidecar.auth_api.transport.errors import TransportError
from sidecar.call import Call, current_call


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
