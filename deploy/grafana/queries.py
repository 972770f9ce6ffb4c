"""Queries in PromQL of the metrics that a sidecar serves."""

from collections.abc import Mapping

# Variables of the dashboard, which are in each query.
CHOSEN = 'job="$job",instance=~"$instance"'
FAILED_CODES = "INTERNAL|UNAVAILABLE|DEADLINE_EXCEEDED|UNKNOWN|DATA_LOSS"
REST, GRPC = "http_server_request_duration_seconds", "rpc_server_call_duration_seconds"
EXCHANGES = "http_client_request_duration_seconds"
OURS = "karmo_sidecar_"
# Not a call whose message did not come within the time limit, by a fault of its caller.
_CAME_IN_TIME = 'error_type!="REQUEST_TIMEOUT"'


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
    return _of_both("5..", f'=~"{FAILED_CODES}"', _CAME_IN_TIME)


def valid() -> str:
    """Return the rates of calls that fail so or succeed."""
    return _of_both("[1235]..", f'=~"OK|{FAILED_CODES}"', _CAME_IN_TIME)


def refused() -> str:
    """Return the rates of calls that are refused for a reason that lies with the caller."""
    return _of_both("4..", f'!~"OK|{FAILED_CODES}"')


def _of_both(statuses: str, codes: str, *others: str) -> str:
    """Return the rates of REST requests with these statuses, and of gRPC calls with these codes.

    Calls of gRPC's own services, such as health checks, are left out.
    """
    rest = rate(f"{REST}_count", f'http_response_status_code=~"{statuses}"')
    codes = f"rpc_response_status_code{codes}"
    grpc = rate(f"{GRPC}_count", 'rpc_method!~"grpc[.].*"', codes, *others)
    return f"{rest} or {grpc}"
