"""Tests of the throttle: guesses are limited, without effect on other addresses."""

import asyncio
from collections import Counter
from contextlib import AbstractContextManager, ExitStack, suppress

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from karmo.problem.v1 import problem_details_pb2 as pb

from sidecar.auth_api.client_credentials import ClientCredentials, RejectedError
from sidecar.client_address import UNIX_PEER
from sidecar.exchange.throttle import TRUST, Throttle
from sidecar.problems import Problem, ProblemError
from sidecar.secret import Secret

HERE, THERE = "192.0.2.1", "192.0.2.2"
FAILED = RejectedError(Problem(reason=pb.PROBLEM_REASON_INVALID_CLIENT))


class Clock:
    """A clock in seconds, which the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def credentials(
    client: str = "partner", secret: str = "secret", *, basic: bool = False
) -> ClientCredentials:
    """Return credentials of a client, in the body unless `basic`."""
    return ClientCredentials(
        client_id=Secret(client),
        client_secret=Secret(secret),
        authorization=Secret("Basic") if basic else None,
        encoded=(),
    )


def make(
    *,
    client_failures: int = 3,
    address_failures: int = 100,
    all_failures: int = 1000,
    client_calls: int = 1000,
) -> tuple[Throttle, Clock]:
    """Return a throttle and its clock."""
    clock = Clock()
    throttle = Throttle(
        client_failures=client_failures,
        address_failures=address_failures,
        all_failures=all_failures,
        client_calls=client_calls,
        now=clock,
    )
    return throttle, clock


def exchange(
    throttle: Throttle,
    sent: ClientCredentials,
    address: str = HERE,
    error: Exception | None = FAILED,
) -> Problem | None:
    """Return the problem of an exchange that ends with `error`, by default a wrong secret."""
    try:
        with throttle.attempt(address, sent):
            if error is not None:
                raise error
    except ProblemError as caught:
        return caught.problem
    return None


def end(one: AbstractContextManager[None], how: BaseException | None) -> None:
    """End an exchange as a `with` statement does; it must not swallow `how`."""
    assert not one.__exit__(type(how) if how else None, how, None)


def is_refused(problem: Problem | None) -> bool:
    """Whether the throttle itself refused the exchange."""
    return problem is not None and problem.reason == pb.PROBLEM_REASON_TOO_MANY_ATTEMPTS


def guess(
    throttle: Throttle, times: int, address: str = HERE, client: str = "partner"
) -> list[bool]:
    """Send `times` different wrong secrets; return whether each was refused."""
    sent = [credentials(client, f"{client}{address}{number}") for number in range(times)]
    return [is_refused(exchange(throttle, one, address)) for one in sent]


def test_wrong_secrets_of_one_client_from_one_address() -> None:
    """Guesses beyond the limit are refused; the problem has the limit and the delay."""
    throttle, clock = make()
    assert guess(throttle, 3) == [False] * 3
    clock.now += 20
    refusal = exchange(throttle, credentials(secret="another"))
    assert refusal == Problem(
        reason=pb.PROBLEM_REASON_TOO_MANY_ATTEMPTS,
        detail="There were 3 wrong secrets in a minute for this client from this address. "
        "Check the secret, and try again later.",
        retry_after=40,
    )


def test_the_right_secret_is_refused_as_well() -> None:
    """Beyond the limit a right secret is refused, too, so the answer does not confirm it."""
    throttle, _ = make()
    guess(throttle, 3)
    assert is_refused(exchange(throttle, credentials(), error=None))


def test_nobody_else_is_affected() -> None:
    """The client at another address, and another client at this one, are not limited."""
    throttle, _ = make()
    guess(throttle, 10)
    assert exchange(throttle, credentials(), THERE, error=None) is None
    assert exchange(throttle, credentials("other"), error=None) is None


def test_wrong_secrets_from_one_address() -> None:
    """Guesses at many clients from one address are limited by address."""
    throttle, _ = make(address_failures=5)
    refused = [guess(throttle, 1, client=f"client{number}")[0] for number in range(8)]
    assert refused == [False] * 5 + [True] * 3
    assert exchange(throttle, credentials(), THERE, error=None) is None


def test_clients_behind_a_unix_socket() -> None:
    """They have no address of their own, so their sum has no limit; each client has its limits."""
    throttle, _ = make(address_failures=5, all_failures=20)
    assert not any(guess(throttle, 1, UNIX_PEER, f"client{number}")[0] for number in range(10))
    assert guess(throttle, 5, UNIX_PEER) == [False] * 3 + [True] * 2
    for number in range(20):
        guess(throttle, 1, f"192.0.3.{number}", "elsewhere")
    assert guess(throttle, 1, UNIX_PEER, "elsewhere") == [True]
    assert exchange(throttle, credentials("other"), UNIX_PEER, error=None) is None
    assert guess(throttle, 5, UNIX_PEER, "other") == [False] * 3 + [True] * 2


def test_addresses_of_one_network() -> None:
    """The addresses of one IPv6 network share a limit."""
    throttle, _ = make()
    refused = [guess(throttle, 1, f"2001:db8::{number}")[0] for number in range(5)]
    assert refused == [False] * 3 + [True] * 2


def test_success_costs_nothing() -> None:
    """Exchanges that succeed, or fail for another reason, do not count."""
    throttle, _ = make()
    others: list[Exception | None] = [
        None,
        ProblemError(Problem(reason=pb.PROBLEM_REASON_UPSTREAM_TIMEOUT)),
        ProblemError(Problem(reason=pb.PROBLEM_REASON_ACCESS_DENIED)),
    ]
    for error in others * 20:
        assert not is_refused(exchange(throttle, credentials(), error=error))
    assert guess(throttle, 4) == [False] * 3 + [True]


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
def test_what_ends_otherwise_costs_nothing(error: type[BaseException]) -> None:
    """A bug, or a caller that leaves, does not count as a wrong secret."""
    throttle, _ = make(client_failures=1)
    for _ in range(3):
        with pytest.raises(error), throttle.attempt(HERE, credentials()):
            raise error
    assert exchange(throttle, credentials(), error=None) is None


def test_right_secrets_at_once_are_not_limited() -> None:
    """While the window has no wrong secret, calls in flight are not limited."""
    throttle, _ = make(client_failures=3, address_failures=3)
    with ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(throttle.attempt(HERE, credentials()))
        assert exchange(throttle, credentials(), error=None) is None


def test_guesses_at_once() -> None:
    """Of parallel guesses only the calls in flight get through; after a failure none starts."""
    throttle, _ = make()
    flying = [throttle.attempt(HERE, credentials(secret=f"{number}")) for number in range(10)]
    for one in flying:
        one.__enter__()
    for one in flying:
        end(one, FAILED)
        assert is_refused(exchange(throttle, credentials(secret="x"), error=None))
    assert is_refused(exchange(throttle, credentials(secret="x"), error=None))


def test_calls_in_flight_count_beside_a_wrong_secret() -> None:
    """After one wrong secret calls in flight count against the limit; the text says so."""
    throttle, _ = make()
    guess(throttle, 1)
    with throttle.attempt(HERE, credentials()), throttle.attempt(HERE, credentials()):
        assert exchange(throttle, credentials()) == Problem(
            reason=pb.PROBLEM_REASON_TOO_MANY_ATTEMPTS,
            detail="There were wrong secrets in the last minute for this client from this address, "
            "so at most 2 requests may be in flight. Check the secret, and try again when one has "
            "ended.",
            retry_after=1,
        )
    assert exchange(throttle, credentials(), error=None) is None


def test_calls_of_one_client() -> None:
    """The exchanges of a client at one address are limited, but not at another address."""
    throttle, clock = make(client_calls=2)
    assert exchange(throttle, credentials(), error=None) is None
    assert exchange(throttle, credentials(), error=None) is None
    clock.now += 59.5
    refusal = exchange(throttle, credentials(), error=None)
    assert refusal is not None
    assert refusal.detail == (
        "There were 2 requests in a minute for this client from this address. "
        "Use each token until it expires."
    )
    assert refusal.retry_after == 1
    assert exchange(throttle, credentials("other"), error=None) is None
    assert exchange(throttle, credentials(), THERE, error=None) is None


def test_a_stranger_who_leaves_locks_nobody_out() -> None:
    """Cancelled calls for a client at one address do not count at another one."""
    throttle, _ = make(client_calls=20)
    for number in range(100):
        leaving = (
            suppress(asyncio.CancelledError, ProblemError),
            throttle.attempt(HERE, credentials(secret=f"{number}")),
        )
        with leaving[0], leaving[1]:
            raise asyncio.CancelledError
    assert exchange(throttle, credentials(), THERE, error=None) is None


def test_wrong_secrets_from_everywhere() -> None:
    """Guesses from all addresses are limited, except where the client succeeded lately."""
    throttle, clock = make(all_failures=20)
    assert exchange(throttle, credentials(), HERE, error=None) is None
    clock.now += TRUST - 60
    refused = [guess(throttle, 1, f"192.0.3.{number}")[0] for number in range(30)]
    assert refused == [False] * 20 + [True] * 10
    refusal = exchange(throttle, credentials(), THERE, error=None)
    assert refusal is not None
    assert refusal.detail == (
        "There were 20 wrong secrets in a minute for this client from all addresses. "
        "Check the secret, and try again later."
    )
    assert exchange(throttle, credentials(), HERE, error=None) is None
    assert exchange(throttle, credentials("other"), THERE, error=None) is None


def test_a_success_is_forgotten() -> None:
    """An address from which the client succeeded long ago is not trusted."""
    throttle, clock = make(all_failures=20)
    assert exchange(throttle, credentials(), HERE, error=None) is None
    clock.now += TRUST
    for number in range(20):
        guess(throttle, 1, f"192.0.3.{number}")
    assert is_refused(exchange(throttle, credentials(), HERE, error=None))


def test_a_window_ends() -> None:
    """A minute after the first wrong secret, exchanges are permitted again."""
    throttle, clock = make()
    guess(throttle, 5)
    clock.now += 60
    assert exchange(throttle, credentials(), error=None) is None


def test_an_exchange_outlives_its_window() -> None:
    """A wrong secret counts in the window in which its exchange ends."""
    throttle, clock = make()
    late = throttle.attempt(HERE, credentials(secret="late"))
    late.__enter__()
    clock.now += 61
    end(late, FAILED)
    assert guess(throttle, 3) == [False] * 2 + [True]


def test_a_pair_of_basic_and_body_is_one_guess() -> None:
    """One wrong secret by Basic and then in the body counts once."""
    throttle, _ = make()
    for number in range(3):
        for basic in (True, False):
            sent = credentials(secret=f"wrong{number}", basic=basic)
            assert not is_refused(exchange(throttle, sent))
    assert is_refused(exchange(throttle, credentials(secret="wrong3", basic=True)))


def test_a_pair_works_when_the_limit_is_reached() -> None:
    """After the last permitted guess by Basic, the same one in the body is permitted."""
    throttle, _ = make(client_failures=1)
    assert not is_refused(exchange(throttle, credentials(basic=True)))
    assert exchange(throttle, credentials(), error=None) is None


@pytest.mark.parametrize(
    "second",
    [
        credentials(secret="other"),
        credentials("other"),
        credentials(basic=True),
    ],
    ids=["another secret", "another client", "by Basic again"],
)
def test_what_is_no_pair_is_counted(second: ClientCredentials) -> None:
    """Only the same secret of the same client in the body is the same guess."""
    throttle, _ = make(client_failures=100, address_failures=2)
    exchange(throttle, credentials(basic=True))
    exchange(throttle, second)
    assert is_refused(exchange(throttle, credentials(secret="third")))


def test_a_pair_is_completed_once() -> None:
    """A second try in the body is a new guess."""
    throttle, _ = make(client_failures=2)
    exchange(throttle, credentials(basic=True))
    exchange(throttle, credentials())
    assert not is_refused(exchange(throttle, credentials()))
    assert is_refused(exchange(throttle, credentials()))


def test_a_pair_from_elsewhere_is_none() -> None:
    """The two tries of one guess must come from one address."""
    throttle, _ = make(client_failures=1)
    exchange(throttle, credentials(basic=True), HERE)
    exchange(throttle, credentials(), THERE)
    assert is_refused(exchange(throttle, credentials(), THERE))


def test_names_do_not_run_together() -> None:
    """Different parts of a key never make the same key."""
    throttle, _ = make(client_failures=1)
    assert not is_refused(exchange(throttle, credentials("bc", "d"), "a"))
    assert exchange(throttle, credentials("c", "d"), "ab", error=None) is None


def test_nothing_of_a_caller_is_kept() -> None:
    """The windows hold keyed hashes, and neither a client id nor a secret."""
    throttle, _ = make()
    exchange(throttle, credentials("canary-client", "canary-secret", basic=True))
    kept = [
        throttle._calls,
        throttle._failures_of_pair,
        throttle._failures_of_client,
        throttle._guesses,
    ]
    assert all(windows._windows for windows in kept)
    assert "canary" not in "".join(f"{windows._windows}" for windows in kept)


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
        self.calls: list[tuple[float, str, str]] = []
        self.trusted: set[tuple[str, str]] = set()
        self.flying: list[Flying] = []
        self.number = 0

    @precondition(lambda self: len(self.flying) < IN_FLIGHT)
    @rule(client=st.sampled_from(CLIENTS), address=st.sampled_from(ADDRESSES))
    def begin(self, client: str, address: str) -> None:
        """Begin an exchange with a new secret."""
        self.number += 1
        one = self.throttle.attempt(address, credentials(client, str(self.number)))
        try:
            one.__enter__()
        except ProblemError:
            assert self.may_refuse(client, address)
            return
        self.calls.append((self.clock(), client, address))
        self.flying.append((client, address, one))

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), how=st.sampled_from([FAILED, asyncio.CancelledError(), None]))
    def end(self, data: st.DataObject, how: BaseException | None) -> None:
        """End one exchange with success, failure or cancellation."""
        at = data.draw(st.integers(0, len(self.flying) - 1))
        client, address, one = self.flying.pop(at)
        end(one, how)
        if how is FAILED:
            self.failures.append((self.clock(), client, address))
        elif how is None:
            self.trusted.add((client, address))

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
        of_all = [who for who, _ in failed].count(client)
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
        assert not self.throttle._in_flight


def reaches(failures: int, in_flight: int, limit: int) -> bool:
    """Whether the limit is reached: calls in flight count after a failure."""
    return failures > 0 and failures + in_flight >= limit


TestGuessing = Guessing.TestCase
TestGuessing.settings = settings(
    max_examples=50, stateful_step_count=50, deadline=None, derandomize=True
)
