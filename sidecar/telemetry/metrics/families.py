"""The metrics that are read for each scrape: their names, types, labels and texts."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A metric: its type, its text, and the names of its labels."""

    type: Literal["counter", "gauge"]
    help: str
    labels: tuple[str, ...] = ()


class Reading(NamedTuple):
    """A value of the metric `name` with the values of its labels."""

    name: str
    value: float
    labels: tuple[str, ...] = ()


def _gauge(text: str, *labels: str) -> Family:
    return Family(type="gauge", help=text, labels=labels)


def _counter(text: str, *labels: str) -> Family:
    return Family(type="counter", help=text, labels=labels)


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "karmo_sidecar_build_info": _gauge("The release that runs. Always 1.", "version", "grpcio"),
        "karmo_sidecar_phase": _gauge("1 for the phase of the process, else 0.", "phase"),
        "karmo_sidecar_calls_in_flight": _gauge("Calls in flight, of both protocols."),
        "karmo_sidecar_calls_in_flight_limit": _gauge("The limit of calls in flight."),
        "karmo_sidecar_streams_open": _gauge("Open streams of services, of both protocols."),
        "karmo_sidecar_streams_limit": _gauge("The limit of open streams."),
        "karmo_sidecar_connections_open": _gauge("Open connections.", "listener"),
        "karmo_sidecar_connections_idle": _gauge(
            "Open connections that wait for their clients.", "listener"
        ),
        "karmo_sidecar_connections_dropped_total": _counter(
            "Connections ended for a new one, or because their clients do not read.",
            "listener",
            "reason",
        ),
        "karmo_sidecar_requests_refused_total": _counter(
            "Requests refused before they were calls.", "listener", "reason"
        ),
        "karmo_sidecar_requests_shed_total": _counter(
            "REST requests beyond the limit of calls in flight, answered unread."
        ),
        "karmo_sidecar_throttled_total": _counter(
            "Exchanges refused by the throttle of wrong secrets and frequent calls.", "limit"
        ),
        "karmo_sidecar_shared_counts_total": _counter(
            "Counts of wrong secrets for all replicas, by what became of them.", "outcome"
        ),
        "karmo_sidecar_shared_counts_failing": _gauge(
            "1 while wrong secrets cannot be shared with other replicas, else 0."
        ),
        "karmo_sidecar_auth_api_down": _gauge("1 while calls fail at once, else 0."),
        "karmo_sidecar_auth_api_tries_total": _counter("Tries of exchanges, the second included."),
        "karmo_sidecar_auth_api_second_tries_total": _counter("Second tries of exchanges."),
        "karmo_sidecar_auth_api_resent_total": _counter(
            "Requests sent again, because a kept connection had ended."
        ),
        "karmo_sidecar_auth_api_connections_open": _gauge("Open connections to the auth-api."),
        "karmo_sidecar_auth_api_connections_idle": _gauge("Idle connections to the auth-api."),
        "karmo_sidecar_auth_api_connections_opened_total": _counter("Connections opened."),
        "karmo_sidecar_auth_api_connections_reused_total": _counter(
            "Exchanges over a kept connection."
        ),
        "karmo_sidecar_auth_api_connections_closed_total": _counter("Connections ended.", "reason"),
        "karmo_sidecar_dns_look_ups_started_total": _counter("Look-ups of the auth-api's name."),
        "karmo_sidecar_dns_look_ups_finished_total": _counter("Look-ups that have ended."),
        "karmo_sidecar_dns_look_ups_failed_total": _counter("Look-ups that have failed."),
        "karmo_sidecar_dns_look_up_seconds_total": _counter("Time of the ended look-ups."),
        "karmo_sidecar_dns_look_ups_hung": _gauge("Look-ups that hang now."),
        "karmo_sidecar_dns_failing": _gauge("1 while look-ups fail or hang, else 0."),
        "karmo_sidecar_certificate_not_after_timestamp_seconds": _gauge(
            "When the certificate of the file that ends first ends, as Unix time.",
            "listener",
            "file",
        ),
        "karmo_sidecar_log_lines_dropped_total": _counter(
            "Lines of the log that were dropped.", "cause"
        ),
    }
)
_KINDS = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}


def to_metrics(readings: Iterable[Reading]) -> Iterator[Metric]:
    """Yield the metrics of `readings`, in the order of FAMILIES."""
    found: dict[str, list[Reading]] = {}
    for reading in readings:
        found.setdefault(reading.name, []).append(reading)
    for name, family in FAMILIES.items():
        if name in found:
            metric = _KINDS[family.type](name, family.help, labels=family.labels)
            for reading in found[name]:
                metric.add_metric(reading.labels, reading.value)
            yield metric
