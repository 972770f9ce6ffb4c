"""Tests of the throttle: guesses are limited, without effect on other addresses."""

import asyncio
from contextlib import ExitStack, suppress

import pytest
from karmo.problem.v1 import problem_details_pb2 as pb

from sidecar.auth_api.client_credentials import ClientCredentials
from sidecar.client_address import UNIX_PEER
from sidecar.exchange.throttle import TRUST, Throttle
from sidecar.problems import Problem, ProblemError
from tests.exchange.throttled import (
    FAILED,
    HERE,
    THERE,
    credentials,
    end,
    exchange,
    guess,
    is_refused,
    make,
)


def test_wrong_secrets_of_one_client_from_one_address() -> None:
    """Guesses beyond the limit are refused; the problem has the limit and the delay."""
    throttle, clock = make()
    assert guess(throttle, 3) == [False] * 3
    clock.now += 20
    refusal = exchange(throttle, credentials(secret="another"))
    assert refusal == Problem(
        reason=pb.PROBLEM_REASON_TOO_MANY_ATTEMPTS,
        detail="There were 3 wrong secrets, or requests that were given up, in a minute for this "
        "client from this address. Check the secret, and try again later.",
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
            detail="There were wrong secrets, or requests that were given up, in the last minute "
            "for this client from this address, so at most 2 requests may be in flight. Check the "
            "secret, and try again when one has ended.",
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
        sent = credentials(secret=f"{number}")
        with suppress(asyncio.CancelledError, ProblemError), throttle.attempt(HERE, sent):
            raise asyncio.CancelledError
    assert exchange(throttle, credentials(), THERE, error=None) is None


def give_up(throttle: Throttle, times: int, address: str = HERE) -> list[bool]:
    """Give up `times` exchanges with different secrets; return whether each was refused."""
    refused = []
    for number in range(times):
        try:
            one = throttle.attempt(address, credentials(secret=f"{address}{number}"))
        except ProblemError:
            refused.append(True)
        else:
            end(one, asyncio.CancelledError())
            refused.append(False)
    return refused


def test_who_gives_up_guesses_no_more_often() -> None:
    """An exchange that its caller gives up counts like a wrong secret of its address."""
    throttle, _ = make(address_failures=5)
    assert give_up(throttle, 5) == [False] * 3 + [True] * 2
    assert guess(throttle, 3, client="other") == [False] * 2 + [True]
    assert guess(throttle, 1, THERE) == [False]


def test_given_up_exchanges_of_a_known_client_do_not_count() -> None:
    """Where a client has succeeded lately, it may give up as often as it wants."""
    throttle, clock = make()
    assert exchange(throttle, credentials(), error=None) is None
    assert give_up(throttle, 20) == [False] * 20
    clock.now += TRUST + 1
    assert give_up(throttle, 4) == [False] * 3 + [True]


def test_given_up_exchanges_do_not_count_for_all_addresses() -> None:
    """Callers who give up anywhere do not reach the limit of a client over all addresses."""
    throttle, _ = make(all_failures=5)
    for number in range(20):
        assert give_up(throttle, 1, f"192.0.3.{number}") == [False]
    assert exchange(throttle, credentials(), error=None) is None


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
        "There were 20 wrong secrets, or requests that were given up, in a minute for this client "
        "from all addresses. "
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
        throttle._of_pair.failures,
        throttle._of_client.failures,
        throttle._guesses,
    ]
    assert all(windows._windows for windows in kept)
    assert "canary" not in "".join(f"{windows._windows}" for windows in kept)
