"""Upstream faults: the closed list of names that `upstream_fault` has in the log.

docs/operations.md has a row for each name: what it means and what to do.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from karmo.problem.v1 import problem_details_pb2 as pb

from sidecar.auth_api.transport.errors import TransportError
from sidecar.call import current_call
from sidecar.problems import Problem, Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One kind of failure on the way to the auth-api.

    `reason` is the problem that the caller gets. `is_down`: whether the auth-api could not be
    reached, which counts for fail-fast. A local cause never does.
    """

    reason: Reason
    is_down: bool = False


class UpstreamError(TransportError):
    """An exchange failed with the fault `name`, a key of `FAULTS`. `retry_after` is in seconds."""

    def __init__(
        self, name: str, detail: str | None = None, *, retry_after: int | None = None
    ) -> None:
        super().__init__(name, detail)
        self.retry_after = retry_after

    @classmethod
    def of(cls, error: TransportError) -> "UpstreamError":
        """Return `error`, of the transport, as one of this class."""
        return error if isinstance(error, cls) else cls(error.name, error.detail)

    @property
    def fault(self) -> Fault:
        """The fault."""
        return FAULTS[self.name]


_UNAVAILABLE = pb.PROBLEM_REASON_UPSTREAM_UNAVAILABLE
_TIMEOUT = pb.PROBLEM_REASON_UPSTREAM_TIMEOUT
_LOST = pb.PROBLEM_REASON_UPSTREAM_CONNECTION_LOST
_BAD = pb.PROBLEM_REASON_UPSTREAM_BAD_ANSWER

FAULTS: Mapping[str, Fault] = MappingProxyType(
    {
        # Before a connection
        "fail_fast": Fault(reason=_UNAVAILABLE),
        "dns": Fault(reason=_UNAVAILABLE),
        "local": Fault(reason=_UNAVAILABLE),
        "refused": Fault(reason=_UNAVAILABLE, is_down=True),
        "unreachable": Fault(reason=_UNAVAILABLE, is_down=True),
        "connect_timeout": Fault(reason=_TIMEOUT, is_down=True),
        "tls": Fault(reason=_LOST, is_down=True),
        # On a connection
        "timeout": Fault(reason=_TIMEOUT),
        "closed": Fault(reason=_LOST),
        "bad_http": Fault(reason=_LOST),
        # In a response
        "too_large": Fault(reason=_BAD),
        "content_encoding": Fault(reason=_BAD),
        "bad_status": Fault(reason=_BAD),
        "bad_error": Fault(reason=_BAD),
        "bad_media_type": Fault(reason=_BAD),
        "bad_json": Fault(reason=_BAD),
        "bad_token": Fault(reason=_BAD),
    }
)


def problem_of(error: UpstreamError) -> Problem:
    """Return the problem for the caller, and note the fault, which is only for the log."""
    call = current_call()
    call.note(upstream_fault=error.name)
    if error.detail is not None:
        call.note(upstream_detail=error.detail)
    return Problem(reason=error.fault.reason, retry_after=error.retry_after)
