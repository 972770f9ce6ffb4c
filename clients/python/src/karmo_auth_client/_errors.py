"""Error of a failed exchange, decoded from the status of the gRPC call."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, TypeVar

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RequestInfo, RetryInfo
from google.rpc.status_pb2 import Status

from karmo_auth_client.generated.karmo.problem.v1.problem_details_pb2 import ProblemDetails

_STATUS = "grpc-status-details-bin"
_MAX_DELAY = 86_400.0  # seconds: a day
M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Violation:
    """One field of the request that is at fault, and what is wrong with it."""

    field: str
    text: str


@dataclass(eq=False, kw_only=True)
class ExchangeError(Exception):
    """The exchange failed.

    Compare `code`, `reason` or `karmo_code`, never `detail`. All but `code` and `detail` are
    None or empty if the status has no details: if there was no connection, or `timeout` ended
    the call.

    * `code`: the status code of the gRPC call.
    * `detail`: what went wrong and what to do about it, for people.
    * `reason`: the name of a `ProblemReason` without its prefix, such as `INVALID_CLIENT`.
    * `karmo_code`: eight digits.
    * `http_status`: the status of the same failure over REST.
    * `violations`: the fields at fault.
    * `retry_delay`: seconds after which the exchange may be tried again, at most a day.
    * `request_id`: for the operator of the service, who finds it in the log.
    """

    code: grpc.StatusCode
    detail: str
    reason: str | None = None
    karmo_code: str | None = None
    http_status: int | None = None
    violations: tuple[Violation, ...] = ()
    retry_delay: float | None = None
    request_id: str | None = None

    def __str__(self) -> str:
        name = " ".join(filter(None, (self.code.name, self.reason, self.karmo_code)))
        request = f" (request id {self.request_id})" if self.request_id else ""
        return f"{name}: {self.detail}{request}"

    def __reduce__(self) -> tuple[Any, ...]:
        # The default passes positional arguments, of which there are none.
        members = {field.name: getattr(self, field.name) for field in fields(self)}
        return partial(ExchangeError, **members), ()


def to_error(
    code: grpc.StatusCode, message: str | None, metadata: Iterable[tuple[str, str | bytes]] | None
) -> ExchangeError:
    """Return the error of a call from its status code, message and trailing metadata.

    Details that cannot be read count as absent.
    """
    status = _to_status(metadata)
    problem, info = _find(status, ProblemDetails), _find(status, ErrorInfo)
    retry, request = _find(status, RetryInfo), _find(status, RequestInfo)
    bad = _find(status, BadRequest)
    return ExchangeError(
        code=code,
        detail=(problem.detail if problem else "") or message or code.name,
        reason=info.reason if info else None,
        karmo_code=problem.karmo_code if problem else None,
        http_status=problem.status if problem else None,
        violations=tuple(
            Violation(violation.field, violation.description)
            for violation in (bad.field_violations if bad else ())
        ),
        retry_delay=_to_seconds(retry.retry_delay) if retry else None,
        request_id=request.request_id if request else None,
    )


def _to_seconds(delay: Duration) -> float:
    """Return a delay in seconds, from 0 to a day. A peer may send any numbers."""
    return min(max(delay.seconds + delay.nanos / 1e9, 0.0), _MAX_DELAY)


def _to_status(metadata: Iterable[tuple[str, str | bytes]] | None) -> Status:
    for key, value in metadata or ():
        if key == _STATUS and isinstance(value, bytes):
            with suppress(Exception):  # in pure Python, protobuf raises more than DecodeError
                return Status.FromString(value)
    return Status()


def _find(status: Status, kind: type[M]) -> M | None:
    """Return the first readable detail of `status` that has the message type `kind`, or None."""
    for packed in status.details:
        detail = kind()
        with suppress(Exception):  # as above
            if packed.Unpack(detail):
                return detail
    return None
