"""Client authentication at the token endpoint (RFC 6749 section 2.3.1), without I/O.

From what either protocol carries, the Basic header and the fields of the
request, to the credentials for the auth-api or to the problem that they are.
"""

import base64
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote_plus

from karmo.problem.v1.problem_details_pb2 import (
    PROBLEM_REASON_INVALID_CLIENT as INVALID_CLIENT,
)
from karmo.problem.v1.problem_details_pb2 import (
    PROBLEM_REASON_INVALID_REQUEST as INVALID_REQUEST,
)
from karmo.problem.v1.problem_details_pb2 import (
    PROBLEM_REASON_UNSUPPORTED_GRANT_TYPE as UNSUPPORTED_GRANT_TYPE,
)

from sidecar.problems import FieldError, Problem, ProblemError, Reason
from sidecar.secret import Secret
from sidecar.transcoding.percent import decode_form

GRANT_TYPE = "client_credentials"
# Appendix A.1 and A.2: client_id and client_secret are *VSCHAR, %x20-7E.
_NOT_VSCHAR = re.compile(r"[^\x20-\x7e]")
# RFC 9110 section 11.4: credentials = auth-scheme [ 1*SP ( token68 / ... ) ]
_CREDENTIALS = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?: +(.*))?", re.DOTALL)
# RFC 4648 section 4; missing padding is accepted, as by most token endpoints.
_BASE64 = re.compile("[A-Za-z0-9+/]+={0,2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """What a caller sent, by whichever protocol. An empty string is an absent one (section 3.2)."""

    grant_type: str
    client_id: Secret
    client_secret: Secret
    authorization: tuple[Secret, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCredentials:
    """Complete credentials of a client, in the form in which it sent them.

    With HTTP Basic, `authorization` is the header as it came: clients disagree
    on how to encode it, so only the server that knows the client may decode it.
    """

    client_id: Secret
    client_secret: Secret
    authorization: Secret | None

    def appear_in(self, text: str) -> bool:
        """Whether `text` shows any of them, in any form that they had on their way.

        What is shorter than 4 characters is not looked for.
        """
        folded = _fold(text)
        return any(len(form) >= 4 and form in folded for form in self._forms())

    def _forms(self) -> Iterator[str]:
        values = [self.client_id.reveal(), self.client_secret.reveal()]
        if self.authorization:
            token = self.authorization.reveal().split()[-1]
            values += [token, *_decode_base64(token).decode().split(":", 1)]
        for value in values:
            yield _fold(value)
            yield quote_plus(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Basic:
    """A decoded Basic header. `raw_id` is its id as it stood before form-decoding."""

    raw_id: str
    client_id: str
    client_secret: str

    def __repr__(self) -> str:
        return "_Basic(***)"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fault:
    reason: Reason
    detail: str
    pointer: str | None = None


class _HeaderError(Exception):
    """The Authorization header cannot be read; the text says why, and nothing of the header."""


Header = _Basic | _HeaderError | None


def check(request: TokenRequest) -> ClientCredentials:
    """Return the credentials that `request` carries.

    Raises ProblemError. Of several faults the first, in the order of `_CHECKS`,
    gives the reason; every fault of a field is listed.
    """
    header = _read_header(request.authorization)
    faults = [fault for find in _CHECKS for fault in find(request, header)]
    if faults:
        raise ProblemError(_to_problem(faults))
    if isinstance(header, _Basic):
        return ClientCredentials(
            client_id=Secret(header.client_id),
            client_secret=Secret(header.client_secret),
            authorization=request.authorization[0],
        )
    return ClientCredentials(
        client_id=request.client_id, client_secret=request.client_secret, authorization=None
    )


def _to_problem(faults: Sequence[_Fault]) -> Problem:
    first = faults[0]
    return Problem(
        reason=first.reason,
        detail=first.detail,
        errors=tuple(
            FieldError(detail=fault.detail, pointer=fault.pointer)
            for fault in faults
            if fault.pointer is not None
        ),
    )


def _header_faults(_request: TokenRequest, header: Header) -> Iterator[_Fault]:
    if isinstance(header, _HeaderError):
        yield _Fault(reason=INVALID_REQUEST, detail=str(header))


def _method_faults(request: TokenRequest, header: Header) -> Iterator[_Fault]:
    """Section 2.3: a client must not use more than one authentication method in a request."""
    if request.authorization and request.client_secret.reveal():
        yield _Fault(
            reason=INVALID_REQUEST,
            detail="Remove client_secret or the Authorization header: a request must use "
            "one way of authentication.",
            pointer="/client_secret",
        )
    client_id = request.client_id.reveal()
    if isinstance(header, _Basic) and client_id not in ("", header.raw_id, header.client_id):
        yield _Fault(
            reason=INVALID_REQUEST,
            detail="Remove client_id, or send the same one as in the Authorization header.",
            pointer="/client_id",
        )


def _grant_type_faults(request: TokenRequest, _header: Header) -> Iterator[_Fault]:
    """Section 4.4.2; section 5.2 tells a missing grant type from an unsupported one."""
    if not request.grant_type:
        yield _Fault(
            reason=INVALID_REQUEST,
            detail=f"grant_type is missing; send {GRANT_TYPE}.",
            pointer="/grant_type",
        )
    elif request.grant_type != GRANT_TYPE:
        shown = _NOT_VSCHAR.sub("?", request.grant_type[:64])
        yield _Fault(
            reason=UNSUPPORTED_GRANT_TYPE,
            detail=f"grant_type '{shown}' is not supported; send {GRANT_TYPE}.",
            pointer="/grant_type",
        )


def _field_faults(request: TokenRequest, _header: Header) -> Iterator[_Fault]:
    for name, value in (("client_id", request.client_id), ("client_secret", request.client_secret)):
        if _NOT_VSCHAR.search(value.reveal()):
            yield _Fault(
                reason=INVALID_REQUEST,
                detail=f"{name} must hold printable ASCII characters only.",
                pointer=f"/{name}",
            )


def _authentication_faults(request: TokenRequest, header: Header) -> Iterator[_Fault]:
    """Section 5.2: without complete credentials by a supported method it is invalid_client."""
    client_id, client_secret = request.client_id.reveal(), request.client_secret.reveal()
    if isinstance(header, _Basic):
        client_id, client_secret = header.client_id, header.client_secret
    elif request.authorization:
        client_id = client_secret = ""
    if not (client_id and client_secret):
        yield _Fault(
            reason=INVALID_CLIENT,
            detail="Send client_id and client_secret: by HTTP Basic authentication, "
            "or both in the request.",
        )


_CHECKS = (
    _header_faults,
    _method_faults,
    _grant_type_faults,
    _field_faults,
    _authentication_faults,
)


def _read_header(values: Sequence[Secret]) -> Header:
    """Return the decoded header, why it is malformed, or None if none is of the Basic scheme."""
    if not values:
        return None
    if len(values) > 1:
        return _HeaderError("Send one Authorization header only.")
    found = _CREDENTIALS.fullmatch(values[0].reveal())
    if found is None:
        return _HeaderError("The Authorization header is malformed.")
    if found[1].lower() != "basic":
        return None
    try:
        return _decode_basic(found[2] or "")
    except _HeaderError as error:
        return error


def _decode_basic(token: str) -> _Basic:
    """Decode as RFC 7617 section 2 and then, each half by itself, as RFC 6749 section 2.3.1."""
    try:
        text = _decode_base64(token).decode()
    except ValueError:
        raise _HeaderError(
            "The Basic credentials in the Authorization header are not UTF-8 in base64."
        ) from None
    raw_id, colon, raw_secret = text.partition(":")
    if not colon:
        raise _HeaderError(
            "The Basic credentials in the Authorization header hold no colon between "
            "client_id and client_secret."
        )
    try:
        client_id, client_secret = decode_form(raw_id), decode_form(raw_secret)
    except ValueError:
        raise _HeaderError(
            "The Basic credentials in the Authorization header hold a malformed percent "
            "escape; write a percent sign as %25."
        ) from None
    if _NOT_VSCHAR.search(client_id + client_secret):
        raise _HeaderError(
            "The Basic credentials in the Authorization header must hold printable ASCII "
            "characters only."
        )
    return _Basic(raw_id=raw_id, client_id=client_id, client_secret=client_secret)


def _fold(text: str) -> str:
    """Return `text` with each run of white space as one space, since such runs get lost."""
    return " ".join(text.split())


def _decode_base64(token: str) -> bytes:
    if not _BASE64.fullmatch(token):
        raise ValueError("not base64")
    if token.endswith("=") and len(token) % 4:
        raise ValueError("wrong padding")
    return base64.b64decode(token + "=" * (-len(token) % 4), validate=True)
