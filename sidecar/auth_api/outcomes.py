"""The outcome of an exchange: in the access line, in the span of its last try, and for metrics."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from http import HTTPStatus

from sidecar.auth_api.client_credentials import RejectedError
from sidecar.auth_api.faults import UpstreamError
from sidecar.auth_api.transport.progress import Progress
from sidecar.call import current_call
from sidecar.problems import Problem, ProblemError

# Takes the outcome of an exchange (an Outcome, or the name of a fault), the HTTP status of the
# response if there was one, and the seconds with all tries.
Observe = Callable[[str, int | None, float], None]


class Outcome(StrEnum):
    """Outcomes of an exchange that are no faults."""

    TOKEN = ""
    # The auth-api rejected the credentials.
    REJECTED = "rejected"
    # It answered with another error, which the caller gets.
    ERROR_RESPONSE = "error_response"
    # The caller left, or its deadline passed.
    CANCELLED = "cancelled"
    # A bug of ours; the log has its type.
    FAILED = "failed"


@contextmanager
def recorded(progress: Progress, observe: Observe) -> Iterator[None]:
    """Record how the exchange in the context ends, which has come as far as `progress`.

    The end goes into the access line, into the span of the last try and to `observe`. An
    UpstreamError leaves as the error for the caller.
    """
    start = time.perf_counter()
    outcome: str = Outcome.FAILED
    try:
        yield
        outcome = Outcome.TOKEN
    except UpstreamError as error:
        outcome = error.name
        progress.end_try(error.name)
        raise _error_for_caller(error, progress.status) from None
    except RejectedError:
        outcome = Outcome.REJECTED
        raise
    except ProblemError:
        outcome = Outcome.ERROR_RESPONSE
        raise
    except asyncio.CancelledError:
        outcome = Outcome.CANCELLED
        raise
    finally:
        seconds = time.perf_counter() - start
        progress.end_try()
        current_call().note(upstream_ms=round(seconds * 1000, 3))
        observe(outcome, progress.status, seconds)


def ignore(_outcome: str, _status: int | None, _seconds: float) -> None:
    """Observe nothing."""


def _error_for_caller(error: UpstreamError, status: int | None) -> ProblemError:
    """Return what the caller gets for `error`, and note the fault, which is only for the log."""
    call = current_call()
    call.note(upstream_fault=error.name)
    if error.detail is not None:
        call.note(upstream_detail=error.detail)
    problem = Problem(reason=error.fault.reason, retry_after=error.retry_after)
    # RFC 6749 section 2.3.1: each 401 counts as a wrong secret, also one with a broken or late
    # body. Else guessing would be free.
    is_rejected = status == HTTPStatus.UNAUTHORIZED
    return (RejectedError if is_rejected else ProblemError)(problem)
