"""Durations of calls and exchanges, by their outcome.

They are observed where the access line is written, once for each call, with the values of
that line. The names are those of OpenTelemetry's semantic conventions.
"""

from collections.abc import Mapping, Sequence

from karmo.problem.v1 import problem_details_pb2 as pb
from prometheus_client import CollectorRegistry

from sidecar.auth_api.faults import FAULTS
from sidecar.auth_api.outcomes import Outcome
from sidecar.call import UNMATCHED, Note
from sidecar.telemetry.metrics.series import OTHER, Series

# The method of the access line for a name that is not served.
_UNKNOWN = "unknown"
_BAD_ANSWER = pb.PROBLEM_REASON_UPSTREAM_BAD_ANSWER
# The outcomes of exchanges that show 0 from the start, by their status: the usual ones, and the
# faults without a response. The others have too many combinations.
_FROM_THE_START: Sequence[tuple[int | None, str]] = (
    (200, Outcome.TOKEN),
    (401, Outcome.REJECTED),
    *((None, name) for name, fault in FAULTS.items() if fault.reason != _BAD_ANSWER),
)


class Durations:
    """The histograms of one sidecar, in `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._http = Series(
            "http_server_request_duration_seconds",
            "Duration of REST requests.",
            ("http_request_method", "http_route", "http_response_status_code", "error_type"),
            registry,
        )
        self._rpc = Series(
            "rpc_server_call_duration_seconds",
            "Duration of gRPC calls.",
            ("rpc_method", "rpc_response_status_code", "error_type"),
            registry,
        )
        self._exchanges = Series(
            "http_client_request_duration_seconds",
            "Duration of exchanges with the auth-api, with all tries.",
            ("http_response_status_code", "error_type"),
            registry,
        )
        for values in _FROM_THE_START:
            self._exchanges.begin(*values)

    def observe_rest(self, notes: Mapping[str, Note], seconds: float) -> None:
        """Observe a REST request with the `notes` of its access line."""
        values = (notes["method"], notes["route"], notes["status"], notes.get("reason"))
        self._http.observe(seconds, *values)

    def observe_shed(self) -> None:
        """Observe a REST request that got the prepared response, in no time and unread."""
        self._http.observe(0.0, "POST", UNMATCHED, 503, "OVERLOADED")

    def observe_grpc(self, notes: Mapping[str, Note], seconds: float) -> None:
        """Observe a gRPC call with the `notes` of its access line."""
        method = str(notes["method"])
        name = OTHER if method == _UNKNOWN else method.removeprefix("/")
        self._rpc.observe(seconds, name, notes["code"], notes.get("reason"))

    def observe_exchange(self, outcome: str, status: int | None, seconds: float) -> None:
        """Observe an exchange with the auth-api; `status` is that of its response, if any."""
        self._exchanges.observe(seconds, status, outcome)
