"""Tests of counts that throttles share: what is reported, and what is learned."""

import pytest
from karmo.problem.v1 import problem_details_pb2 as pb

from sidecar.auth_api.client_credentials import ClientCredentials
from sidecar.exchange.limit import Limit
from sidecar.problems import Problem, ProblemError
from tests.exchange.throttled import FAILED, HERE, THERE, credentials, exchange, guess, make

Failures = list[tuple[Limit, bytes]]


def failures_of(
    *sent: ClientCredentials, key: bytes | None = None, error: Exception | None = FAILED
) -> Failures:
    """Return what the observer of a new throttle gets of exchanges that end with `error`."""
    seen: Failures = []
    throttle, _ = make(key=key, on_failure=lambda limit, key: seen.append((limit, key)))
    for one in sent:
        exchange(throttle, one, error=error)
    return seen


def test_a_wrong_secret_is_observed() -> None:
    """Each limit that counts a wrong secret is observed once, with a key that names no client."""
    seen = failures_of(credentials("canary"))
    assert [limit for limit, _ in seen] == [
        Limit.CLIENT_FAILURES,
        Limit.ADDRESS_FAILURES,
        Limit.ALL_FAILURES,
    ]
    assert b"canary" not in b"".join(key for _, key in seen)


def test_what_does_not_count_is_not_observed() -> None:
    """The observer gets no success, no other failure, no refusal, no repeated secret."""
    other = ProblemError(Problem(reason=pb.PROBLEM_REASON_ACCESS_DENIED))
    assert failures_of(credentials(), error=None) == failures_of(credentials(), error=other) == []
    assert len(failures_of(credentials(basic=True), credentials())) == 3
    sent = [credentials(secret=f"{number}") for number in range(5)]
    assert len(failures_of(*sent)) == 3 * 3


def test_observed_where_the_client_is_trusted() -> None:
    """Where the client has succeeded, the limit over all addresses counts nothing."""
    seen: Failures = []
    throttle, _ = make(on_failure=lambda limit, key: seen.append((limit, key)))
    exchange(throttle, credentials(), error=None)
    exchange(throttle, credentials(secret="wrong"))
    assert [limit for limit, _ in seen] == [Limit.CLIENT_FAILURES, Limit.ADDRESS_FAILURES]


def test_the_keys_of_two_throttles() -> None:
    """Two throttles with one key have equal keys of counts; those of random keys differ."""
    assert failures_of(credentials(), key=b"k" * 256) == failures_of(credentials(), key=b"k" * 256)
    assert failures_of(credentials(), key=b"k") != failures_of(credentials(), key=b"l")
    assert failures_of(credentials()) != failures_of(credentials())


SCOPES = {
    Limit.CLIENT_FAILURES: ("partner", HERE, "for this client from this address"),
    Limit.ADDRESS_FAILURES: ("other", HERE, "from this address"),
    Limit.ALL_FAILURES: ("partner", THERE, "for this client from all addresses"),
}


@pytest.mark.parametrize("limit", SCOPES)
def test_a_count_from_elsewhere(limit: Limit) -> None:
    """A count that is known from elsewhere limits as if it were local, until its window ends."""
    client, address, scope = SCOPES[limit]
    keys = dict(failures_of(credentials(), key=b"shared"))
    throttle, clock = make(client_failures=5, address_failures=5, all_failures=5, key=b"shared")
    throttle.learn(limit, keys[limit], 4, 20)
    assert exchange(throttle, credentials(client), address, error=None) is None
    throttle.learn(limit, keys[limit], 5, 20)
    refusal = exchange(throttle, credentials(client, "new"), address, error=None)
    if limit is Limit.ALL_FAILURES:  # the client succeeded there
        assert refusal is None
        refusal = exchange(throttle, credentials(client), "192.0.2.9", error=None)
    assert refusal is not None
    assert scope in str(refusal.detail)
    assert refusal.retry_after == 20
    clock.now += 20
    assert exchange(throttle, credentials(client), "192.0.2.9", error=None) is None
    assert exchange(throttle, credentials(client), address, error=None) is None


def test_a_count_from_elsewhere_is_added_to() -> None:
    """Local wrong secrets count on top of a count from elsewhere."""
    keys = dict(failures_of(credentials(), key=b"shared"))
    throttle, _ = make(client_failures=5, key=b"shared")
    throttle.learn(Limit.CLIENT_FAILURES, keys[Limit.CLIENT_FAILURES], 3, 60)
    assert guess(throttle, 4) == [False] * 2 + [True] * 2


@pytest.mark.parametrize(("count", "seconds"), [(2, 1), (3, 1), (0, 1), (9, 0), (9, -1)])
def test_a_count_is_never_lowered(count: int, seconds: float) -> None:
    """A lower count from elsewhere, or one whose window has ended, changes nothing."""
    keys = dict(failures_of(credentials(), key=b"shared"))
    throttle, clock = make(client_failures=3, key=b"shared")
    guess(throttle, 3)
    throttle.learn(Limit.CLIENT_FAILURES, keys[Limit.CLIENT_FAILURES], count, seconds)
    clock.now += 59
    refusal = exchange(throttle, credentials(), error=None)
    assert refusal is not None
    assert refusal.retry_after == 1


def test_a_window_from_elsewhere_lasts_a_minute_at_most() -> None:
    """A window from elsewhere never lasts longer than a local one."""
    keys = dict(failures_of(credentials(), key=b"shared"))
    throttle, _ = make(key=b"shared")
    throttle.learn(Limit.CLIENT_FAILURES, keys[Limit.CLIENT_FAILURES], 3, 1e9)
    refusal = exchange(throttle, credentials(), error=None)
    assert refusal is not None
    assert refusal.retry_after == 60


def test_exchanges_cannot_be_learned() -> None:
    """The limit of exchanges counts no wrong secrets, so it takes no count from elsewhere."""
    throttle, _ = make()
    with pytest.raises(KeyError):
        throttle.learn(Limit.CLIENT_CALLS, b"", 1, 60)
