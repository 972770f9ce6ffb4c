"""The counters of the way to the auth-api, as one value."""

from dataclasses import dataclass

from sidecar.auth_api.dns.resolver import LookUps
from sidecar.auth_api.transport.pool import ConnectionCounters


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """Counters of exchanges. `tries` includes second tries; `is_down` is the state of fail-fast."""

    connections: ConnectionCounters
    look_ups: LookUps
    tries: int
    second_tries: int
    is_down: bool
