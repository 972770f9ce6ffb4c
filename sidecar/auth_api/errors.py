"""What an error of the HTTP client means: for the caller, for the log, and for a second try."""

import ssl

import httpx2
from karmo.problem.v1 import problem_details_pb2 as pb

from sidecar.problems import Reason

_MAX_CAUSES = 10


class ForeignError(Exception):
    """Whatever left the HTTP client and is no error class of its own, as its cause.

    For example AttributeError: of a connection that is reset as soon as it opens, anyio asks
    a socket that uvloop has already taken away.
    """


# The most specific class that an error of the library is decides.
_REASONS: tuple[tuple[type[Exception], Reason], ...] = (
    (httpx2.TimeoutException, pb.PROBLEM_REASON_UPSTREAM_TIMEOUT),
    (httpx2.ConnectError, pb.PROBLEM_REASON_UPSTREAM_UNAVAILABLE),
    (httpx2.NetworkError, pb.PROBLEM_REASON_UPSTREAM_CONNECTION_LOST),
    (httpx2.RemoteProtocolError, pb.PROBLEM_REASON_UPSTREAM_CONNECTION_LOST),
    (httpx2.TransportError, pb.PROBLEM_REASON_INTERNAL),
    (ForeignError, pb.PROBLEM_REASON_UPSTREAM_CONNECTION_LOST),
)


def reason_of(error: Exception) -> Reason:
    """Return what its caller is told of `error`, which is of the library, of ssl or foreign."""
    # Somebody is there, but not to be trusted, or does not trust us, which by TLS 1.3 it says
    # in place of an answer: that the library does not take for an error of its own. A
    # handshake that was cut short by the time to connect has a cause of that kind too,
    # which says only that more was to come.
    kinds = (httpx2.ConnectError, ssl.SSLError)
    if isinstance(error, kinds) and isinstance(_first_cause(error), ssl.SSLError):
        return pb.PROBLEM_REASON_UPSTREAM_CONNECTION_LOST
    return next(reason for kind, reason in _REASONS if isinstance(error, kind))


def name_of(error: BaseException) -> str:
    """Return the type of `error` and that of its first cause, which tells refused from unknown.

    Of TLS it says in the words of OpenSSL what is wrong; a host in them is the one that is set.
    """
    first = _first_cause(error)
    words = first.reason if isinstance(first, ssl.SSLError) else None
    words = getattr(first, "verify_message", words)
    names = dict.fromkeys((type(error).__name__, type(first).__name__, words))
    return ": ".join(name for name in names if name)


def _first_cause(error: BaseException) -> BaseException:
    first = error
    for _ in range(_MAX_CAUSES):  # they may go in a circle
        if isinstance(first, ExceptionGroup):  # a name has several addresses, and all failed
            first = first.exceptions[0]
        first = first.__cause__ or first.__context__ or first
    return first


def is_refusal(error: Exception) -> bool:
    """Whether the system itself said that nobody listens: nothing of the request was sent."""
    return isinstance(_first_cause(error), ConnectionError)
