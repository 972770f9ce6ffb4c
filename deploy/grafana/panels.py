"""The panels of the dashboard by their rows: what each shows, and by which queries."""

from collections.abc import Mapping
from typing import NamedTuple

from deploy.grafana.queries import (
    EXCHANGES,
    GRPC,
    OURS,
    REST,
    failed,
    gauge,
    quantiles,
    rate,
    refused,
    total,
    valid,
)


class Panel(NamedTuple):
    """A graph: its queries by the names of their lines, and the unit of Grafana."""

    title: str
    unit: str
    queries: Mapping[str, str]
    description: str = ""


ROWS: Mapping[str, tuple[Panel, ...]] = {
    "Partners (REST)": (
        Panel(
            "Share of failed calls",
            "percentunit",
            {"failed": f"sum({failed()}) / sum({valid()})"},
            "Of REST and gRPC, as the objective counts them: 0.1 % are permitted.",
        ),
        Panel(
            "Failed calls by reason",
            "reqps",
            {"{{error_type}}": total("error_type", failed())},
            "Calls of REST and gRPC that fail by a fault of the service.",
        ),
        Panel(
            "Requests by status",
            "reqps",
            {
                "{{http_response_status_code}} {{error_type}}": total(
                    "http_response_status_code, error_type", rate(f"{REST}_count")
                )
            },
        ),
        Panel(
            "Tokens and refused calls",
            "reqps",
            {
                "tokens": "sum(" + rate(f"{EXCHANGES}_count", 'error_type=""') + ")",
                "refused: {{error_type}}": total("error_type", refused()),
            },
            "Of REST and gRPC. Refused: 4xx, and the codes of gRPC that stand for it.",
        ),
        Panel(
            "Duration of served requests", "s", quantiles(REST, 'http_response_status_code="200"')
        ),
        Panel(
            "Throttled calls",
            "reqps",
            {"{{limit}}": total("limit", rate(f"{OURS}throttled_total"))},
            "Exchanges of REST and gRPC that are refused with TOO_MANY_ATTEMPTS.",
        ),
        Panel(
            "Shared counts",
            "cps",
            {
                "{{outcome}}": total("outcome", rate(f"{OURS}shared_counts_total")),
                "{{instance}} failing": gauge(f"{OURS}shared_counts_failing"),
            },
            "Counts of wrong secrets for all replicas. Empty without SIDECAR_SHARED_LIMITS_URL.",
        ),
        Panel(
            "Refused and dropped",
            "reqps",
            {
                "{{reason}}": total(
                    "reason", rate(f"{OURS}requests_refused_total", 'listener="rest"')
                ),
                "dropped: {{reason}}": total(
                    "reason", rate(f"{OURS}connections_dropped_total", 'listener="rest"')
                ),
                "shed": f"sum({rate(f'{OURS}requests_shed_total')})",
            },
            "What never becomes a call.",
        ),
    ),
    "Callers (gRPC)": (
        Panel(
            "Calls by code",
            "reqps",
            {
                "{{rpc_response_status_code}} {{error_type}}": total(
                    "rpc_response_status_code, error_type", rate(f"{GRPC}_count")
                )
            },
        ),
        Panel("Duration of served calls", "s", quantiles(GRPC, 'rpc_response_status_code="OK"')),
        Panel(
            "Calls by method",
            "reqps",
            {"{{rpc_method}}": total("rpc_method", rate(f"{GRPC}_count"))},
        ),
    ),
    "auth-api": (
        Panel(
            "Exchanges that fail",
            "reqps",
            {
                "{{error_type}}": total("error_type", rate(f"{EXCHANGES}_count", 'error_type!=""'))
                + " > 0"
            },
            "By upstream_fault, or rejected, error_response, cancelled, failed.",
        ),
        Panel(
            "Duration of exchanges",
            "s",
            quantiles(EXCHANGES, 'error_type!="fail_fast"'),
            "With all tries, without those that fail fast.",
        ),
        Panel("Auth-api down", "none", {"{{instance}}": gauge(f"{OURS}auth_api_down")}),
        Panel(
            "Connections to the auth-api",
            "none",
            {
                "open": f"sum({gauge(f'{OURS}auth_api_connections_open')})",
                "idle": f"sum({gauge(f'{OURS}auth_api_connections_idle')})",
            },
        ),
        Panel(
            "Connections and tries",
            "reqps",
            {
                "opened": f"sum({rate(f'{OURS}auth_api_connections_opened_total')})",
                "reused": f"sum({rate(f'{OURS}auth_api_connections_reused_total')})",
                "tries": f"sum({rate(f'{OURS}auth_api_tries_total')})",
                "second tries": f"sum({rate(f'{OURS}auth_api_second_tries_total')})",
                "sent again": f"sum({rate(f'{OURS}auth_api_resent_total')})",
            },
        ),
        Panel(
            "DNS look-ups",
            "reqps",
            {
                "started": f"sum({rate(f'{OURS}dns_look_ups_started_total')})",
                "failed": f"sum({rate(f'{OURS}dns_look_ups_failed_total')})",
                "hung now": f"sum({gauge(f'{OURS}dns_look_ups_hung')})",
                "{{instance}} failing": gauge(f"{OURS}dns_failing"),
            },
            "Failing: 1 from the first failed or hung look-up on, until one succeeds.",
        ),
    ),
    "Process": (
        Panel("Scraped", "none", {"{{instance}}": gauge("up")}, "0 if the scrape failed."),
        Panel(
            "Phase",
            "none",
            {"{{instance}} {{phase}}": f"{gauge(f'{OURS}phase')} == 1"},
        ),
        Panel(
            "Calls in flight",
            "none",
            {
                "{{instance}}": gauge(f"{OURS}calls_in_flight"),
                "{{instance}} limit": gauge(f"{OURS}calls_in_flight_limit"),
                "{{instance}} streams": gauge(f"{OURS}streams_open"),
                "{{instance}} limit of streams": gauge(f"{OURS}streams_limit"),
            },
        ),
        Panel(
            "Lag of the event loop",
            "s",
            {
                "{{instance}} 99%": "histogram_quantile(0.99, "
                + total("instance, le", rate(f"{OURS}loop_lag_seconds_bucket"))
                + ")"
            },
        ),
        Panel("CPU", "percentunit", {"{{instance}}": rate("process_cpu_seconds_total")}),
        Panel("Memory", "bytes", {"{{instance}}": gauge("process_resident_memory_bytes")}),
        Panel(
            "Connections of clients",
            "none",
            {
                "{{listener}} open": total("listener", gauge(f"{OURS}connections_open")),
                "{{listener}} idle": total("listener", gauge(f"{OURS}connections_idle")),
            },
        ),
        Panel(
            "File descriptors",
            "percentunit",
            {"{{instance}}": f"{gauge('process_open_fds')} / {gauge('process_max_fds')}"},
            "The part of the limit that is open.",
        ),
        Panel(
            "Dropped log lines",
            "none",
            {"{{instance}} {{cause}}": rate(f"{OURS}log_lines_dropped_total")},
        ),
        Panel(
            "Certificates",
            "d",
            {
                "{{instance}} {{listener}} {{file}}": "("
                + gauge(f"{OURS}certificate_not_after_timestamp_seconds")
                + " - time()) / 86400"
            },
            "The time until the certificate expires.",
        ),
        Panel(
            "Release",
            "none",
            {
                "{{version}}, gRPC {{grpcio}}": "count by (version, grpcio) "
                f"({gauge(f'{OURS}build_info')})"
            },
            "The number of sidecars by release.",
        ),
        Panel(
            "Time since the start",
            "s",
            {"{{instance}}": f"time() - {gauge('process_start_time_seconds')}"},
        ),
        Panel(
            "Starts",
            "none",
            {"{{instance}}": f"changes({gauge('process_start_time_seconds')}[15m])"},
            "How often the process started again in the 15 minutes before.",
        ),
    ),
}
