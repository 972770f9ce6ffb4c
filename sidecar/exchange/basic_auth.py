"""Parser of HTTP Basic credentials (RFC 7617, RFC 6749 section 2.3.1)."""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass

from sidecar import stray_characters
from sidecar.secret import Secret
from sidecar.transcoding.percent import decode_form

# RFC 9110 section 11.4: credentials = auth-scheme [ 1*SP ( token68 / ... ) ]
_CREDENTIALS = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?: +(.*))?", re.DOTALL)
# RFC 4648 section 4; missing padding is accepted, as by most token endpoints.
_BASE64 = re.compile("[A-Za-z0-9+/]+={0,2}")
# RFC 6749 appendix A.1 and A.2: client_id and client_secret are *VSCHAR, %x20-7E.
_VSCHARS = re.compile(r"[\x20-\x7e]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Basic:
    """The credentials of one Authorization header.

    `token` is the base64 text. `raw_id` and `raw_secret` are its two halves before
    form-decoding, `client_id` and `client_secret` after it. A half that cannot be decoded
    stays as it is, and `is_decoded` is False: the auth-api may take it, since many clients
    do not encode and some servers do not decode.
    """

    token: Secret[str]
    raw_id: Secret[str]
    raw_secret: Secret[str]
    client_id: Secret[str]
    client_secret: Secret[str]
    is_decoded: bool

    @property
    def encoded(self) -> tuple[Secret[str], ...]:
        """Every form of the credentials in the header, for a search for leaked ones."""
        return (self.raw_id, self.raw_secret, Secret(self.token.reveal().rstrip("=")))


class AuthorizationError(Exception):
    """The Authorization header is invalid. The text says why, and never quotes the header."""


def read_authorization(values: Sequence[Secret[str]]) -> Basic | None:
    """Return the credentials in `values`, the Authorization headers of a request.

    None without a header, or if its scheme is not Basic. Raises AuthorizationError.
    """
    if not values:
        return None
    if len(values) > 1:
        raise AuthorizationError("Send one Authorization header only.")
    match = _CREDENTIALS.fullmatch(values[0].reveal())
    if match is None:
        raise AuthorizationError(
            "The Authorization header is malformed; send Basic, a space, and the base64 of "
            "client_id, a colon and client_secret."
        )
    return _decode(match[2] or "") if match[1].lower() == "basic" else None


def _decode(token: str) -> Basic:
    """Decode base64 (RFC 7617 section 2), then form-decode each half (RFC 6749 section 2.3.1)."""
    try:
        text = _decode_base64(token).decode()
    except ValueError:
        raise _malformed("are not UTF-8 in base64.") from None
    raw_id, colon, raw_secret = text.partition(":")
    if not colon:
        raise _malformed("hold no colon between client_id and client_secret.")
    client_id, client_secret = _decode_form(raw_id), _decode_form(raw_secret)
    is_decoded = client_id is not None and client_secret is not None
    client_id = raw_id if client_id is None else client_id
    client_secret = raw_secret if client_secret is None else client_secret
    if not _VSCHARS.fullmatch(raw_id + raw_secret + client_id + client_secret):
        stray = stray_characters.describe(text)
        hint = f" Their text {stray}." if stray else ""
        raise _malformed(f"must hold printable ASCII characters only.{hint}")
    return Basic(
        token=Secret(token),
        raw_id=Secret(raw_id),
        raw_secret=Secret(raw_secret),
        client_id=Secret(client_id),
        client_secret=Secret(client_secret),
        is_decoded=is_decoded,
    )


def _decode_form(text: str) -> str | None:
    try:
        return decode_form(text)
    except ValueError:
        return None


def _decode_base64(token: str) -> bytes:
    if not _BASE64.fullmatch(token):
        raise ValueError("not base64")
    if token.endswith("=") and len(token) % 4:
        raise ValueError("wrong padding")
    return base64.b64decode(token + "=" * (-len(token) % 4), validate=True)


def _malformed(violation: str) -> AuthorizationError:
    return AuthorizationError(f"The Basic credentials in the Authorization header {violation}")
