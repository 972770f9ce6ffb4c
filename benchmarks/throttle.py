"""Measures what the throttle costs: the CPU time of one exchange, by its outcome.

`make bench` runs it, in a few seconds. It fails if an exchange costs more than its budget.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from time import thread_time

from karmo.problem.v1 import problem_details_pb2 as pb

from sidecar.auth_api.client_credentials import ClientCredentials, RejectedError
from sidecar.exchange.throttle import Throttle
from sidecar.problems import Problem, ProblemError
from sidecar.secret import Secret

# Microseconds of CPU time that one exchange may cost, at most.
BUDGET = 15.0
IPV4, IPV6 = "192.0.2.1", "2001:db8:0:1::1"
_REJECTED = RejectedError(Problem(reason=pb.PROBLEM_REASON_INVALID_CLIENT))
# Takes the number of an exchange, and runs it.
Exchange = Callable[[int], None]


def main() -> int:
    """Print a row for each outcome; return 1 if one is beyond the budget."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30, help="how often each is measured")
    parser.add_argument("--calls", type=int, default=2_000, help="exchanges in a round")
    parser.add_argument("--budget", type=float, default=BUDGET, help="microseconds of an exchange")
    arguments = parser.parse_args()
    # Each round measures each case once, so a busy moment of the machine affects all of them.
    costs: dict[str, float] = {}
    for _ in range(arguments.rounds):
        for name, begin in _CASES.items():
            cost = _cost(begin(), arguments.calls)
            costs[name] = min(cost, costs.get(name, cost))
    print(f"\nThrottle: microseconds of an exchange (budget: {arguments.budget:g})\n")
    for name, cost in costs.items():
        print(f"{name:40} {cost:6.2f}")
    return 1 if max(costs.values()) > arguments.budget else 0


def _cost(exchange: Exchange, calls: int) -> float:
    """Return the microseconds of CPU time that an exchange takes."""
    start = thread_time()
    for number in range(calls):
        exchange(number)
    return (thread_time() - start) / calls * 1e6


def _throttle(failures: int = 10**9) -> Throttle:
    return Throttle(
        client_failures=failures, address_failures=10**9, all_failures=10**9, client_calls=10**9
    )


def _credentials(client: str = "partner-0123456789abcdef", *, basic: bool) -> ClientCredentials:
    return ClientCredentials(
        client_id=Secret(client),
        client_secret=Secret("0123456789abcdef0123456789abcdef"),
        authorization=Secret("Basic") if basic else None,
        encoded=(),
    )


def _token(address: str, *, basic: bool) -> Callable[[], Exchange]:
    """Return a case of exchanges of one client that get a token."""

    def begin() -> Exchange:
        throttle, sent = _throttle(), _credentials(basic=basic)

        def exchange(_number: int) -> None:
            with throttle.attempt(address, sent):
                pass

        return exchange

    return begin


def _wrong_secret() -> Exchange:
    throttle, sent = _throttle(), _credentials(basic=True)

    def exchange(_number: int) -> None:
        with suppress(RejectedError), throttle.attempt(IPV4, sent):
            raise _REJECTED.with_traceback(None)

    return exchange


def _refusal() -> Exchange:
    throttle, sent = _throttle(failures=1), _credentials(basic=True)
    with suppress(RejectedError), throttle.attempt(IPV4, sent):
        raise _REJECTED

    def exchange(_number: int) -> None:
        with suppress(ProblemError), throttle.attempt(IPV4, sent):
            pass

    return exchange


def _new_clients() -> Exchange:
    """Return wrong secrets of clients and addresses that are all different."""
    throttle = _throttle()
    clients = [_credentials(f"partner-{number}", basic=True) for number in range(4096)]

    def exchange(number: int) -> None:
        address = f"2001:db8:{number & 0xFFFF:x}::1"
        with suppress(RejectedError), throttle.attempt(address, clients[number % 4096]):
            raise _REJECTED.with_traceback(None)

    return exchange


_CASES: Mapping[str, Callable[[], Exchange]] = {
    "a token, by Basic": _token(IPV4, basic=True),
    "a token, credentials in the body": _token(IPV4, basic=False),
    "a token, over IPv6": _token(IPV6, basic=True),
    "a wrong secret": _wrong_secret,
    "a wrong secret of a new client": _new_clients,
    "a refusal": _refusal,
}


if __name__ == "__main__":
    sys.exit(main())
