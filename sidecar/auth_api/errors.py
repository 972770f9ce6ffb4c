"""Errors of the HTTP client: the reason and `upstream_fault` of each, and which may be retried.

Faults in a response are named in `response`, by the text of a BadResponseError.
"""

import ssl

import httpx2
from karmo.problem.v1 import problem_details_pb2 as pb

from sidecar.problems import Reason

_MAX_CAUSES = 10


class ForeignError(Exception):
    """An exception that left the HTTP client and is no error class of its own, as its cause.

    For example AttributeError: when a connection is reset as it opens, anyio asks a socket
    that uvloop has already removed.
    """


# The first class that matches decides; subclasses come before their base.
_REASONS: tuple[tuple[type[Exception], Reason], ...] = (
    (httpx2.TimeoutException, pb.PROBLEM_REASON_UPSTREAM_TIMEOUT),
    (httpx2.ConnectError, pb.PROBLEM_REASON_UPSTREAM_UNAVAILABLE),
    (httpx2.NetworkError, pb.PROBLEM_REASON_UPSTREAM_CONNECTION_LOST),
    (httpx2.RemoteProtocolError, pb.PROBLEM_REASON_UPSTREAM_CONNECTION_LOST),
    (httpx2.TransportError, pb.PROBLEM_REASON_INTERNAL),
    (ForeignError, pb.PROBLEM_REASON_UPSTREAM_CONNECTION_LOST),
)


def reason_of(error: Exception) -> Reason:
    """Return the reason of `error`, which is of the library, of ssl or a ForeignError."""
    # TLS: the certificate of the auth-api is not trusted, or ours is not. With TLS 1.3 the
    # second comes in place of a response, as an ssl.SSLError. A handshake that the connect
    # timeout ended has an ssl.SSLError as its cause too, but is a timeout.
    kinds = (httpx2.ConnectError, ssl.SSLError)
    if isinstance(error, kinds) and isinstance(_first_cause(error), ssl.SSLError):
        return pb.PROBLEM_REASON_UPSTREAM_CONNECTION_LOST
    return next(reason for kind, reason in _REASONS if isinstance(error, kind))


def name_of(error: BaseException) -> str:
    """Return the fault name for the log: the types of `error` and of its first cause.

    For TLS the reason of OpenSSL follows. A host name in it is that of the token URL.
    """
    first = _first_cause(error)
    words = first.reason if isinstance(first, ssl.SSLError) else None
    words = getattr(first, "verify_message", words)
    names = dict.fromkeys((type(error).__name__, type(first).__name__, words))
    return ": ".join(name for name in names if name)


def _first_cause(error: BaseException) -> BaseException:
    first = error
    for _ in range(_MAX_CAUSES):  # they may go in a circle
        if isinstance(first, ExceptionGroup):  # a name with several addresses: all failed
            first = first.exceptions[0]
        first = first.__cause__ or first.__context__ or first
    return first


def is_refusal(error: Exception) -> bool:
    """Whether the connection was refused or reset as it opened: no request was sent."""
    return isinstance(_first_cause(error), ConnectionError)
