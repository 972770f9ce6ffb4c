"""The period of validity of X.509 certificates, read from their DER (RFC 5280 section 4.1).

The standard library does not tell it for a certificate that is not the peer's. OpenSSL has
accepted a certificate before it is read here, so only the way to its dates is checked.
"""

import base64
import re
from collections.abc import Iterator
from datetime import UTC, datetime

# RFC 7468 section 5, with the other labels that OpenSSL accepts.
_PEM = re.compile(
    rb"-----BEGIN ((?:X509 |TRUSTED )?CERTIFICATE)-----(.*?)-----END \1-----", re.DOTALL
)
# Tags of DER (X.690 section 8).
_INTEGER, _UTC_TIME, _GENERALIZED_TIME, _SEQUENCE, _VERSION = 0x02, 0x17, 0x18, 0x30, 0xA0
_LONG = 0x80  # set in a length that has more than one byte
# RFC 5280 sections 4.1.2.5.1 and 4.1.2.5.2: in UTC, to the second.
_TIMES = {_UTC_TIME: "[0-9]{12}Z", _GENERALIZED_TIME: "[0-9]{14}Z"}


def certificates_in(pem: bytes) -> Iterator[bytes]:
    """Yield the DER of each certificate in `pem`. Raises ValueError for bad base64."""
    for match in _PEM.finditer(pem):
        yield base64.b64decode(b"".join(match[2].split()), validate=True)


def period_of(der: bytes) -> tuple[datetime, datetime]:
    """Return the first and the last second in which the certificate is valid.

    Raises ValueError.
    """
    certificate, _ = _take(der, _SEQUENCE)
    fields, _ = _take(certificate, _SEQUENCE)
    if fields[:1] == bytes((_VERSION,)):  # absent in version 1
        _, fields = _take(fields, _VERSION)
    for tag in (_INTEGER, _SEQUENCE, _SEQUENCE):  # serial number, algorithm, issuer
        _, fields = _take(fields, tag)
    validity, _ = _take(fields, _SEQUENCE)
    begin, validity = _take_time(validity)
    end, _ = _take_time(validity)
    return begin, end


def _take_time(data: bytes) -> tuple[datetime, bytes]:
    """Return the time that `data` begins with, and the rest."""
    text, rest = _take(data, _UTC_TIME, _GENERALIZED_TIME)
    return _parse_time(data[0], text.decode("ascii")), rest


def _take(data: bytes, *tags: int) -> tuple[bytes, bytes]:
    """Return the content of the first element of `data`, which has one of `tags`, and the rest."""
    if len(data) < 2 or data[0] not in tags:
        raise ValueError("another element was expected")
    size, begin = data[1], 2
    if size >= _LONG:
        begin += size - _LONG
        size = int.from_bytes(data[2:begin])
    if len(data) < begin + size:
        raise ValueError("an element ends too early")
    return data[begin : begin + size], data[begin + size :]


def _parse_time(tag: int, text: str) -> datetime:
    if not re.fullmatch(_TIMES[tag], text):
        raise ValueError("a time in UTC was expected")
    if tag == _UTC_TIME:
        text = ("19" if text >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
