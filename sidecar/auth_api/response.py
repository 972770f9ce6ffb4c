"""Responses of the auth-api, interpreted as a token or a problem. Without I/O.

Only the members named here reach a caller, checked and limited in length.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import TypeGuard

from karmo.problem.v1 import problem_details_pb2 as pb

from sidecar.auth_api.client_credentials import ClientCredentials
from sidecar.auth_api.error_codes import REGISTERED
from sidecar.auth_api.faults import UpstreamError
from sidecar.problems import CATALOGUE, FieldError, Problem, Reason, nearest
from sidecar.secret import Secret
from sidecar.transcoding import media_type, strict_json
from sidecar.transcoding.strict_json import JsonObject, JsonValue

_KARMO_CODE = re.compile("[0-9]{8}")
_ACCESS_TOKEN = re.compile(r"[\x21-\x7e]+")  # RFC 6749 appendix A.12, less the space
_OAUTH_ERROR = re.compile(r"[\x20\x21\x23-\x5b\x5d-\x7e]{1,64}")  # appendix A.7
# The form of the codes of RFC 6749 section 5.2 and its extensions. Gateways send a member of
# that name too, with a phrase such as "Bad Request" or "Unauthorized".
_OAUTH_CODE = re.compile("[a-z][a-z0-9_]{0,63}")
# Schemes that lead a reader to a page or nowhere; others, such as javascript, may do harm.
_URI = re.compile(r"(?:https?://|urn:)[\x21-\x7e]{1,180}|about:blank", re.IGNORECASE)
_POINTER = re.compile(r"(?:/[^\x00-\x1f\x7f\ud800-\udfff]{0,99})?")  # RFC 6901
_SECONDS = re.compile("[0-9]{1,20}")
_MAX_DELAY = 60
_MAX_INT32 = 2**31 - 1
# Statuses that are understood whatever the body is: they say when to try again.
_UNDERSTOOD_ALONE = frozenset({429, 503, 504})
# Statuses that blame the request or the client. Gateways and other servers use them too, so they
# count only with an OAuth error (RFC 6749 section 5.2) or a problem document. Any other status
# means that something else than the auth-api responded.
_UNDERSTOOD_WITH_ERROR = frozenset({400, 401, 403, 409, 422})
# Statuses whose required header field is about the auth-api and not about this service
# (RFC 9110 sections 15.5.6, 15.5.8 and 15.5.22).
_OF_ITSELF = frozenset({405, 407, 426})
# With a problem document, 404 is about the request and not the token URL; 501 blames the auth-api.
_REASONS: Mapping[int, Reason] = MappingProxyType(
    {404: pb.PROBLEM_REASON_RESOURCE_NOT_FOUND, 501: pb.PROBLEM_REASON_INTERNAL}
)
_DETAILS: Mapping[Reason, str] = MappingProxyType(
    {
        pb.PROBLEM_REASON_INVALID_REQUEST: "The auth-api refused the request as malformed.",
        pb.PROBLEM_REASON_INVALID_CLIENT: "The client is unknown, or its secret is wrong. "
        "Check client_id and client_secret.",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A response of the auth-api: its status, the relevant header fields, and its whole body."""

    status: int
    content_type: str
    retry_after: str
    has_challenge: bool  # WWW-Authenticate (RFC 9110 section 11.6.1)
    body: Secret[bytes]  # it may hold a token


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """An access token of the type Bearer that is valid for `expires_in` seconds."""

    access_token: Secret[str]
    expires_in: int


def interpret(response: Response, sent: ClientCredentials) -> Token | Problem:
    """Return the token or the problem in the response to the credentials `sent`.

    Raises UpstreamError.
    """
    if response.status == 200:
        return _read_token(response)
    if not 400 <= response.status <= 599:
        raise UpstreamError("bad_status")
    members = _read_error(response)
    code = members.get("karmoCode")
    if _is_karmo_code(code) and not sent.appear_in(code) and response.status not in _OF_ITSELF:
        return _withhold(_pass_through(response, members, code), sent)
    error = _match(_OAUTH_CODE, members.get("error"))
    if not _is_understood(response, error, members):
        raise UpstreamError("bad_error")
    reason = nearest(response.status, error)
    detail = _DETAILS.get(reason)
    if reason == pb.PROBLEM_REASON_INVALID_CLIENT:
        detail = " ".join((_DETAILS[reason], *sent.find_doubts()))
    return Problem(reason=reason, detail=detail, retry_after=_delay(response, reason))


def registered_error(response: Response) -> str | None:
    """Return the OAuth error code of an error response, if it is a registered one."""
    if response.status == 200:
        return None
    error = _match(_OAUTH_CODE, _read_error(response).get("error"))
    return error if error in REGISTERED else None


def _is_understood(response: Response, error: str | None, members: Mapping[str, JsonValue]) -> bool:
    """Whether an error tells whose fault it is. `members` are the members of its body."""
    if response.status not in _UNDERSTOOD_WITH_ERROR:
        return response.status in _UNDERSTOOD_ALONE
    # RFC 9110 section 15.5.2: a 401 must have a challenge. With one the body does not matter:
    # filters for Basic authentication send HTML.
    is_challenge = response.status == 401 and response.has_challenge
    return error is not None or is_challenge or (_is_problem(response) and bool(members))


def _is_problem(response: Response) -> bool:
    named = media_type.parse(response.content_type)
    return named is not None and named.essence == "application/problem+json"


def _read_token(response: Response) -> Token:
    """Read a successful response (RFC 6749 section 5.1)."""
    # RFC 8259 section 11: JSON has no charset parameter, and one has no effect.
    named = media_type.parse(response.content_type)
    if named is None or named.essence != "application/json":
        raise UpstreamError("bad_media_type")
    members = _parse_object(response.body.reveal())
    access_token, token_type = members.get("access_token"), members.get("token_type")
    expires_in = members.get("expires_in")
    if "error" in members:
        raise UpstreamError("bad_token", "a token and an error at once")
    if not isinstance(access_token, str) or not _ACCESS_TOKEN.fullmatch(access_token):
        raise UpstreamError("bad_token", "access_token is not a string of visible ASCII")
    if not isinstance(token_type, str) or token_type.lower() != "bearer":
        raise UpstreamError("bad_token", "token_type is not Bearer")
    if not _is_number(expires_in) or not 1 <= expires_in <= _MAX_INT32:
        raise UpstreamError("bad_token", "expires_in is not a number of at least 1")
    return Token(access_token=Secret(access_token), expires_in=int(expires_in))


def _is_number(value: JsonValue) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_karmo_code(value: JsonValue) -> TypeGuard[str]:
    return isinstance(value, str) and _KARMO_CODE.fullmatch(value) is not None


def _parse_object(body: bytes) -> Mapping[str, JsonValue]:
    """Return the members of a JSON object. A member that is null counts as absent."""
    try:
        value = strict_json.parse(body)
        if isinstance(value, JsonObject):
            return {name: member for name, member in value.unique().items() if member is not None}
    except ValueError as error:
        raise UpstreamError("bad_json", str(error)) from None
    raise UpstreamError("bad_json", "not an object")


def _read_error(response: Response) -> Mapping[str, JsonValue]:
    """Return the members of an error's body; none of a body that is not understood."""
    named = media_type.parse(response.content_type)
    if named is None or named.essence not in {"application/json", "application/problem+json"}:
        return {}
    try:
        return _parse_object(response.body.reveal())
    except UpstreamError:
        return {}


def _pass_through(response: Response, members: Mapping[str, JsonValue], code: str) -> Problem:
    """Return the problem of an upstream problem document; `status` is that of the response."""
    error = _match(_OAUTH_ERROR, members.get("error"))
    # RFC 6749 section 5.2: failed authentication by a header must be answered with 401.
    status = 401 if error == "invalid_client" else response.status
    reason = _REASONS.get(response.status, nearest(response.status, error))
    return Problem(
        reason=reason,
        status=status,
        karmo_code=code,
        type=_match(_URI, members.get("type")),
        title=_text(members.get("title")),
        detail=_text(members.get("detail")) or "",
        errors=tuple(_field_errors(members.get("karmoErrors"))),
        oauth_error=error,
        retry_after=_delay(response, reason),
    )


def _withhold(problem: Problem, sent: ClientCredentials) -> Problem:
    """Remove texts that contain the credentials `sent`: callers write problems to their logs."""

    def keep(text: str | None) -> str | None:
        return None if text is None or sent.appear_in(text) else text

    return replace(
        problem,
        type=keep(problem.type),
        title=keep(problem.title),
        detail=keep(problem.detail) or "",
        oauth_error=keep(problem.oauth_error),
        errors=tuple(
            error for error in problem.errors if not sent.appear_in(error.detail + error.pointer)
        ),
    )


def _field_errors(value: JsonValue) -> Iterator[FieldError]:
    for entry in value if isinstance(value, list) else []:
        members = dict(entry) if isinstance(entry, JsonObject) else {}
        detail, pointer = _text(members.get("detail")), _match(_POINTER, members.get("pointer"))
        if detail is not None and pointer is not None:
            yield FieldError(detail=detail, pointer=pointer)


def _match(pattern: re.Pattern[str], value: JsonValue) -> str | None:
    return value if isinstance(value, str) and pattern.fullmatch(value) else None


def _text(value: JsonValue) -> str | None:
    """Return `value` on one line, or None for a value that is no text.

    Characters that cannot be printed become spaces: they could control a reader's terminal.
    """
    if not isinstance(value, str):
        return None
    printable = "".join(character if character.isprintable() else " " for character in value)
    return " ".join(printable.split()) or None


def _delay(response: Response, reason: Reason) -> int | None:
    """Return the delay in seconds that the upstream gives, bounded; None if the reason has none."""
    seconds = _read_delay(response.retry_after)
    if seconds is None or not CATALOGUE[reason].retry_after_seconds:
        return None
    return min(max(seconds, 1), _MAX_DELAY)


def _read_delay(text: str) -> int | None:
    """Read Retry-After (RFC 9110 section 10.2.3), seconds or a date; None for anything else."""
    if _SECONDS.fullmatch(text):
        return int(text)
    try:
        at = parsedate_to_datetime(text)
        return math.ceil((at - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):  # also a date without a zone
        return None
