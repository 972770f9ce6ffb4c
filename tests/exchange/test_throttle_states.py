"""State machine of the throttle: no limit refuses whom it must spare, or lets too much pass."""

import asyncio
from collections import Counter
from contextlib import AbstractContextManager

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sidecar.problems import ProblemError
from tests.exchange.throttled import FAILED, HERE, THERE, credentials, end, make
from tests.properties import many

CLIENTS, ADDRESSES = ("one", "two"), (HERE, THERE, "192.0.2.3")
PER_CLIENT, PER_ADDRESS, PER_ALL, CALLS, IN_FLIGHT = 3, 5, 8, 12, 4
Flying = tuple[str, str, AbstractContextManager[None]]


class Guessing(RuleBasedStateMachine):
    """State machine: exchanges of any client and address begin and end in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.throttle, self.clock = make(
            client_failures=PER_CLIENT,
            address_failures=PER_ADDRESS,
            all_failures=PER_ALL,
            client_calls=CALLS,
        )
        self.failures: list[tuple[float, str, str]] = []
        self.rejected: list[tuple[float, str, str]] = []  # failures that were not given up
        self.calls: list[tuple[float, str, str]] = []
        self.trusted: set[tuple[str, str]] = set()
        self.flying: list[Flying] = []
        self.number = 0

    @precondition(lambda self: len(self.flying) < IN_FLIGHT)
    @rule(client=st.sampled_from(CLIENTS), address=st.sampled_from(ADDRESSES))
    def begin(self, client: str, address: str) -> None:
        """Begin an exchange with a new secret."""
        self.number += 1
        try:
            one = self.throttle.attempt(address, credentials(client, str(self.number)))
        except ProblemError:
            assert self.may_refuse(client, address)
            return
        self.calls.append((self.clock(), client, address))
        self.flying.append((client, address, one))

    @precondition(lambda self: not self.flying)
    @rule(client=st.sampled_from(CLIENTS), address=st.sampled_from(ADDRESSES))
    def insist(self, client: str, address: str) -> None:
        """Send guesses far beyond the limits, one after another."""
        for _ in range(2 * (PER_CLIENT + IN_FLIGHT) + 1):
            self.begin(client, address)
            if self.flying:
                self.end_one(self.flying.pop(), FAILED)

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), how=st.sampled_from([FAILED, asyncio.CancelledError(), None]))
    def end(self, data: st.DataObject, how: BaseException | None) -> None:
        """End one exchange with success, failure or cancellation."""
        at = data.draw(st.integers(0, len(self.flying) - 1))
        self.end_one(self.flying.pop(at), how)

    def end_one(self, ending: Flying, how: BaseException | None) -> None:
        """End the exchange `ending`."""
        client, address, one = ending
        end(one, how)
        if how is None:
            self.trusted.add((client, address))
        elif how is FAILED or (client, address) not in self.trusted:
            self.failures.append((self.clock(), client, address))
            self.rejected += [self.failures[-1]] * (how is FAILED)

    @rule(seconds=st.sampled_from([0.5, 10.0, 30.0, 61.0]))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.now += seconds

    def may_refuse(self, client: str, address: str) -> bool:
        """Whether a limit of this address, or of all for an untrusted one, may be reached."""
        since = self.clock() - 60
        failed = [(who, where) for at, who, where in self.failures if at > since]
        flying = [(who, where) for who, where, _ in self.flying]
        calls = [(who, where) for at, who, where in self.calls if at > since]
        of_client = failed.count((client, address))
        of_address = [where for _, where in failed].count(address)
        of_all = [who for at, who, _ in self.rejected if at > since].count(client)
        return (
            reaches(of_client, flying.count((client, address)), PER_CLIENT)
            or reaches(of_address, [where for _, where in flying].count(address), PER_ADDRESS)
            or calls.count((client, address)) >= CALLS
            or (
                (client, address) not in self.trusted
                and reaches(of_all, [who for who, _ in flying].count(client), PER_ALL)
            )
        )

    @invariant()
    def no_limit_is_passed(self) -> None:
        """Check that a window has at most the limit plus the calls in flight as failures.

        A minute across two windows has at most twice as many.
        """
        since = self.clock() - 60
        failures = [(who, where) for at, who, where in self.failures if at > since]
        of_client = max(Counter(failures).values(), default=0)
        of_address = max(Counter(where for _, where in failures).values(), default=0)
        assert of_client <= 2 * (PER_CLIENT + IN_FLIGHT)
        assert of_address <= 2 * (PER_ADDRESS + IN_FLIGHT)

    def teardown(self) -> None:
        """End all exchanges, and check that none is in flight."""
        for _, _, one in self.flying:
            end(one, None)
        limits = self.throttle._limits.values()
        assert [limit.in_flight for limit in limits] == [0] * 3


def reaches(failures: int, in_flight: int, limit: int) -> bool:
    """Whether the limit is reached: calls in flight count after a failure."""
    return failures > 0 and failures + in_flight >= limit


TestGuessing = Guessing.TestCase
TestGuessing.settings = settings(many, max_examples=50, stateful_step_count=50)
