"""Tests of the work and the memory of the throttle: both are bounded whatever is sent."""

from collections.abc import Callable, Mapping
from functools import partial

import pytest

from sidecar.exchange.failure_limit import MAX_WINDOWS
from sidecar.exchange.throttle import MAX_TRUSTED, TRUST, Throttle, ThrottleCounts
from tests.exchange.throttled import Clock, credentials, exchange, is_refused, make
from tests.line_count import lines_of

pytestmark = pytest.mark.unmeasured

# The lines of Python that an exchange may run more where windows are full or have ended: each new
# window removes two or evicts one. An exchange begins at most five windows.
MAKING_ROOM = 20


def filled() -> tuple[Throttle, Clock]:
    """Return a throttle whose windows are all full, as after a flood, and its clock."""
    throttle, clock = make()
    kinds = [throttle._calls, throttle._guesses, throttle._trusted]
    for windows in (*kinds, *(limit.failures for limit in throttle._limits.values())):
        for number in range(windows._capacity):
            windows.add(number.to_bytes(12, "big") + b"2001:db8:1111:2222::/64", clock())
    return throttle, clock


def token(throttle: Throttle) -> None:
    """Run an exchange that succeeds."""
    assert exchange(throttle, credentials(), error=None) is None


def wrong_secret(throttle: Throttle) -> None:
    """Run an exchange of a new client whose secret is wrong."""
    assert not is_refused(exchange(throttle, credentials("new", basic=True)))


def refused(throttle: Throttle) -> None:
    """Run an exchange that is refused."""
    assert is_refused(exchange(throttle, credentials("guessed"), error=None))


EXCHANGES: Mapping[str, Callable[[Throttle], None]] = {
    "a token": token,
    "a wrong secret": wrong_secret,
    "a refusal": refused,
}


def guessed(throttle: Throttle) -> Throttle:
    """Return `throttle` after as many wrong secrets of one client as are permitted."""
    for number in range(3):
        exchange(throttle, credentials("guessed", f"{number}"))
    return throttle


def lines(throttle: Throttle) -> Mapping[str, int]:
    """Return the lines of Python that each kind of exchange runs."""
    return {name: lines_of(partial(run, throttle)) for name, run in EXCHANGES.items()}


@pytest.mark.parametrize("passed", [0.0, TRUST], ids=["open", "ended"])
def test_work_does_not_depend_on_what_was_sent(passed: float) -> None:
    """An exchange runs at most a few lines more while all windows are full or have ended."""
    few = lines(guessed(make()[0]))
    throttle, clock = filled()
    clock.now += passed
    many = lines(guessed(throttle))
    assert {name: many[name] <= few[name] + MAKING_ROOM for name in few} == dict.fromkeys(few, True)


def test_no_more_windows_than_the_maximum() -> None:
    """A flood of new clients and addresses adds no window to those of a full throttle.

    `test_windows.py` shows what memory the windows take.
    """
    throttle, _ = filled()
    for number in range(100):
        exchange(throttle, credentials(f"{number}", basic=True), f"192.0.2.{number}")
        exchange(throttle, credentials(f"{number}"), f"198.51.100.{number}", error=None)
    assert throttle.counts == ThrottleCounts(
        calls=MAX_WINDOWS,
        failures_of_pair=MAX_WINDOWS,
        failures_of_address=MAX_WINDOWS,
        failures_of_client=MAX_WINDOWS,
        guesses=MAX_WINDOWS,
        trusted=MAX_TRUSTED,
        refused={},
    )
    assert [limit.in_flight for limit in throttle._limits.values()] == [0] * 3
