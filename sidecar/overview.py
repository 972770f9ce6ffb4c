"""What the parts of a running sidecar tell of themselves: for `GET /state` and for the drain.

Each part has its own counts, as a frozen value of the moment. Here they get their names.
"""

from collections.abc import Callable

from sidecar import logs
from sidecar.exchange.service import TokenService
from sidecar.grpc_server.server import GrpcServer
from sidecar.http_server.listener import HttpListener
from sidecar.interceptors.admission import Admission
from sidecar.process.drain import Counts, Drain
from sidecar.process.sockets import Addresses
from sidecar.process.state import State
from sidecar.tls.certificates import Certificates


def of_start(
    addresses: Addresses, admission: Admission, server: GrpcServer, certificates: Certificates
) -> State:
    """Return the state of a sidecar that starts; further parts are added as they come."""
    state = State()
    state.add(
        phase=lambda: "starting",
        addresses=addresses.by_name,
        calls=lambda: admission.counts,
        grpc=lambda: server.counts,
        certificates=certificates.expiries,
        log=lambda: {"dropped": logs.dropped()},
    )
    return state


def complete(
    state: State, drain: Drain, admission: Admission, rest: HttpListener, service: TokenService
) -> None:
    """Add the parts that serve calls to `state`, and give `drain` its counts."""
    state.add(
        phase=lambda: drain.phase,
        rest=lambda: rest.counts,
        auth_api=lambda: service.auth_api.counters,
        throttle=lambda: service.throttle.counts,
    )
    drain.count = _counter(admission, rest, service)


def _counter(
    admission: Admission, rest: HttpListener, service: TokenService
) -> Callable[[], Counts]:
    def count() -> Counts:
        return Counts(
            in_flight=admission.in_flight,
            rest_connections=rest.counts.open,
            auth_api_connections=service.auth_api.counters.connections.open,
            refused=admission.counts.refused + rest.counts.refused,
        )

    return count
