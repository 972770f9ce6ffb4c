"""Measures what an access line costs: the CPU time of the event loop for one call.

`make bench` runs it, in a few seconds. It fails if a line costs more than its budget.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import thread_time

import uvloop

from sidecar import logs
from sidecar.call import Call, Note

# Microseconds of CPU time of the event loop that one line may cost, at most.
BUDGET = 15.0
_REQUEST_ID = "6f1c1f6e-3f9f-4c57-9d2e-0a4b5c6d7e8f"
_TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
# The notes of a call that gets a token, when it begins and after.
_REST: Mapping[str, Note] = {"protocol": "rest", "method": "POST", "peer": "127.0.0.1:54321"}
_GRPC: Mapping[str, Note] = {
    "protocol": "grpc",
    "method": "/karmo.auth.v1.TokenService/ExchangeToken",
    "peer": "127.0.0.1:54321",
}
_EXCHANGE: Mapping[str, Note] = {
    "client": "0123456789abcdef",
    "upstream_reused": True,
    "upstream_status": 200,
    "upstream_ms": 12.345,
}
_TOKEN_BY_REST = {**_EXCHANGE, "status": 200, "route": "/v1/oauth/token"}
_TOKEN_BY_GRPC = {**_EXCHANGE, "code": "OK"}
_Case = tuple[Mapping[str, Note], Mapping[str, Note], str | None, int]
# The notes, the traceparent, and the number of calls that end in one turn of the event loop.
_CASES: Mapping[str, _Case] = {
    "REST": (_REST, _TOKEN_BY_REST, None, 1),
    "REST, 32 calls in a turn of the loop": (_REST, _TOKEN_BY_REST, None, 32),
    "REST, with a trace": (_REST, _TOKEN_BY_REST, _TRACEPARENT, 1),
    "gRPC": (_GRPC, _TOKEN_BY_GRPC, None, 1),
}


def main() -> int:
    """Print a row for each case; return 1 if one is beyond the budget."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30, help="how often each is measured")
    parser.add_argument("--calls", type=int, default=2_000, help="calls in a round")
    parser.add_argument("--budget", type=float, default=BUDGET, help="microseconds of a line")
    arguments = parser.parse_args()
    with _logging():
        costs = uvloop.run(_costs(arguments.rounds, arguments.calls))
    print(f"\nAccess log: microseconds of a line (budget: {arguments.budget:g})\n")
    for name, cost in costs.items():
        print(f"{name:40} {cost:6.2f}")
    return 1 if max(costs.values()) > arguments.budget else 0


@contextmanager
def _logging() -> Iterator[None]:
    """Write the log of the process to nowhere. Raises ValueError if lines were dropped."""
    with Path(os.devnull).open("w", encoding="ascii") as nowhere:
        writer = logs.configure(nowhere, closing=5.0)
        yield
        writer.close()
        if sum(writer.dropped.values()):
            raise ValueError(f"lines were dropped: {writer.dropped}")


async def _costs(rounds: int, calls: int) -> Mapping[str, float]:
    """Return the lowest cost of each case. Each round measures each case once."""
    costs: dict[str, float] = {}
    for _ in range(rounds):
        for name, case in _CASES.items():
            cost = await _cost(case, calls)
            costs[name] = min(cost, costs.get(name, cost))
    return costs


async def _cost(case: _Case, calls: int) -> float:
    """Return the microseconds of CPU time of a line, with the share of its turn of the loop."""
    begun, ended, traceparent, in_turn = case
    made = [Call.of(request_id=_REQUEST_ID, traceparent=traceparent) for _ in range(calls)]
    start = thread_time()
    for number, call in enumerate(made):
        with logs.access(call, None, **begun):
            call.note(**ended)
        if number % in_turn == 0:
            await asyncio.sleep(0)
    return (thread_time() - start) / calls * 1e6


if __name__ == "__main__":
    sys.exit(main())
