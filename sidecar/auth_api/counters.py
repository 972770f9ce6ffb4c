"""The counters of the way to the auth-api, as one value, and the outcomes of exchanges."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from sidecar.auth_api.dns.resolver import LookUps
from sidecar.auth_api.transport.pool import ConnectionCounters

# Takes the outcome of an exchange (an Outcome, or the name of a fault), the HTTP status of the
# response if there was one, and the seconds with all tries.
Observe = Callable[[str, int | None, float], None]


class Outcome(StrEnum):
    """Outcomes of an exchange that are no faults."""

    TOKEN = ""
    # The auth-api rejected the credentials.
    REJECTED = "rejected"
    # It answered with another error, which the caller gets.
    ERROR_RESPONSE = "error_response"
    # The caller left, or its deadline passed.
    CANCELLED = "cancelled"
    # A bug of ours; the log has its type.
    FAILED = "failed"


def ignore(_outcome: str, _status: int | None, _seconds: float) -> None:
    """Observe nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """Counters of exchanges. `tries` includes second tries; `is_down` is the state of fail-fast."""

    connections: ConnectionCounters
    look_ups: LookUps
    tries: int
    second_tries: int
    is_down: bool
