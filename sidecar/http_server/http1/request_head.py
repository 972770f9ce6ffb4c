"""A strict reader of the head of an HTTP/1 request, without I/O.

RFC 9112 lets parsers accept some broken heads, and parsers differ in which. Where a proxy
and the server behind it differ, one request can hide another (request smuggling). So
every head that parsers may read differently is refused here.
"""

import re
from typing import NamedTuple

from sidecar.http_server.counts import Refusal
from sidecar.http_server.http1.refusal import BadHttpError, RefusedError

MAX_BYTES = 16 * 1024
MAX_LINE_BYTES = 8 * 1024
MAX_FIELDS = 64
# A length with more digits is no real size, and takes time to convert.
_MAX_DIGITS = 20

# RFC 9110 section 5.6.2.
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
# RFC 9112 section 3. A target may have any visible character: the router reads it strictly.
_LINE = rb"(%s) ([\x21-\x7e]++) HTTP/1\.([01])\r\n" % _TOKEN
# RFC 9112 section 5, and RFC 9110 section 5.5. It never backtracks, so its time is linear.
_HEAD = re.compile(rb"%s((?:%s:[\t\x20-\x7e\x80-\xff]*+\r\n)*+)\r\n" % (_LINE, _TOKEN))
# The white space around a value is stripped afterwards: a pattern for it takes time that
# grows with the square of its length.
_FIELD = re.compile(rb"([^:]+):([^\r]*)\r\n")
# RFC 9110 section 7.2: uri-host [":" port], where RFC 3986 lets the host be empty.
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._~!$&'()*+,;=%-]*)(?::[0-9]*)?")

# For the error of a head that does not match:
_REQUEST_LINE = re.compile(_LINE)
# The end of a head, as strict parsers see it and those that accept a bare LF.
_END = re.compile(rb"\n\r?\n")
# Section 2.2: a bare CR or LF. Section 5.2: a line that continues the one before it.
_BAD_LINE_END = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)|\n[ \t]")

# Fields that say where the request ends, and what becomes of its connection.
_FRAMING = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"connection", b"expect", b"upgrade"}
)
_Framing = dict[bytes, list[bytes]]
# The fields among these, and the options of its connection, that a plain request may have.
_PLAIN = frozenset({b"host", b"content-length", b"connection"})
_PLAIN_OPTIONS = frozenset({b"keep-alive"})
_CONTINUE = b"100-continue"


class RequestHead(NamedTuple):
    """The head of a request, of `size` bytes. Names of fields are in lower case.

    * `length` is that of the body in bytes, None for a chunked one.
    * `closes`: the connection must end with the response (RFC 9112 section 9.6).
    * `expects_continue`: the client waits for `100 Continue` (RFC 9110 section 10.1.1).
    * `is_plain`: a POST with a length that asks for nothing but a response.
    """

    size: int
    method: str
    target: bytes
    version: str
    fields: list[tuple[bytes, bytes]]
    length: int | None
    closes: bool
    expects_continue: bool
    is_plain: bool


def read(data: bytes) -> RequestHead | None:
    """Return the head that `data` begins with, or None if only a part of it is here.

    Raises RefusedError for a head, or a part of one, that no client may send.
    """
    match = _HEAD.match(data, 0, MAX_BYTES)
    if match is None:
        _check_part(data)
        return None
    method, target, minor, lines = match.groups()
    fields = [(name.lower(), value.strip(b" \t")) for name, value in _FIELD.findall(lines)]
    if len(fields) > MAX_FIELDS or match.start(4) > MAX_LINE_BYTES:
        _check_part(data)  # raises the error of the limit
    framing: _Framing = {}
    for name, value in fields:
        if name in _FRAMING:
            framing.setdefault(name, []).append(value)
    is_1_1 = minor == b"1"
    _check_host(framing, is_1_1=is_1_1)
    length = _read_length(framing, is_1_1=is_1_1)
    options = _options(framing)
    return RequestHead(
        size=match.end(),
        method=method.decode("ascii"),
        target=target,
        version="1.1" if is_1_1 else "1.0",
        fields=fields,
        length=length,
        # HTTP/1.0 has no connections to keep: RFC 9112 section 9.3 leaves it to the server.
        closes=b"close" in options or not is_1_1,
        expects_continue=is_1_1
        and length != 0
        and _CONTINUE in map(bytes.lower, framing.get(b"expect", ())),
        is_plain=method == b"POST"
        and is_1_1
        and b"content-length" in framing
        and framing.keys() <= _PLAIN
        and options <= _PLAIN_OPTIONS,
    )


def _check_host(framing: _Framing, *, is_1_1: bool) -> None:
    """Raise RefusedError unless the Host field is as in RFC 9112 section 3.2."""
    hosts = framing.get(b"host", ())
    if len(hosts) > 1 or (is_1_1 and not hosts) or not all(map(_HOST.fullmatch, hosts)):
        raise RefusedError(Refusal.HOST, 400, "There must be one Host field, which names a host.")


def _read_length(framing: _Framing, *, is_1_1: bool) -> int | None:
    """Return the length of the body, or None if it is chunked. Raises RefusedError."""
    codings = [coding.lower() for coding in framing.get(b"transfer-encoding", ())]
    lengths = framing.get(b"content-length", ())
    # RFC 9112 sections 6.1 to 6.3: two lengths of one body may be an attack.
    if len(lengths) + len(codings) > 1 or not all(map(bytes.isdigit, lengths)):
        raise RefusedError(
            Refusal.LENGTH,
            400,
            "The length of the body must be given once, by a number or by chunks.",
        )
    if codings and (codings != [b"chunked"] or not is_1_1):
        raise RefusedError(
            Refusal.TRANSFER_ENCODING,
            400,
            "The only Transfer-Encoding must be chunked, in HTTP/1.1.",
        )
    if not lengths:
        return None if codings else 0
    if len(lengths[0]) > _MAX_DIGITS:
        raise BadHttpError
    return int(lengths[0])


def _options(framing: _Framing) -> set[bytes]:
    """Return the options of the connection (RFC 9110 section 7.6.1)."""
    listed = b",".join(framing.get(b"connection", ()))
    return {option.strip(b" \t").lower() for option in listed.split(b",")} if listed else set()


def _check_part(data: bytes) -> None:
    """Raise RefusedError unless `data` is a part of a head."""
    end = _END.search(data)
    head = data[: end.end()] if end else data
    line_end = head.find(b"\n") + 1
    if (line_end or len(head)) > MAX_LINE_BYTES:
        raise RefusedError(
            Refusal.TARGET_TOO_LONG,
            414,
            f"The request line must not be longer than {MAX_LINE_BYTES} bytes.",
        )
    if line_end:
        _check_lines(head, line_end)
    if end:
        raise BadHttpError


def _check_lines(head: bytes, line_end: int) -> None:
    if not _REQUEST_LINE.fullmatch(head, 0, line_end):
        raise RefusedError(
            Refusal.REQUEST_LINE, 400, "The request line must be a method, a target and HTTP/1.1."
        )
    if len(head) > MAX_BYTES:
        raise RefusedError(
            Refusal.HEADER_TOO_LARGE,
            431,
            f"The header fields must not be larger than {MAX_BYTES} bytes.",
        )
    if head.count(b"\n", line_end) > MAX_FIELDS + 1:
        raise RefusedError(
            Refusal.TOO_MANY_FIELDS,
            431,
            f"There must not be more than {MAX_FIELDS} header fields.",
        )
    if _BAD_LINE_END.search(head):
        raise RefusedError(
            Refusal.FIELD_LINE, 400, "Each header field must be one line that ends with CR LF."
        )
