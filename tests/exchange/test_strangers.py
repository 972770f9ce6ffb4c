"""Tests of strangers against a client, over both protocols, with callers that leave at any time."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import get_args

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sidecar.exchange.limit import Limit
from tests.exchange.scene import SECRET, Exchange, Protocol, Scene
from tests.properties import many

PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
HOME = "192.0.2.1"
# More turns of the event loop than an exchange takes.
TURNS = 12
# The ways in which a call can be cancelled: its protocol, and what cancels it.
CANCELLED: Mapping[str, tuple[Protocol, Callable[[Exchange], None]]] = {
    "a REST caller leaves": ("rest", Exchange.leave),
    "a gRPC caller leaves": ("grpc", Exchange.leave),
    "the HTTP server cuts": ("rest", Exchange.cut),
}


@pytest.mark.parametrize("how", CANCELLED)
@pytest.mark.parametrize("secret", [SECRET, "wrong"])
def test_a_call_that_is_cancelled_at_any_await(how: str, secret: str) -> None:
    """It leaves nothing in flight, and is no wrong secret unless the auth-api has judged it."""
    protocol, cancel = CANCELLED[how]
    seen: Counter[tuple[str | None, int, int]] = Counter()
    with Scene(client_failures=99, address_failures=99, all_failures=99) as scene:
        for turns in range(1, TURNS + 1):
            judged, counted = len(scene.judged), scene.counted.total()
            one = scene.begin(protocol, HOME, "partner", secret)
            for _ in range(turns):
                scene.loop.turn()
            cancel(one)
            scene.finish(one)
            scene.loop.settle()
            assert scene.in_flight == 0
            seen[one.outcome, len(scene.judged) - judged, scene.counted.total() - counted] += 1
    # A wrong secret counts by each limit. A call that was given up may, by those of its address.
    counts = {(0, 0), (0, 2), (1, 0), (1, 2), (1, 3)}
    assert {(judged, counted) for _, judged, counted in seen} <= counts
    if secret == "wrong":  # whoever left before the answer has used up a guess
        assert {(0, 2), (1, 2)} & {(judged, counted) for _, judged, counted in seen}
    at_end = "token" if secret == SECRET else "rejected"
    assert {outcome for outcome, _, _ in seen} == {"cut" if "cuts" in how else "left", at_end}


PER_CLIENT, PER_ADDRESS, PER_ALL = 2, 4, 8
STRANGERS = tuple(f"198.51.100.{number}" for number in range(6))
RUNNING = 4


class Strangers(RuleBasedStateMachine):
    """State machine: strangers guess, leave and come back; a client at its own address calls."""

    def __init__(self) -> None:
        super().__init__()
        self.scene = Scene(
            client_failures=PER_CLIENT,
            address_failures=PER_ADDRESS,
            all_failures=PER_ALL,
        )
        self.running: list[Exchange] = []
        self.number = 0
        self.call("grpc")

    def begin(self, protocol: Protocol, address: str, client: str) -> Exchange:
        """Begin a guess with a new secret, which begins with the address."""
        self.number += 1
        return self.scene.begin(protocol, address, client, f"{address} {self.number}")

    @rule(protocol=st.sampled_from(PROTOCOLS))
    def call(self, protocol: Protocol) -> None:
        """Let the client call from its own address; it always gets a token."""
        one = self.scene.begin(protocol, HOME, "partner", SECRET)
        self.scene.finish(one)
        assert one.outcome == "token"

    @precondition(lambda self: len(self.running) < RUNNING)
    @rule(
        protocol=st.sampled_from(PROTOCOLS),
        address=st.sampled_from(STRANGERS),
        client=st.sampled_from(["partner", "other"]),
        turns=st.integers(0, TURNS),
    )
    def guess(self, protocol: Protocol, address: str, client: str, turns: int) -> None:
        """Let a stranger begin a guess, and go on for some turns."""
        self.running.append(self.begin(protocol, address, client))
        self.turn(turns)

    @rule(protocol=st.sampled_from(PROTOCOLS), times=st.integers(1, 3))
    def raid(self, protocol: Protocol, times: int) -> None:
        """Let all strangers guess at the client, each several times."""
        for address in STRANGERS * times:
            self.scene.finish(self.begin(protocol, address, "partner"))

    @rule(protocol=st.sampled_from(PROTOCOLS), address=st.sampled_from(STRANGERS))
    def insist(self, protocol: Protocol, address: str) -> None:
        """Let one stranger guess at two clients, far beyond its limits."""
        for client in ("partner", "other") * 15:
            self.scene.finish(self.begin(protocol, address, client))

    @rule(turns=st.integers(1, TURNS))
    def turn(self, turns: int) -> None:
        """Let the exchanges go on."""
        for _ in range(turns):
            self.scene.loop.turn()
        self.running = [one for one in self.running if not one.task.done()]

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """Let a stranger leave."""
        data.draw(st.sampled_from(self.running)).leave()

    @rule(seconds=st.sampled_from([0.5, 10.0, 30.0, 61.0]))
    def wait(self, seconds: float) -> None:
        """Let time pass, after all exchanges have ended."""
        self.finish()
        self.scene.loop.advance(seconds)

    def finish(self) -> None:
        """Let all exchanges end."""
        self.scene.finish(*self.running)
        self.running.clear()

    @invariant()
    def guesses_are_bounded(self) -> None:
        """Check that in any minute at most two windows of guesses reach the auth-api."""
        since = self.scene.loop.time() - 60
        guesses = [
            (client, secret.split()[0])
            for at, client, secret in self.scene.judged
            if at > since and secret != SECRET
        ]
        bounds = (
            (Counter(guesses), PER_CLIENT),
            (Counter(address for _, address in guesses), PER_ADDRESS),
            (Counter(client for client, _ in guesses), PER_ALL),
        )
        for counts, limit in bounds:
            assert max(counts.values(), default=0) <= 2 * (limit + RUNNING)

    @invariant()
    def nothing_is_left_behind(self) -> None:
        """Check that what is in flight is running, and that what counts was judged."""
        assert self.scene.in_flight <= 3 * len(self.running)
        wrong = sum(secret != SECRET for _, _, secret in self.scene.judged)
        assert self.scene.counted[Limit.CLIENT_FAILURES] <= wrong

    def teardown(self) -> None:
        """Check that a minute later any address is as good as new."""
        self.wait(61)
        self.running = [self.scene.begin("rest", one, "partner", SECRET) for one in STRANGERS]
        running = tuple(self.running)
        self.finish()
        assert {one.outcome for one in running} == {"token"}
        assert self.scene.in_flight == 0
        self.scene.close()


class StrangersForLong(Strangers):
    """The same machine, for more examples."""


TestStrangers = Strangers.TestCase
TestStrangers.settings = settings(many, max_examples=8, stateful_step_count=30)
TestStrangersForLong = pytest.mark.soak(StrangersForLong.TestCase)
TestStrangersForLong.settings = settings(many, max_examples=200, stateful_step_count=30)
