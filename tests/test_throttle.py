"""The throttle: guesses are counted exactly, honest clients are not, and memory is bounded."""

import gc
import tracemalloc
from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from karmo.problem.v1 import problem_details_pb2 as pb

from sidecar import throttle
from sidecar.credentials import ClientCredentials
from sidecar.problems import Problem, ProblemError, Reason
from sidecar.secret import Secret
from sidecar.throttle import Throttle, Windows

HERE, THERE = "192.0.2.1", "192.0.2.2"
FAILED = ProblemError(Problem(reason=pb.PROBLEM_REASON_INVALID_CLIENT))


class Clock:
    """Seconds that pass when a test says so."""

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
    )


def make(
    *, client_failures: int = 3, address_failures: int = 100, client_calls: int = 1000
) -> tuple[Throttle, Clock]:
    """Return a throttle and its clock."""
    clock = Clock()
    made = Throttle(
        client_failures=client_failures,
        address_failures=address_failures,
        client_calls=client_calls,
        now=clock,
    )
    return made, clock


def exchange(
    made: Throttle, sent: ClientCredentials, address: str = HERE, error: Exception | None = FAILED
) -> Problem | None:
    """Return the problem of an exchange that ends with `error`, by default a wrong secret."""
    try:
        with made.attempt(address, sent):
            if error is not None:
                raise error
    except ProblemError as caught:
        return caught.problem
    return None


def is_refused(problem: Problem | None) -> bool:
    """Whether the throttle itself refused the exchange."""
    return problem is not None and problem.reason == pb.PROBLEM_REASON_TOO_MANY_ATTEMPTS


def guess(made: Throttle, times: int, address: str = HERE, client: str = "partner") -> list[bool]:
    """Send so many different wrong secrets; return which were refused."""
    sent = [credentials(client, f"{client}{address}{number}") for number in range(times)]
    return [is_refused(exchange(made, one, address)) for one in sent]


def test_wrong_secrets_of_one_client_from_one_address() -> None:
    """So many are let through, the next ones are told when to come back and what was passed."""
    made, clock = make()
    assert guess(made, 3) == [False] * 3
    clock.now += 20
    refusal = exchange(made, credentials(secret="another"))
    assert refusal == Problem(
        reason=pb.PROBLEM_REASON_TOO_MANY_ATTEMPTS,
        detail="There were 3 wrong secrets in a minute for this client from this address. "
        "Calls in hand count until they end. Check the secret, and try again later.",
        retry_after=40,
    )


def test_the_right_secret_is_refused_as_well() -> None:
    """Who has guessed too often does not learn by the answer which guess was right."""
    made, _ = make()
    guess(made, 3)
    assert is_refused(exchange(made, credentials(), error=None))


def test_nobody_else_is_affected() -> None:
    """The client from elsewhere, and another client from here, go on."""
    made, _ = make()
    guess(made, 10)
    assert exchange(made, credentials(), THERE, error=None) is None
    assert exchange(made, credentials("other"), error=None) is None


def test_wrong_secrets_from_one_address() -> None:
    """Many clients tried from one address are one guesser, whose address is limited."""
    made, _ = make(address_failures=5)
    refused = [guess(made, 1, client=f"client{number}")[0] for number in range(8)]
    assert refused == [False] * 5 + [True] * 3
    assert exchange(made, credentials(), THERE, error=None) is None


def test_addresses_of_one_network() -> None:
    """Who owns a network of IPv6 does not begin anew with each of its addresses."""
    made, _ = make()
    refused = [guess(made, 1, f"2001:db8::{number}")[0] for number in range(5)]
    assert refused == [False] * 3 + [True] * 2


def test_success_costs_nothing() -> None:
    """Exchanges that succeed, and those that fail for another reason, never add up."""
    made, _ = make()
    others: list[Exception | None] = [
        None,
        ProblemError(Problem(reason=pb.PROBLEM_REASON_UPSTREAM_TIMEOUT)),
        ProblemError(Problem(reason=pb.PROBLEM_REASON_ACCESS_DENIED)),
    ]
    for error in others * 20:
        assert not is_refused(exchange(made, credentials(), error=error))
    assert guess(made, 4) == [False] * 3 + [True]


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
def test_what_ends_otherwise_costs_nothing(error: type[BaseException]) -> None:
    """A fault of ours, or a caller who leaves, is no wrong secret."""
    made, _ = make(client_failures=1)
    for _ in range(3):
        with pytest.raises(error), made.attempt(HERE, credentials()):
            raise error
    assert exchange(made, credentials(), error=None) is None


def test_guesses_at_once_are_all_counted() -> None:
    """While so many exchanges of one client run, no other of its begins: none slips through."""
    made, _ = make()
    with (
        made.attempt(HERE, credentials(secret="1")),
        made.attempt(HERE, credentials(secret="2")),
        made.attempt(HERE, credentials(secret="3")),
    ):
        assert is_refused(exchange(made, credentials(secret="4")))
    assert exchange(made, credentials(), error=None) is None


def test_calls_of_one_client() -> None:
    """One client may not make the auth-api hash without end, whatever comes of it."""
    made, clock = make(client_calls=2)
    assert exchange(made, credentials(), HERE, error=None) is None
    assert exchange(made, credentials(), THERE, error=None) is None
    clock.now += 59.5
    refusal = exchange(made, credentials(), error=None)
    assert refusal is not None
    assert refusal.detail == (
        "There were 2 requests in a minute for this client. Use each token until it expires."
    )
    assert refusal.retry_after == 1
    assert exchange(made, credentials("other"), error=None) is None


def test_a_window_ends() -> None:
    """A minute after the first wrong secret all are let in again."""
    made, clock = make()
    guess(made, 5)
    clock.now += 60
    assert exchange(made, credentials(), error=None) is None


def test_a_refund_is_not_taken_from_the_next_window() -> None:
    """An exchange that outlives its window gives nothing back to the one after it."""
    made, clock = make()
    with made.attempt(HERE, credentials()):
        clock.now += 61
        assert guess(made, 3) == [False] * 3
    assert guess(made, 3) == [True] * 3


def test_a_refund_does_not_begin_a_window() -> None:
    """An exchange that outlives its window, when nothing came since, leaves no credit behind."""
    made, clock = make()
    with made.attempt(HERE, credentials()):
        clock.now += 61
    assert guess(made, 4) == [False] * 3 + [True]


def test_a_pair_of_basic_and_body_is_one_guess() -> None:
    """Clients that try by Basic and then in the body, with one secret, send one wrong secret."""
    made, _ = make()
    for number in range(3):
        for basic in (True, False):
            sent = credentials(secret=f"wrong{number}", basic=basic)
            assert not is_refused(exchange(made, sent))
    assert is_refused(exchange(made, credentials(secret="wrong3", basic=True)))


def test_a_pair_works_when_the_limit_is_reached() -> None:
    """The second half of the last pair that is let in is let in, and may succeed."""
    made, _ = make(client_failures=1)
    assert not is_refused(exchange(made, credentials(basic=True)))
    assert exchange(made, credentials(), error=None) is None


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
    """Only the same secret of the same client in the body completes a pair, and only once."""
    made, _ = make(client_failures=100, address_failures=2)
    exchange(made, credentials(basic=True))
    exchange(made, second)
    assert is_refused(exchange(made, credentials(secret="third")))


def test_a_pair_is_completed_once() -> None:
    """The body after the body is a guess of its own."""
    made, _ = make(client_failures=2)
    exchange(made, credentials(basic=True))
    exchange(made, credentials())
    assert not is_refused(exchange(made, credentials()))
    assert is_refused(exchange(made, credentials()))


def test_a_pair_from_elsewhere_is_none() -> None:
    """The halves of a pair come from one address."""
    made, _ = make(client_failures=1)
    exchange(made, credentials(basic=True), HERE)
    exchange(made, credentials(), THERE)
    assert is_refused(exchange(made, credentials(), THERE))


def test_names_do_not_run_together() -> None:
    """Where one name ends and another begins is part of the key."""
    made, _ = make(client_failures=1)
    with made.attempt("a", credentials("bc", "d")):
        assert exchange(made, credentials("c", "d"), "ab", error=None) is None


def test_nothing_of_a_caller_is_kept() -> None:
    """What is remembered is a keyed hash, which tells neither a client nor a secret."""
    made, _ = make()
    exchange(made, credentials("canary-client", "canary-secret", basic=True))
    assert "canary" not in f"{made._windows._windows}"


def test_invented_clients_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is invented, no more windows are kept than there may be; the latest stay."""
    monkeypatch.setattr(throttle, "MOST_WINDOWS", 100)
    windows = Windows(Clock())
    for number in range(1000):
        windows.incr(str(number), 60)
        assert len(windows) <= 100
    assert windows.get("999") == 1
    assert windows.get("0") == 0


def test_who_is_known_makes_nobody_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a new window takes the place of the oldest, however full it is."""
    monkeypatch.setattr(throttle, "MOST_WINDOWS", 3)
    windows = Windows(Clock())
    for name in ("a", "b", "c", "c", "c"):
        windows.incr(name, 60)
    assert [windows.get(name) for name in ("a", "b", "c")] == [1, 1, 3]


def test_memory_is_bounded() -> None:
    """As many windows as there may be take less than 32 MiB."""
    windows = Windows(Clock())
    gc.collect()
    tracemalloc.start()
    for number in range(throttle.MOST_WINDOWS + 1000):
        windows.incr(f"f/{number:024}/30/1/minute", 60)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(windows) == throttle.MOST_WINDOWS
    assert used < 32 * 1024 * 1024


def test_windows_as_limits_has_them() -> None:
    """What `limits` may ask of a storage is answered."""
    clock = Clock()
    windows = Windows(clock)
    assert windows.check()
    assert windows.base_exceptions == ()
    assert windows.incr("a", 60, 2) == 2
    assert (windows.get("a"), windows.get_expiry("a")) == (2, 1060.0)
    assert (windows.get("b"), windows.get_expiry("b")) == (0, 1000.0)
    windows.clear("a")
    assert windows.get("a") == 0
    windows.incr("c", 60)
    clock.now += 60
    assert windows.get("c") == 0
    assert windows.reset() == 1
    assert len(windows) == 0


CLIENTS, ADDRESSES = ("one", "two", "three"), (HERE, THERE)
PER_CLIENT, PER_ADDRESS, CALLS = 3, 5, 20


class Guessing(RuleBasedStateMachine):
    """Anybody does anything at any time: no limit is passed, and none holds back too early."""

    def __init__(self) -> None:
        super().__init__()
        self.throttle, self.clock = make(
            client_failures=PER_CLIENT, address_failures=PER_ADDRESS, client_calls=CALLS
        )
        self.failures: list[tuple[float, str, str]] = []
        self.calls: list[tuple[float, str]] = []
        self.number = 0

    @rule(
        client=st.sampled_from(CLIENTS),
        address=st.sampled_from(ADDRESSES),
        reason=st.sampled_from(
            [
                pb.PROBLEM_REASON_INVALID_CLIENT,
                pb.PROBLEM_REASON_UPSTREAM_TIMEOUT,
                None,
            ]
        ),
    )
    def exchange(self, client: str, address: str, reason: "Reason | None") -> None:
        """One exchange, with a secret that was never sent before."""
        self.number += 1
        error = None if reason is None else ProblemError(Problem(reason=reason))
        outcome = exchange(self.throttle, credentials(client, str(self.number)), address, error)
        now = self.clock()
        if is_refused(outcome):
            assert self.is_near_a_limit(client, address)
            return
        self.calls.append((now, client))
        if reason == pb.PROBLEM_REASON_INVALID_CLIENT:
            self.failures.append((now, client, address))

    @rule(seconds=st.sampled_from([0.5, 10.0, 30.0, 61.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.clock.now += seconds

    def is_near_a_limit(self, client: str, address: str) -> bool:
        """Whether the last minute has enough to refuse for."""
        since = self.clock() - 60
        failures = [(who, where) for at, who, where in self.failures if at > since]
        calls = [who for at, who in self.calls if at > since]
        return (
            failures.count((client, address)) >= PER_CLIENT
            or [where for _, where in failures].count(address) >= PER_ADDRESS
            or calls.count(client) >= CALLS
        )

    @invariant()
    def no_limit_is_passed(self) -> None:
        """In no minute that begins with a window are there more failures than let in.

        A minute that lies across two windows has at most twice as many.
        """
        since = self.clock() - 60
        failures = [(who, where) for at, who, where in self.failures if at > since]
        assert max(Counter(failures).values(), default=0) <= 2 * PER_CLIENT
        assert max(Counter(where for _, where in failures).values(), default=0) <= 2 * PER_ADDRESS


TestGuessing = Guessing.TestCase
TestGuessing.settings = settings(max_examples=50, stateful_step_count=50, deadline=None)
