"""gRPC metadata from and to header fields, and the timeout of a call.

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

import binascii
import re
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

from sidecar.transcoding.errors import MalformedRequestError, Violation

# As in ASGI: names are in lower case.
Headers: TypeAlias = Sequence[tuple[bytes, bytes]]
# As in grpc.aio: the values of names that end in -bin are bytes.
Metadata: TypeAlias = tuple[tuple[str, str | bytes], ...]

# Timeout = TimeoutValue TimeoutUnit: at most 8 digits, and a unit.
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_SECONDS: Mapping[bytes, float] = MappingProxyType(
    {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
)
# Upper limit of a timeout. The longest one that the format allows is 11,000 years, and grpcio
# ends such a call at once.
_DAY = 86_400.0
# Header-Name = 1*( %x30-39 / %x61-7A / "_" / "-" / ".")
_NAME = re.compile(r"[0-9a-z_.-]+")
# ASCII-Value = 1*( %x20-%x7E ). An empty field is allowed too, for its presence.
_VALUE = re.compile(r"[\x20-\x7e]*")
# RFC 4648 section 4. The padding may be missing, but not in part.
_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}(?:==)?|[A-Za-z0-9+/]{3}=?)?")
_UNNAMEABLE = "a name is in lower case, and has only 0-9, a-z, _, . and - in it"
_GRPC = "it is reserved for gRPC"
_ONE_CONNECTION = "it is for one connection"
_HTTP = "it belongs to HTTP, not to the call"
_RESERVED: Mapping[str, str] = MappingProxyType(
    {
        # RFC 9110 section 7.6.1, and HTTP2-Settings of RFC 7540 section 3.2.1
        "connection": _ONE_CONNECTION,
        "http2-settings": _ONE_CONNECTION,
        "keep-alive": _ONE_CONNECTION,
        "proxy-connection": _ONE_CONNECTION,
        "te": _ONE_CONNECTION,
        "transfer-encoding": _ONE_CONNECTION,
        "upgrade": _ONE_CONNECTION,
        # Sections 6.6.2 and 11.7: for the chunks, or for the next proxy
        "proxy-authenticate": _ONE_CONNECTION,
        "proxy-authentication-info": _ONE_CONNECTION,
        "proxy-authorization": _ONE_CONNECTION,
        "trailer": _ONE_CONNECTION,
        # Sections 6.6.1, 7.2, 8.3, 8.4, 8.6 and 10.1.1: they describe the HTTP message and not
        # the gRPC one, or are handled before the call
        "content-encoding": _HTTP,
        "content-length": _HTTP,
        "content-type": _HTTP,
        "date": _HTTP,
        "expect": _HTTP,
        "host": _HTTP,
        # grpcio replaces it with its own.
        "user-agent": _GRPC,
    }
)


def check_names(names: Iterable[str]) -> None:
    """Raise ValueError if a header must not be passed on. Its text lists every such name."""
    reasons = {name: _reason(name) for name in sorted(set(names))}
    refused = [f"{name!r} ({reason})" for name, reason in reasons.items() if reason]
    if refused:
        raise ValueError(
            f"Headers that cannot be passed on must not be named: {', '.join(refused)}."
        )


def to_metadata(headers: Headers, allowed: frozenset[bytes]) -> Metadata:
    """Return the fields whose names are in `allowed` as metadata, in order, with repeated ones.

    A value of a name that ends in -bin is split at commas and decoded from base64. A field that
    `Connection` names is for this connection only and left out. Raises MalformedRequestError
    for values that metadata cannot hold.
    """
    names = allowed - _nominated(headers)
    entries: list[tuple[str, str | bytes]] = []
    violations = []
    for name, value in [field for field in headers if field[0] in names]:
        try:
            entries.extend((name.decode(), part) for part in _read(name, value))
        except ValueError as error:
            violations.append(
                Violation(detail=f"The header {name.decode()} must hold {error} only.")
            )
    if violations:
        raise MalformedRequestError.of(violations)
    return tuple(entries)


def to_headers(
    metadata: Iterable[tuple[str, str | bytes]],
    allowed: frozenset[str],
    present: Iterable[str] = (),
) -> list[tuple[str, str]]:
    """Return the entries whose names are in `allowed` as header fields, in order.

    Bytes become base64 without padding, as gRPC sends them. A text that no field can hold is
    left out. So is a field that is among the names that are `present` already, in any case.
    """
    # Vary may be repeated: each one adds fields that the response depends on.
    allowed -= {name.lower() for name in present} - {"vary"}
    fields = [(name, _write(value)) for name, value in metadata if name in allowed]
    return [(name, value) for name, value in fields if value is not None]


def read_timeout(headers: Headers) -> float | None:
    """Return `grpc-timeout` in seconds, a day at most, or None without that field.

    Raises MalformedRequestError if it is malformed or repeated.
    """
    values = [value for name, value in headers if name == b"grpc-timeout"]
    if not values:
        return None
    match = _TIMEOUT.fullmatch(values[0])
    if match is None or len(values) > 1:
        detail = "grpc-timeout must be given once, as up to 8 digits and one of H M S m u n."
        raise MalformedRequestError.of([Violation(detail=detail)])
    return min(int(match[1]) * _SECONDS[match[2]], _DAY)


def _reason(name: str) -> str | None:
    """Return why a header of this name must not be passed on, or None if it may be."""
    if not _NAME.fullmatch(name):  # a pseudo-header field of HTTP/2 begins with a colon
        return _UNNAMEABLE
    return _GRPC if name.startswith("grpc-") else _RESERVED.get(name)


def _nominated(headers: Headers) -> frozenset[bytes]:
    """Return the names in `Connection`, in lower case (RFC 9110 section 7.6.1)."""
    options = b",".join(value for name, value in headers if name == b"connection")
    return frozenset(_split(options.lower()))


def _split(value: bytes) -> list[bytes]:
    return [part.strip(b" \t") for part in value.split(b",")]


def _read(name: bytes, value: bytes) -> list[str] | list[bytes]:
    """Return the values in a field. Raises ValueError, whose text names the allowed content."""
    if name.endswith(b"-bin"):
        # An empty part is an empty value. It is kept, unlike in RFC 9110 section 5.6.1: two
        # fields, one of them empty, may have been joined (section 5.3).
        return [_decode(part) for part in _split(value)]
    text = value.decode("latin-1")
    if not _VALUE.fullmatch(text):
        raise ValueError("printable ASCII characters")
    return [text]


def _decode(text: bytes) -> bytes:
    if not _BASE64.fullmatch(text):
        raise ValueError("base64 (RFC 4648 section 4)")
    return binascii.a2b_base64(text + b"=" * (-len(text) % 4))


def _write(value: str | bytes) -> str | None:
    if isinstance(value, bytes):
        return b64encode(value).rstrip(b"=").decode()
    # A line break would begin another field, and text that is not ASCII has no defined meaning
    # (RFC 9110 section 5.5). The response is right without the field, so the field is left out.
    # Spaces around a value are not part of it.
    return value.strip(" ") if _VALUE.fullmatch(value) else None
