"""The counts of all parts, as readings of metrics. Nothing is counted here."""

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import version
from typing import TypeVar, get_args

from sidecar.auth_api.client import AuthApiCounts
from sidecar.auth_api.transport.connection import CloseReason
from sidecar.exchange.limit import Limit
from sidecar.exchange.shared_counts.sharing import Outcome
from sidecar.http_server.counts import Drop, ListenerCounts, Refusal
from sidecar.log_writer import DropCause
from sidecar.process.drain import Phase
from sidecar.telemetry.counts import Counts
from sidecar.telemetry.metrics.families import Reading
from sidecar.tls.expiry import Expiry

K = TypeVar("K", bound=str)
_PREFIX = "karmo_sidecar_"


def readings_of(counts: Counts) -> Iterator[Reading]:
    """Yield the readings of `counts`."""
    yield Reading(f"{_PREFIX}build_info", 1, _release())
    for phase in Phase:
        yield Reading(f"{_PREFIX}phase", phase == counts.phase, (phase,))
    yield Reading(f"{_PREFIX}calls_in_flight", counts.calls.in_flight)
    yield Reading(f"{_PREFIX}calls_in_flight_limit", counts.calls.limit)
    yield Reading(f"{_PREFIX}streams_open", counts.calls.streams)
    yield Reading(f"{_PREFIX}streams_limit", counts.calls.streams_limit)
    for name, listener in counts.http.items():
        yield from _of_listener(name, listener)
    if counts.throttle is not None:
        yield from _by(f"{_PREFIX}throttled_total", counts.throttle.refused, Limit)
    if counts.sharing is not None:
        yield from _by(f"{_PREFIX}shared_counts_total", counts.sharing.outcomes, Outcome)
        yield Reading(f"{_PREFIX}shared_counts_failing", counts.sharing.fault is not None)
    if counts.auth_api is not None:
        yield from _of_auth_api(counts.auth_api)
    yield from _of_certificates(counts.certificates)
    yield from _by(f"{_PREFIX}log_lines_dropped_total", counts.log_lines_dropped, DropCause)


@cache
def _release() -> tuple[str, str]:
    return version("karmo-sidecar"), version("grpcio")


def _of_listener(name: str, counts: ListenerCounts) -> Iterator[Reading]:
    yield Reading(f"{_PREFIX}connections_open", counts.open, (name,))
    yield Reading(f"{_PREFIX}connections_idle", counts.idle, (name,))
    yield from _by(f"{_PREFIX}connections_dropped_total", counts.dropped, Drop, name)
    yield from _by(f"{_PREFIX}requests_refused_total", counts.refused, Refusal, name)
    if name == "rest":  # the others have no load shedding
        yield Reading(f"{_PREFIX}requests_shed_total", counts.shed)


def _of_auth_api(counts: AuthApiCounts) -> Iterator[Reading]:
    prefix, connections, look_ups = f"{_PREFIX}auth_api_", counts.connections, counts.look_ups
    yield Reading(f"{prefix}down", counts.is_down)
    yield Reading(f"{prefix}tries_total", counts.tries)
    yield Reading(f"{prefix}second_tries_total", counts.second_tries)
    yield Reading(f"{prefix}resent_total", connections.resent)
    for name in ("open", "idle"):
        yield Reading(f"{prefix}connections_{name}", getattr(connections, name))
    for name in ("opened", "reused"):
        yield Reading(f"{prefix}connections_{name}_total", getattr(connections, name))
    closed = connections.closed
    yield from _by(f"{prefix}connections_closed_total", closed, get_args(CloseReason))
    for name in ("started", "finished", "failed"):
        yield Reading(f"{_PREFIX}dns_look_ups_{name}_total", getattr(look_ups, name))
    yield Reading(f"{_PREFIX}dns_look_up_seconds_total", look_ups.seconds)
    yield Reading(f"{_PREFIX}dns_look_ups_hung", look_ups.hung)
    yield Reading(f"{_PREFIX}dns_failing", look_ups.is_failing)


def _of_certificates(expiries: Iterable[Expiry]) -> Iterator[Reading]:
    # One file may have both the certificate and the CA, but a series must be there only once.
    ends = {(expiry.listener, expiry.file): expiry.not_after for expiry in expiries}
    for labels, end in ends.items():
        if end is not None:
            name = f"{_PREFIX}certificate_not_after_timestamp_seconds"
            yield Reading(name, end.timestamp(), labels)


def _by(name: str, counts: Mapping[K, int], keys: Iterable[K], *labels: str) -> Iterator[Reading]:
    """Yield a reading for each of `keys`, 0 for one that was not counted yet.

    A counter that begins with 1 would show no increase.
    """
    for key in keys:
        yield Reading(name, counts.get(key, 0), (*labels, key))
