"""Tests of guesses from many addresses, with the default limits: the figures of decision 0016."""

from collections.abc import Iterator

import pytest

from sidecar.exchange.throttle import Throttle
from sidecar.settings.sources import load
from tests.exchange.throttled import Clock, credentials, exchange, is_refused

pytestmark = pytest.mark.unmeasured


def by_default() -> tuple[Throttle, Clock]:
    """Return a throttle with the default limits, and its clock."""
    settings, clock = load({}, {}), Clock()
    throttle = Throttle(
        client_failures=settings.max_client_failures,
        address_failures=settings.max_address_failures,
        all_failures=settings.max_failures,
        client_calls=settings.max_client_calls,
        now=clock,
    )
    return throttle, clock


def addresses(count: int) -> Iterator[str]:
    """Yield `count` addresses, each from a /64 network of its own."""
    yield from (f"2001:db8:0:{number:x}::1" for number in range(count))


def guesses_of(throttle: Throttle, address: str, clients: int = 1) -> int:
    """Return how many guesses at each of `clients` pass, from one address until all are refused."""
    passed = 0
    for client in range(clients):
        while not is_refused(exchange(throttle, credentials(f"partner{client}"), address)):
            passed += 1
    return passed


@pytest.mark.parametrize(
    ("count", "passed", "shuts_out"),
    [
        (1, 30, False),
        (100, 3_000, False),
        (106, 3_180, False),
        (107, 3_200, True),
        (10_000, 3_200, True),
    ],
)
def test_guesses_at_one_client(count: int, passed: int, *, shuts_out: bool) -> None:
    """So many guesses pass in a minute; from 107 addresses on, the client is refused elsewhere.

    It is never refused at an address where it has succeeded, and a minute later nowhere.
    """
    throttle, clock = by_default()
    client = credentials("partner0")
    assert exchange(throttle, client, "192.0.2.1", error=None) is None
    for minute in range(2):
        assert sum(guesses_of(throttle, one) for one in addresses(count)) == passed
        new = exchange(throttle, client, f"198.51.100.{minute}", error=None)
        assert is_refused(new) is shuts_out
        assert exchange(throttle, client, "192.0.2.1", error=None) is None
        clock.now += 60
    assert exchange(throttle, client, "203.0.113.1", error=None) is None


@pytest.mark.parametrize(("count", "shuts_out"), [(54, False), (55, True)])
def test_guesses_at_the_border_of_windows(count: int, *, shuts_out: bool) -> None:
    """55 addresses can shut out a client for a minute, if two of their windows fall into it."""
    throttle, clock = by_default()
    client, first = credentials("partner0"), "198.51.100.1"
    begin = clock.now
    exchange(throttle, client, first)  # it begins the window of the client
    clock.now = begin + 1
    for address in addresses(count):  # these begin their own
        exchange(throttle, client, address)
    clock.now = begin + 60
    exchange(throttle, client, first)
    for seconds, passed in ((60.5, 29), (61, 30)):
        clock.now = begin + seconds
        assert sum(guesses_of(throttle, one) for one in addresses(count)) <= passed * count
    assert is_refused(exchange(throttle, client, "198.51.100.2", error=None)) is shuts_out


@pytest.mark.parametrize(("count", "passed"), [(1, 300), (10, 3_000)])
def test_guesses_at_many_clients(count: int, passed: int) -> None:
    """So many guesses at any clients pass in a minute."""
    throttle, _ = by_default()
    assert sum(guesses_of(throttle, one, clients=20) for one in addresses(count)) == passed


def test_clients_that_share_an_address_with_a_guesser() -> None:
    """30 guesses refuse the guessed client at their address, and 300 all clients there."""
    throttle, clock = by_default()
    here, there = "192.0.2.1", "192.0.2.2"
    guessed, other = credentials("partner0"), credentials("other")
    assert guesses_of(throttle, here) == 30
    refusal = exchange(throttle, guessed, here, error=None)
    assert refusal is not None
    assert refusal.retry_after == 60
    assert exchange(throttle, other, here, error=None) is None
    assert guesses_of(throttle, here, clients=20) == 270
    assert is_refused(exchange(throttle, other, here, error=None))
    assert exchange(throttle, guessed, there, error=None) is None
    clock.now += 60
    assert exchange(throttle, guessed, here, error=None) is None
