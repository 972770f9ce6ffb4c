"""What the parts of the sidecar count, as readings. Nothing is counted here.

Each function returns a source, which is called in the event loop for each scrape.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import version
from typing import TypeAlias, TypeVar, get_args

from sidecar import logs
from sidecar.auth_api.client import AuthApi
from sidecar.auth_api.transport.connection import CloseReason
from sidecar.exchange.throttle import Limit, Throttle
from sidecar.http_server.counters import Drop, Refusal
from sidecar.http_server.listener import HttpListener
from sidecar.interceptors.admission import Admission
from sidecar.metrics.families import Reading
from sidecar.process.drain import Drain, Phase
from sidecar.tls.certificates import Certificates

Source: TypeAlias = Callable[[], Iterator[Reading]]
K = TypeVar("K", bound=str)
_PREFIX = "karmo_sidecar_"


def of_process(drain: Drain, admission: Admission, certificates: Certificates) -> Source:
    """Return a source of what is one for the whole process."""
    release = (version("karmo-sidecar"), version("grpcio"))

    def read() -> Iterator[Reading]:
        yield Reading(f"{_PREFIX}build_info", 1, release)
        for phase in Phase:
            yield Reading(f"{_PREFIX}drain_phase", phase == drain.phase, (phase,))
        yield Reading(f"{_PREFIX}calls_in_flight", admission.in_flight)
        yield Reading(f"{_PREFIX}calls_in_flight_limit", admission.limit)
        yield Reading(f"{_PREFIX}log_lines_dropped_total", logs.dropped_lines())
        for part in certificates.parts:
            if part.not_after is not None:
                name = f"{_PREFIX}certificate_not_after_timestamp_seconds"
                yield Reading(name, part.not_after, (part.name,))

    return read


def of_listener(name: str, listener: HttpListener, *, sheds: bool = False) -> Source:
    """Return a source of one HTTP listener; `sheds` says whether it has load shedding."""

    def read() -> Iterator[Reading]:
        counters = listener.counters
        yield Reading(f"{_PREFIX}connections_open", counters.open, (name,))
        yield Reading(f"{_PREFIX}connections_idle", counters.idle, (name,))
        yield from _by(f"{_PREFIX}connections_dropped_total", counters.dropped, Drop, name)
        yield from _by(f"{_PREFIX}requests_refused_total", counters.refused, Refusal, name)
        if sheds:
            yield Reading(f"{_PREFIX}requests_shed_total", counters.shed)

    return read


def of_throttle(throttle: Throttle) -> Source:
    """Return a source of the throttle."""
    return lambda: _by(f"{_PREFIX}throttled_total", throttle.refused, Limit)


def of_auth_api(auth_api: AuthApi) -> Source:
    """Return a source of the way to the auth-api."""

    def read() -> Iterator[Reading]:
        prefix, counters = f"{_PREFIX}auth_api_", auth_api.counters
        connections = counters.connections
        yield Reading(f"{prefix}down", counters.is_down)
        yield Reading(f"{prefix}tries_total", counters.tries)
        yield Reading(f"{prefix}second_tries_total", counters.second_tries)
        yield Reading(f"{prefix}resent_total", connections.resent)
        for name in ("open", "idle"):
            yield Reading(f"{prefix}connections_{name}", getattr(connections, name))
        for name in ("opened", "reused"):
            yield Reading(f"{prefix}connections_{name}_total", getattr(connections, name))
        closed = connections.closed
        yield from _by(f"{prefix}connections_closed_total", closed, get_args(CloseReason))
        for name in ("started", "finished", "failed"):
            count = getattr(counters.look_ups, name)
            yield Reading(f"{_PREFIX}dns_look_ups_{name}_total", count)
        yield Reading(f"{_PREFIX}dns_look_up_seconds_total", counters.look_ups.seconds)
        yield Reading(f"{_PREFIX}dns_look_ups_hung", counters.look_ups.hung)

    return read


def _by(name: str, counts: Mapping[K, int], keys: Iterable[K], *labels: str) -> Iterator[Reading]:
    """Yield a reading for each of `keys`, 0 for one that was not counted yet.

    A counter that begins with 1 would show no increase.
    """
    for key in keys:
        yield Reading(name, counts.get(key, 0), (*labels, key))
