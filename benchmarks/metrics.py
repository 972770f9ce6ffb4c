"""Measures what metrics cost: of each call, of a scrape in the event loop, and beside it.

`make bench` runs it, in a few seconds. It fails if a call costs more than its budget.
"""

import argparse
import asyncio
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter

import uvloop

from sidecar.auth_api.client import AuthApi, Timeouts
from sidecar.auth_api.faults import FAULTS
from sidecar.call import Note
from sidecar.exchange.service import TokenService
from sidecar.exchange.throttle import Throttle
from sidecar.grpc_server.server import GrpcServer
from sidecar.interceptors.admission import Admission
from sidecar.problems import CATALOGUE
from sidecar.process.drain import Drain
from sidecar.telemetry.counts import Parts
from sidecar.telemetry.metrics import page
from sidecar.telemetry.metrics.durations import Durations
from sidecar.telemetry.metrics.metrics import Metrics
from sidecar.tls.certificates import Certificates

# Microseconds of the event loop that one call may cost, at most.
BUDGET = 15.0
REST: Mapping[str, Note] = {
    "method": "POST",
    "route": "/v1/oauth/token",
    "status": 200,
    "reason": None,
}
GRPC: Mapping[str, Note] = {
    "method": "/karmo.auth.v1.TokenService/ExchangeToken",
    "code": "OK",
    "reason": None,
}


def main() -> int:
    """Print a row for each cost; return 1 if a call is beyond the budget."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30, help="how often each is measured")
    parser.add_argument("--calls", type=int, default=10_000, help="calls in a round")
    parser.add_argument("--budget", type=float, default=BUDGET, help="microseconds of a call")
    arguments = parser.parse_args()
    metrics = _metrics()
    costs = {
        "a REST call, with its exchange": _cost(_rest_call(metrics.durations), arguments),
        "a gRPC call, with its exchange": _cost(_grpc_call(metrics.durations), arguments),
    }
    print(f"\nMetrics: cost of a call in microseconds (budget: {arguments.budget:g})\n")
    for name, cost in costs.items():
        print(f"{name:32} {cost:6.2f}")
    snapshot, rendering, delay, size = uvloop.run(_scrapes(metrics, arguments.rounds))
    print(f"\nA scrape, of {size / 1024:.0f} KiB\n")
    print(f"{'in the event loop':32} {snapshot * 1e6:6.0f} us")
    print(f"{'beside it, with pauses':32} {rendering * 1e3:6.1f} ms")
    print(f"{'delays the event loop, at most':32} {delay * 1e3:6.2f} ms")
    return 1 if max(costs.values()) > arguments.budget else 0


def _metrics() -> Metrics:
    """Return metrics that have observed each kind of failure."""
    metrics = Metrics()
    for entry in CATALOGUE.values():
        failed: Mapping[str, Note] = {
            "status": entry.http_status,
            "code": str(entry.grpc_code),
            "reason": entry.name,
        }
        metrics.durations.observe_rest({**REST, **failed}, 0.001)
        metrics.durations.observe_grpc({**GRPC, **failed}, 0.001)
    for name in FAULTS:
        metrics.durations.observe_exchange(name, None, 0.001)
    return metrics


def _rest_call(durations: Durations) -> Callable[[], None]:
    def call() -> None:
        durations.observe_exchange("", 200, 0.03)
        durations.observe_rest(REST, 0.04)

    return call


def _grpc_call(durations: Durations) -> Callable[[], None]:
    def call() -> None:
        durations.observe_exchange("", 200, 0.03)
        durations.observe_grpc(GRPC, 0.04)

    return call


def _cost(call: Callable[[], None], arguments: argparse.Namespace) -> float:
    """Return the microseconds of one call: the mean of the rounds that others disturbed least."""
    times = []
    for _ in range(arguments.rounds):
        start = perf_counter()
        for _ in range(arguments.calls):
            call()
        times.append((perf_counter() - start) / arguments.calls * 1e6)
    return _lowest_third(times)


def _lowest_third(times: Sequence[float]) -> float:
    return statistics.mean(sorted(times)[: max(1, len(times) // 3)])


def _parts() -> Parts:
    """Return the parts of a sidecar that has served nothing."""
    throttle = Throttle(client_failures=1, address_failures=1, all_failures=1, client_calls=1)
    admission = Admission(32, streams=128)
    return Parts(
        drain=Drain(lame_duck=0, timeout=0),
        admission=admission,
        server=GrpcServer((), admission, public_url="http://127.0.0.1:9", reflects=False),
        certificates=Certificates(rest=None, grpc=None, auth_api=None),
        service=TokenService(AuthApi("http://127.0.0.1:9/", Timeouts()), throttle),
    )


async def _scrapes(metrics: Metrics, rounds: int) -> tuple[float, float, float, int]:
    """Return the seconds of a snapshot and of a rendering, the greatest delay, and the size."""
    parts = _parts()
    snapshots, renderings, delays, size = [], [], [], 0
    for _ in range(rounds):
        start = perf_counter()
        collect = metrics.collect(parts.counts())
        snapshots.append(perf_counter() - start)
        start = perf_counter()
        rendering = asyncio.create_task(asyncio.to_thread(page.render, collect, page.TEXT))
        delays.append(await _delay_until(rendering))
        renderings.append(perf_counter() - start)
        size = len(rendering.result())
    return _lowest_third(snapshots), _lowest_third(renderings), statistics.median(delays), size


async def _delay_until(task: asyncio.Task[bytes]) -> float:
    """Return the longest turn of the loop until `task` ends; the loop has nothing else to do."""
    longest = 0.0
    while not task.done():
        start = perf_counter()
        await asyncio.sleep(0)
        longest = max(longest, perf_counter() - start)
    return longest


if __name__ == "__main__":
    sys.exit(main())
