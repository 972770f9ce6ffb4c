"""Client authentication at the token endpoint (RFC 6749 section 2.3.1), without I/O.

Turns the Basic header and the fields of a request into credentials for the auth-api,
or into a problem.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from karmo.auth.v1.token_service_pb2 import ExchangeTokenRequest
from karmo.problem.v1.problem_details_pb2 import (
    PROBLEM_REASON_INVALID_CLIENT as INVALID_CLIENT,
)
from karmo.problem.v1.problem_details_pb2 import (
    PROBLEM_REASON_INVALID_REQUEST as INVALID_REQUEST,
)
from karmo.problem.v1.problem_details_pb2 import (
    PROBLEM_REASON_UNSUPPORTED_GRANT_TYPE as UNSUPPORTED_GRANT_TYPE,
)

from sidecar import stray_characters
from sidecar.auth_api.client_credentials import GRANT_TYPE, ClientCredentials
from sidecar.exchange.basic_auth import AuthorizationError, Basic, read_authorization
from sidecar.problems import FieldError, Problem, ProblemError, Reason
from sidecar.secret import Secret

# Appendix A.1 and A.2: client_id and client_secret are *VSCHAR, %x20-7E.
_NOT_VSCHAR = re.compile(r"[^\x20-\x7e]")


Header = Basic | AuthorizationError | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """A token request of either protocol. An empty string means absent (section 3.2)."""

    grant_type: str
    client_id: Secret[str]
    client_secret: Secret[str]
    authorization: tuple[Secret[str], ...]

    @classmethod
    def received(
        cls, message: ExchangeTokenRequest, metadata: Iterable[tuple[str, str | bytes]]
    ) -> "TokenRequest":
        """Return the request of a call, from its message and its metadata."""
        return cls(
            grant_type=message.grant_type,
            client_id=Secret(message.client_id),
            client_secret=Secret(message.client_secret),
            authorization=tuple(
                Secret(str(value)) for name, value in metadata if name == "authorization"
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Violation:
    reason: Reason
    detail: str
    pointer: str | None = None


def check(request: TokenRequest, *, must_decode: bool = False) -> ClientCredentials:
    """Return the credentials in `request`.

    `must_decode`: a Basic header that cannot be form-decoded is refused. Else it is sent on as
    it came. Raises ProblemError.
    """
    header = _read_header(request, must_decode=must_decode)
    problem = _find_problem(request, header)
    if problem is not None:
        raise ProblemError(problem)
    if isinstance(header, Basic):
        return ClientCredentials(
            client_id=header.client_id,
            client_secret=header.client_secret,
            authorization=request.authorization[0],
            encoded=header.encoded,
        )
    return ClientCredentials(
        client_id=request.client_id,
        client_secret=request.client_secret,
        authorization=None,
        encoded=(),
    )


def find_client_id(request: TokenRequest) -> Secret[str]:
    """Return the identifier of the client that `request` names, or an empty one.

    The request may have a problem. If its header and its body name two clients, the header counts.
    """
    header = _read_header(request, must_decode=False)
    if isinstance(header, Basic) and header.client_id.reveal():
        return header.client_id
    return request.client_id


def find_problem(request: TokenRequest) -> Problem | None:
    """Return the problem of `request`, if it has one.

    Its reason and detail are those of the first violation, in the order of `_CHECKS`. It lists
    every violation of a field.
    """
    return _find_problem(request, _read_header(request, must_decode=False))


def find_refusal(
    message: ExchangeTokenRequest, metadata: Iterable[tuple[str, str | bytes]]
) -> Problem | None:
    """Return the problem of a call, if it has one, by its message and its metadata."""
    return find_problem(TokenRequest.received(message, metadata))


def _find_problem(request: TokenRequest, header: Header) -> Problem | None:
    violations = [violation for check_part in _CHECKS for violation in check_part(request, header)]
    return _to_problem(violations) if violations else None


def _read_header(request: TokenRequest, *, must_decode: bool) -> Header:
    try:
        header = read_authorization(request.authorization)
    except AuthorizationError as error:
        return error
    if header is not None and must_decode and not header.is_decoded:
        return AuthorizationError(
            "The Basic credentials in the Authorization header hold a malformed percent escape; "
            "write a percent sign as %25."
        )
    return header


def _to_problem(violations: Sequence[_Violation]) -> Problem:
    first = violations[0]
    return Problem(
        reason=first.reason,
        detail=first.detail,
        errors=tuple(
            FieldError(detail=violation.detail, pointer=violation.pointer)
            for violation in violations
            if violation.pointer is not None
        ),
    )


def _header_violations(_request: TokenRequest, header: Header) -> Iterator[_Violation]:
    if isinstance(header, AuthorizationError):
        yield _Violation(reason=INVALID_REQUEST, detail=str(header))


def _method_violations(request: TokenRequest, header: Header) -> Iterator[_Violation]:
    """Section 2.3: a client must not use more than one authentication method in a request."""
    if request.authorization and request.client_secret.reveal():
        yield _Violation(
            reason=INVALID_REQUEST,
            detail="Remove client_secret or the Authorization header: a request must use "
            "one authentication method.",
            pointer="/client_secret",
        )
    client_id = request.client_id.reveal()
    if (
        isinstance(header, Basic)
        and client_id
        and client_id not in (header.raw_id.reveal(), header.client_id.reveal())
    ):
        yield _Violation(
            reason=INVALID_REQUEST,
            detail="Remove client_id, or send the same one as in the Authorization header.",
            pointer="/client_id",
        )


def _grant_type_violations(request: TokenRequest, _header: Header) -> Iterator[_Violation]:
    """Sections 4.4.2 and 5.2: a missing and an unsupported grant type are different errors."""
    if not request.grant_type:
        yield _Violation(
            reason=INVALID_REQUEST,
            detail=f"grant_type is missing; send {GRANT_TYPE}.",
            pointer="/grant_type",
        )
    elif request.grant_type != GRANT_TYPE:
        yield _Violation(
            reason=UNSUPPORTED_GRANT_TYPE,
            detail=_explain_grant_type(request.grant_type),
            pointer="/grant_type",
        )


def _explain_grant_type(value: str) -> str:
    """Return what is wrong with an unsupported grant type, without quoting it."""
    stray = stray_characters.describe(value)
    if stray:
        return f"grant_type {stray}; send exactly {GRANT_TYPE}."
    if re.sub("[-_ ]", "", value).lower() == GRANT_TYPE.replace("_", ""):
        return f"grant_type must be spelt exactly {GRANT_TYPE}, in lower case with an underscore."
    return f"This grant_type is not supported; send {GRANT_TYPE}."


def _field_violations(request: TokenRequest, _header: Header) -> Iterator[_Violation]:
    for name, value in (("client_id", request.client_id), ("client_secret", request.client_secret)):
        if _NOT_VSCHAR.search(value.reveal()):
            stray = stray_characters.describe(value.reveal())
            fault = f"{stray}; it must" if stray else "must"
            yield _Violation(
                reason=INVALID_REQUEST,
                detail=f"{name} {fault} hold printable ASCII characters only.",
                pointer=f"/{name}",
            )


def _authentication_violations(request: TokenRequest, header: Header) -> Iterator[_Violation]:
    """Section 5.2: incomplete credentials or an unsupported method are invalid_client."""
    if isinstance(header, Basic):
        pair = (header.client_id, header.client_secret)
    else:
        pair = (request.client_id, request.client_secret)
    is_supported = header is not None or not request.authorization
    if not is_supported:
        yield _Violation(
            reason=INVALID_CLIENT,
            detail=f"The Authorization header has another scheme than Basic. {_SEND_BOTH}",
        )
    elif not all(part.reveal() for part in pair):
        yield _Violation(reason=INVALID_CLIENT, detail=_SEND_BOTH)


_SEND_BOTH = (
    "Send client_id and client_secret, either by HTTP Basic authentication or as fields of the "
    "request."
)


_CHECKS = (
    _header_violations,
    _method_violations,
    _grant_type_violations,
    _field_violations,
    _authentication_violations,
)
