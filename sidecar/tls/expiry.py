"""The dates in certificates (RFC 5280), which the `ssl` module tells only of peers."""

import base64
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache

# RFC 7468 section 5.1.
_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
_VERSION, _UTC_TIME = 0xA0, 0x17  # tags


@lru_cache(maxsize=8)
def earliest(pem: bytes) -> float | None:
    """Return when the first of the certificates in `pem` expires, in seconds since the epoch.

    None if there is no certificate that can be read.
    """
    return min(_expiries(pem), default=None)


def _expiries(pem: bytes) -> Iterator[float]:
    for block in _BLOCK.findall(pem):
        with suppress(ValueError, IndexError):  # OpenSSL is the judge of certificates
            yield _not_after(base64.b64decode(block))


def _not_after(der: bytes) -> float:
    """Return the end of the validity (RFC 5280 section 4.1). Raises ValueError or IndexError."""
    _, at, _ = _element(der, 0)  # Certificate
    _, at, _ = _element(der, at)  # TBSCertificate
    tag, _, end = _element(der, at)
    at = end if tag == _VERSION else at
    for _ in ("serialNumber", "signature", "issuer"):
        _, _, at = _element(der, at)
    _, at, _ = _element(der, at)  # Validity
    _, _, at = _element(der, at)  # notBefore
    tag, start, end = _element(der, at)
    text = der[start:end].decode("ascii")
    if tag == _UTC_TIME:  # section 4.1.2.5.1: a year of 50 or more is in the last century
        text = ("19" if text >= "5" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """Return the tag of the element at `at`, and where its contents begin and end (X.690, 8.1)."""
    tag, length, start = der[at], der[at + 1], at + 2
    if length & 0x80:
        size = length & 0x7F
        length = int.from_bytes(der[start : start + size])
        start += size
    return tag, start, start + length
