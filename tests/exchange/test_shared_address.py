"""Tests of the warning that clients share an IP address: it is given once, where it is true."""

from collections.abc import Sequence

import pytest

from sidecar.exchange.shared_address import MESSAGE
from sidecar.exchange.throttle import Throttle
from tests.exchange.throttled import HERE, THERE, credentials, exchange, make
from tests.recorded import Line, recorded


def warnings_of(
    *exchanges: tuple[int, str], throttle: Throttle | None = None, succeeds: bool = True
) -> Sequence[Line]:
    """Return the lines of the log of exchanges, each of a client and an address."""
    throttle = throttle or make()[0]
    with recorded() as log:
        for client, address in exchanges:
            sent = credentials(f"canary{client}")
            exchange(throttle, sent, address, **({"error": None} if succeeds else {}))
    assert "canary" not in log.text
    return log.entries


def test_many_clients_at_one_address() -> None:
    """The fifth client that succeeds at the only address is warned of, and no later one."""
    throttle, _ = make()
    four = [(number, HERE) for number in range(4)]
    assert warnings_of(*four, *four, throttle=throttle) == []
    (line,) = warnings_of(*((number, HERE) for number in range(100)), throttle=throttle)
    assert (line["level"], line["message"]) == ("warning", MESSAGE)
    assert (line["addresses"], line["clients"]) == (HERE, 5)
    assert "SIDECAR_TRUSTED_PROXIES" in MESSAGE


def test_many_clients_at_the_addresses_of_a_balancer() -> None:
    """Several addresses with five clients for each are warned of, too."""
    pairs = [(number, (HERE, THERE)[number % 2]) for number in range(100)]
    (line,) = warnings_of(*pairs)
    assert (line["addresses"], line["clients"]) == (f"{HERE}, {THERE}", 10)


@pytest.mark.parametrize(
    "exchanges",
    [
        [(number, f"192.0.2.{number}") for number in range(100)],
        [(1, HERE)] * 100,
        [*((number, f"192.0.2.{number}") for number in range(4)), *((n, HERE) for n in range(99))],
    ],
    ids=["an address for each client", "one client", "more addresses than a balancer has"],
)
def test_no_warning(exchanges: Sequence[tuple[int, str]]) -> None:
    """There is no warning where clients have addresses of their own, or where there is one."""
    assert warnings_of(*exchanges) == []


def test_invented_clients_cause_no_warning() -> None:
    """A stranger who invents clients causes no warning: only clients that succeed count."""
    assert warnings_of(*((number, HERE) for number in range(50)), succeeds=False) == []


def test_what_is_kept_is_bounded() -> None:
    """As long as it is undecided, at most 15 clients are kept; once it is decided, none."""
    throttle, _ = make()
    watch = throttle._shared_address
    kept = []
    for number in range(100):
        address = (HERE, THERE, "192.0.2.3")[number % 3]
        warnings_of((number, address), throttle=throttle)
        kept.append(len(watch._clients) + len(watch._networks))
    assert max(kept) <= 15 + 3
    assert kept[-1] == 0
