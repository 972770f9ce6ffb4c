"""Write deploy/grafana/karmo-sidecar.json, the dashboard for Grafana 9 or later.

`make docs` runs this script; with `--check` it changes nothing and fails if the file is stale.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

FILE = Path(__file__).with_name("karmo-sidecar.json")
COLUMNS, WIDTH, HEIGHT = 24, 8, 8
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
# Variables of the dashboard, which are in each query.
CHOSEN = 'job="$job",instance=~"$instance"'
FAILED_CODES = "INTERNAL|UNAVAILABLE|DEADLINE_EXCEEDED|UNKNOWN|DATA_LOSS"
REST, GRPC = "http_server_request_duration_seconds", "rpc_server_call_duration_seconds"
EXCHANGES = "http_client_request_duration_seconds"


class Panel(NamedTuple):
    """A graph: its queries by the names of their lines, and the unit of Grafana."""

    title: str
    unit: str
    queries: Mapping[str, str]
    description: str = ""


def rate(name: str, *matchers: str) -> str:
    """Return the rate of a counter for each second."""
    return f"rate({name}{{{','.join((CHOSEN, *matchers))}}}[$__rate_interval])"


def total(labels: str, rates: str) -> str:
    """Return a sum by labels."""
    return f"sum by ({labels}) ({rates})"


def gauge(name: str, *matchers: str) -> str:
    """Return a gauge as it is."""
    return f"{name}{{{','.join((CHOSEN, *matchers))}}}"


def quantiles(histogram: str, *matchers: str) -> Mapping[str, str]:
    """Return queries of three quantiles of a histogram."""
    buckets = total("le", rate(f"{histogram}_bucket", *matchers))
    return {f"{q:.0%}": f"histogram_quantile({q}, {buckets})" for q in (0.5, 0.9, 0.99)}


def failed() -> str:
    """Return the rates of calls that fail by a fault of the service, as the alerts count them."""
    rest = rate(f"{REST}_count", 'http_response_status_code=~"5.."')
    grpc = rate(
        f"{GRPC}_count",
        'rpc_method!~"grpc[.].*"',
        f'rpc_response_status_code=~"{FAILED_CODES}"',
        'error_type!="REQUEST_TIMEOUT"',
    )
    return f"{rest} or {grpc}"


def valid() -> str:
    """Return the rates of calls that fail so or succeed."""
    rest = rate(f"{REST}_count", 'http_response_status_code=~"[1235].."')
    grpc = rate(
        f"{GRPC}_count",
        'rpc_method!~"grpc[.].*"',
        f'rpc_response_status_code=~"OK|{FAILED_CODES}"',
        'error_type!="REQUEST_TIMEOUT"',
    )
    return f"{rest} or {grpc}"


def refused() -> str:
    """Return the rates of calls that are refused for a reason that lies with the caller."""
    rest = rate(f"{REST}_count", 'http_response_status_code=~"4.."')
    grpc = rate(
        f"{GRPC}_count", 'rpc_method!~"grpc[.].*"', f'rpc_response_status_code!~"OK|{FAILED_CODES}"'
    )
    return f"{rest} or {grpc}"


OURS = "karmo_sidecar_"
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


def panels() -> Iterator[Mapping[str, Any]]:
    """Yield the rows and their panels, with places on the grid."""
    y, identity = 0, 0
    for title, row in ROWS.items():
        identity += 1
        place = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
        yield {"id": identity, "type": "row", "title": title, "gridPos": place, "panels": []}
        y += 1
        for number, panel in enumerate(row):
            identity += 1
            x = number * WIDTH % COLUMNS
            place = {"x": x, "y": y + number * WIDTH // COLUMNS * HEIGHT, "w": WIDTH, "h": HEIGHT}
            yield draw(panel) | {"id": identity, "gridPos": place}
        y += -(-len(row) * WIDTH // COLUMNS) * HEIGHT


def draw(panel: Panel) -> dict[str, Any]:
    """Return a panel as Grafana's JSON."""
    targets = [
        {"refId": chr(ord("A") + number), "expr": query, "legendFormat": legend}
        | {"datasource": DATASOURCE}
        for number, (legend, query) in enumerate(panel.queries.items())
    ]
    return {
        "type": "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}},
        "targets": targets,
    }


def variable(name: str, **options: Any) -> Mapping[str, Any]:
    """Return a variable of the dashboard whose values are those of a label."""
    query = options.pop("query")
    return {
        "name": name,
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
    } | options


def dashboard() -> Mapping[str, Any]:
    """Return the dashboard."""
    of_job = f'label_values({OURS}build_info{{job="$job"}}, instance)'
    return {
        "uid": "karmo-sidecar",
        "title": "karmo-sidecar",
        "tags": ["karmo-sidecar"],
        "schemaVersion": 37,
        "timezone": "utc",
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus"},
                variable("job", query=f"label_values({OURS}build_info, job)"),
                variable("instance", query=of_job, multi=True, includeAll=True, allValue=".*"),
            ]
        },
        "panels": list(panels()),
    }


def main() -> int:
    """Write the dashboard, or check it; return the exit status."""
    text = json.dumps(dashboard(), indent=2) + "\n"
    if "--check" in sys.argv:
        return int(not FILE.exists() or FILE.read_text("utf-8") != text)
    FILE.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
