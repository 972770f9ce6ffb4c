"""Problem model: the catalogue from the schema, and the forms of a problem.

| form | use |
|---|---|
| `Problem` | our code raises it, inside a `ProblemError` |
| `ProblemDetails` | callers receive it |
| `google.rpc.Status` | carries `ProblemDetails` over gRPC |

This module knows neither HTTP requests nor gRPC calls.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RequestInfo, RetryInfo
from google.rpc.status_pb2 import Status
from karmo.problem.v1 import problem_details_pb2 as pb

Reason: TypeAlias = "pb.ProblemReason.ValueType"

ERROR_DOMAIN = "karmo.auth.v1"
_PREFIX = "PROBLEM_REASON_"
# In bytes, except the number of errors. Together they keep a status under 4 KiB: gRPC
# drops trailers of 8 to 16 KiB at random, and some peers send the details in base64.
_MAX_DETAIL, _MAX_TITLE = 400, 100
_MAX_ERRORS, _MAX_ERRORS_BYTES, _MAX_ERROR_DETAIL = 16, 700, 200
_NOT_IN_DESCRIPTION = re.compile(r"[^\x20-\x21\x23-\x5b\x5d-\x7e]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """An entry of the catalogue: the constant members of one reason (`ProblemDefinition`)."""

    reason: Reason
    name: str
    http_status: int
    grpc_code: int
    karmo_code: str
    title: str
    slug: str
    oauth_error: str
    meaning: str
    remedy: str
    retry_after_seconds: int

    @property
    def explanation(self) -> str:
        """Meaning and remedy: the detail of a problem that has nothing to add."""
        return f"{self.meaning} {self.remedy}"


def _read_catalogue() -> Mapping[Reason, Definition]:
    catalogue: dict[Reason, Definition] = {}
    for name, reason in pb.ProblemReason.items():
        options = pb.ProblemReason.DESCRIPTOR.values_by_name[name].GetOptions()
        if options.HasExtension(pb.definition):
            members = options.Extensions[pb.definition]
            catalogue[reason] = Definition(
                reason=reason,
                name=name.removeprefix(_PREFIX),
                **{key: getattr(members, key) for key in members.DESCRIPTOR.fields_by_name},
            )
    return MappingProxyType(catalogue)


CATALOGUE: Mapping[Reason, Definition] = _read_catalogue()


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldError:
    """A violation in one part of the request; `pointer` is its JSON Pointer (RFC 6901)."""

    detail: str
    pointer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One occurrence of a problem.

    `type`, `title`, `status`, `karmo_code` and `oauth_error` come from an upstream problem
    document. `retry_after` is in seconds. None means the value of the catalogue. Without a
    `detail` it is the explanation in the catalogue; an empty one is absent.
    """

    reason: Reason
    detail: str | None = None
    errors: tuple[FieldError, ...] = ()
    retry_after: int | None = None
    type: str | None = None
    title: str | None = None
    status: int | None = None
    karmo_code: str | None = None
    oauth_error: str | None = None

    def __post_init__(self) -> None:
        if self.detail is None:
            object.__setattr__(self, "detail", self.definition.explanation)

    @property
    def definition(self) -> Definition:
        """The catalogue entry of `reason`."""
        return CATALOGUE[self.reason]


class ProblemError(Exception):
    """Raised with a problem, which the error boundary or the REST renderer answers with."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.definition.name)
        self.problem = problem


def nearest(http_status: int, oauth_error: str | None = None) -> Reason:
    """Return the reason that fits an HTTP status and an OAuth error code best.

    `invalid_client` decides alone, because servers send it with 400, 401 and 403.
    Otherwise the status decides, and `oauth_error` only between reasons of that status.
    """
    if oauth_error == "invalid_client":
        return pb.PROBLEM_REASON_INVALID_CLIENT
    same = [entry for entry in CATALOGUE.values() if entry.http_status == http_status]
    exact = [entry for entry in same if entry.oauth_error == oauth_error]
    for entry in exact or same:
        return entry.reason
    # 499 is the status of proxies for a cancelled call, which is no fault of the caller.
    return pb.PROBLEM_REASON_INVALID_REQUEST if http_status < 499 else pb.PROBLEM_REASON_INTERNAL


def to_status(problem: Problem, *, request_id: str, public_url: str) -> Status:
    """Return `problem` as the status of a gRPC call, with all its details (AIP-193).

    `request_id` is a UUID; `public_url` is the base URL of the problem pages, without a
    trailing slash. The status is under 4 KiB.
    """
    details = _to_details(problem, request_id=request_id, public_url=public_url)
    entry = problem.definition
    retry_after = entry.retry_after_seconds if problem.retry_after is None else problem.retry_after
    parts: list[Message | None] = [
        details,
        ErrorInfo(
            reason=entry.name,
            domain=ERROR_DOMAIN,
            metadata={"karmoCode": details.karmo_code, "oauthError": details.error},
        ),
        _to_bad_request(details) if details.karmo_errors else None,
        RetryInfo(retry_delay=Duration(seconds=retry_after)) if retry_after else None,
        RequestInfo(request_id=request_id),
    ]
    status = Status(code=entry.grpc_code, message=details.detail or details.title)
    for part in parts:
        if part is not None:
            status.details.add().Pack(part)
    return status


M = TypeVar("M", bound=Message)


def find_detail(status: Status, kind: type[M]) -> M | None:
    """Return the first readable detail of `status` that has the message type `kind`, or None."""
    for packed in status.details:
        detail = kind()
        with suppress(DecodeError):
            if packed.Unpack(detail):
                return detail
    return None


def _to_details(problem: Problem, *, request_id: str, public_url: str) -> pb.ProblemDetails:
    entry = problem.definition
    detail = _cut(problem.detail, _MAX_DETAIL) if problem.detail else None
    return pb.ProblemDetails(
        type=problem.type or f"{public_url}/problems/{entry.slug}",
        title=_cut(problem.title or entry.title, _MAX_TITLE),
        status=problem.status or entry.http_status,
        detail=detail,
        instance=f"urn:uuid:{request_id}",
        karmo_code=problem.karmo_code or entry.karmo_code,
        karmo_errors=_limit(problem.errors),
        error=problem.oauth_error or entry.oauth_error,
        error_description=_to_error_description(detail) if detail else None,
    )


def _to_bad_request(details: pb.ProblemDetails) -> BadRequest:
    """Return the field errors by field path, for callers that know only google.rpc."""
    return BadRequest(
        field_violations=[
            BadRequest.FieldViolation(
                field=error.pointer.removeprefix("/").replace("/", "."), description=error.detail
            )
            for error in details.karmo_errors
        ]
    )


def _limit(errors: tuple[FieldError, ...]) -> list[pb.FieldError]:
    """Return as many of the first errors as the size of a status allows."""
    kept: list[pb.FieldError] = []
    remaining = _MAX_ERRORS_BYTES
    for error in errors[:_MAX_ERRORS]:
        entry = pb.FieldError(detail=_cut(error.detail, _MAX_ERROR_DETAIL), pointer=error.pointer)
        remaining -= entry.ByteSize()
        if remaining < 0:
            break
        kept.append(entry)
    return kept


def _cut(text: str, limit: int) -> str:
    """Return `text`, cut to at most `limit` bytes of UTF-8 with an ellipsis if it is longer."""
    data = text.encode(errors="replace")
    if len(data) <= limit:
        return data.decode()
    return data[: limit - 3].decode(errors="ignore") + "..."


def _to_error_description(detail: str) -> str:
    r"""Return `detail` in the characters of RFC 6749 section 5.2: %x20-21 / %x23-5B / %x5D-7E."""
    return _NOT_IN_DESCRIPTION.sub("?", detail.replace('"', "'").replace("\\", "/"))
