"""Compression of responses by gzip, for clients that accept it (RFC 9110 section 12.5.3)."""

import re
import zlib
from collections.abc import Iterable, Mapping

from starlette.requests import Request
from starlette.responses import Response

# A coding and its weight (sections 5.6.2, 8.4.1 and 12.4.2).
_ELEMENT = re.compile(
    r"[ \t]*([!#$%&'*+.^_`|~0-9a-z-]+)[ \t]*"
    r"(?:;[ \t]*q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)[ \t]*)?",
    re.IGNORECASE,
)
_REFUSING = ("no-store", "no-transform")
# The fastest, because it holds up the event loop: about 5 ms per MiB of JSON.
_LEVEL = 1
# With the header and trailer of gzip instead of those of zlib.
_GZIP = 16 + zlib.MAX_WBITS


def compress(response: Response, request: Request, min_bytes: int) -> None:
    """Compress the content of `response` in place if it may be, and the client accepts gzip.

    A response of less than `min_bytes` is compressed only for a client that refuses identity, the
    name for no coding.

    It may be compressed if it has a Cache-Control field without no-store and no-transform. A
    response that must not be stored may hold a secret, and the length of a compressed text reveals
    something about a secret in it. A response without the field may still get no-store from an
    outer application. With no-transform a gateway must leave the content as it is (RFC 9111
    section 5.2.2.6).

    It may not be compressed if it has a strong entity tag: that belongs to the bytes as they are
    (section 8.8.3), and clients need a strong one for If-Match.
    """
    headers = response.headers
    cache_control = ",".join(headers.getlist("Cache-Control")).lower()
    is_strong = not headers.get("ETag", "W/").startswith("W/")
    is_refused = any(directive in cache_control for directive in _REFUSING)
    if not cache_control or is_refused or is_strong:
        return
    headers.append("Vary", "Accept-Encoding")  # to those of the service
    accept_encoding = request.headers.getlist("Accept-Encoding")
    if chooses_gzip(accept_encoding, is_small=len(response.body) < min_bytes):
        response.body = zlib.compress(response.body, _LEVEL, _GZIP)
        headers["Content-Encoding"] = "gzip"
        headers["Content-Length"] = str(len(response.body))


def chooses_gzip(accept_encoding: Iterable[str], *, is_small: bool) -> bool:
    """Whether to respond in gzip to a client that sent these `Accept-Encoding` fields.

    If they accept it, gzip is preferred to no coding (identity), unless the weight of identity is
    greater. Content that `is_small` is sent in gzip only if identity is refused. If both are
    refused, there is no coding: a response that the client may be able to read is better than none.
    """
    weights = _weights(accept_encoding)
    # Section 8.4.1.3: x-gzip is another name of gzip.
    gzip = weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0)))
    identity = weights.get("identity", weights.get("*", 1.0))
    if gzip == 0 or gzip < weights.get("identity", 0.0):
        return False
    return not is_small or identity == 0


def _weights(accept_encoding: Iterable[str]) -> Mapping[str, float]:
    """Return the weight of each coding in lower case, without malformed elements."""
    matches = map(_ELEMENT.fullmatch, ",".join(accept_encoding).split(","))
    return {match[1].lower(): float(match[2] or 1) for match in matches if match}
