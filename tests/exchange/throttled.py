"""Exchanges that run in a throttle, on a clock that the test moves."""

from contextlib import AbstractContextManager

from karmo.problem.v1 import problem_details_pb2 as pb

from sidecar.auth_api.client_credentials import ClientCredentials, RejectedError
from sidecar.exchange.throttle import OnFailure, Throttle
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
    key: bytes | None = None,
    on_failure: OnFailure | None = None,
) -> tuple[Throttle, Clock]:
    """Return a throttle and its clock."""
    clock = Clock()
    throttle = Throttle(
        client_failures=client_failures,
        address_failures=address_failures,
        all_failures=all_failures,
        client_calls=client_calls,
        key=key,
        on_failure=on_failure,
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
