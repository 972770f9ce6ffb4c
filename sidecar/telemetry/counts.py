"""The counts of all parts of a running sidecar, as one frozen value.

Each part counts for itself. `GET /state`, `GET /metrics` and the log lines of the shutdown read
the same value.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sidecar import logs
from sidecar.auth_api.client import AuthApiCounts
from sidecar.exchange.service import TokenService
from sidecar.exchange.shared_counts.sharing import Sharing, SharingCounts
from sidecar.exchange.throttle import ThrottleCounts
from sidecar.grpc_server.server import GrpcCounts, GrpcServer
from sidecar.http_server.counts import ListenerCounts
from sidecar.http_server.listener import HttpListener
from sidecar.interceptors.admission import Admission, AdmissionCounts
from sidecar.process.drain import Drain, DrainCounts, Phase
from sidecar.tls.certificates import Certificates
from sidecar.tls.expiry import Expiry


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """The counts of all parts at one moment. None stands for a part that does not exist yet.

    `sharing` is None also if wrong secrets are not shared with other replicas.
    `http` has those of the HTTP listeners by name: rest, admin and, in `dev`, dev_auth_api.
    `log_lines_dropped` counts since the start of the process.
    """

    phase: Phase
    calls: AdmissionCounts
    http: Mapping[str, ListenerCounts]
    grpc: GrpcCounts
    auth_api: AuthApiCounts | None
    throttle: ThrottleCounts | None
    sharing: SharingCounts | None
    certificates: tuple[Expiry, ...]
    log_lines_dropped: int


@dataclass(slots=True, kw_only=True)
class Parts:
    """The parts that count. `http`, `service` and `sharing` are filled in at the start."""

    drain: Drain
    admission: Admission
    server: GrpcServer
    certificates: Certificates
    http: dict[str, HttpListener] = field(default_factory=dict)
    service: TokenService | None = None
    sharing: Sharing | None = None

    def counts(self) -> Counts:
        """Return the counts of now."""
        return Counts(
            phase=self.drain.phase,
            calls=self.admission.counts,
            http={name: listener.counts for name, listener in self.http.items()},
            grpc=self.server.counts,
            auth_api=self.service.auth_api.counts if self.service else None,
            throttle=self.service.throttle.counts if self.service else None,
            sharing=self.sharing.counts if self.sharing else None,
            certificates=tuple(self.certificates.expiries()),
            log_lines_dropped=logs.dropped_lines(),
        )


def counts_for_drain(counts: Counts) -> DrainCounts:
    """Return what the log lines of the shutdown have of `counts`."""
    rest = counts.http.get("rest")
    return DrainCounts(
        in_flight=counts.calls.in_flight,
        rest_connections=rest.open if rest else 0,
        auth_api_connections=counts.auth_api.connections.open if counts.auth_api else 0,
        refused=counts.calls.refused + (rest.shed if rest else 0),
    )
