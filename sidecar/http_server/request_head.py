"""Checks of the head of an HTTP/1 request, before a parser reads it. Without I/O.

RFC 9112 lets parsers accept some broken heads, and parsers differ in which. Where a proxy
and the server behind it differ, one request can hide another (request smuggling). So
every head that parsers may read differently is refused here.
"""

import re

from sidecar.http_server.counts import Refusal

MAX_BYTES = 16 * 1024
MAX_LINE_BYTES = 8 * 1024
MAX_FIELDS = 64

# The end of a head, as strict parsers see it and those that accept a bare LF.
END = re.compile(rb"\n\r?\n")
# RFC 9112 section 3, with the characters of RFC 9110 section 5.6.2 and RFC 3986.
_REQUEST_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ [\x21-\x7e]+ HTTP/1\.([01])\r\n")
# Section 2.2: a bare CR or LF. Section 5.2: a line that continues the one before it.
_BAD_LINE_END = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)|\n[ \t]")
# The white space around a value is stripped afterwards: a pattern for it takes time that
# grows with the square of its length.
_FIELD = re.compile(rb"\n([^:\r\n]*):([^\r\n]*)\r")
# RFC 9110 section 7.2: uri-host [":" port], where RFC 3986 lets the host be empty.
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._~!$&'()*+,;=%-]*)(?::[0-9]*)?")


# A POST of HTTP/1.1 with a head that all parsers read alike.
_PLAIN_POST = re.compile(
    rb"POST [\x21-\x7e]+ HTTP/1\.1\r\n(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\0\r\n]*\r\n)*\r\n"
)
_LENGTH = re.compile(rb"\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*\r", re.IGNORECASE)
# Fields that ask for more than a response, or that change where the body ends.
_MORE = re.compile(
    rb"\n(?:transfer-encoding:|expect:|upgrade:|connection:(?![ \t]*keep-alive[ \t]*\r))",
    re.IGNORECASE,
)


class HeadError(Exception):
    """A head that is refused for `reason`, with this HTTP status and detail."""

    def __init__(self, reason: Refusal, status: int, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.status = status
        self.detail = detail


def check(data: bytes) -> None:
    """Check the head, or the part of one, that `data` begins with. Raises HeadError."""
    end = END.search(data)
    head = data[: end.end()] if end else data
    line_end = head.find(b"\n") + 1
    if (line_end or len(head)) > MAX_LINE_BYTES:
        raise HeadError(
            Refusal.TARGET_TOO_LONG,
            414,
            f"The request line must not be longer than {MAX_LINE_BYTES} bytes.",
        )
    if line_end:
        _check_lines(head, line_end)
    if end:
        _check_fields(head, line_end)


def is_whole_post(data: bytes) -> bool:
    """Whether `data` is exactly one plain POST whose head passes `check`.

    False for a request that needs a parser: chunks, `Expect`, `Upgrade`, a second request.
    """
    head = _PLAIN_POST.match(data)
    if head is None or _MORE.search(head[0]):
        return False
    try:
        check(head[0])
    except HeadError:
        return False
    length = _LENGTH.search(head[0])
    return length is not None and len(data) == head.end() + int(length[1])


def has_bad_line_end(data: bytes) -> bool:
    """Whether a line of `data` ends with a bare CR or LF, or continues the line before it."""
    return _BAD_LINE_END.search(data) is not None


def _check_lines(head: bytes, line_end: int) -> None:
    if not _REQUEST_LINE.fullmatch(head, 0, line_end):
        raise HeadError(
            Refusal.REQUEST_LINE, 400, "The request line must be a method, a target and HTTP/1.1."
        )
    if len(head) > MAX_BYTES:
        raise HeadError(
            Refusal.HEADER_TOO_LARGE,
            431,
            f"The header fields must not be larger than {MAX_BYTES} bytes.",
        )
    if head.count(b"\n", line_end) > MAX_FIELDS + 1:
        raise HeadError(
            Refusal.TOO_MANY_FIELDS,
            431,
            f"There must not be more than {MAX_FIELDS} header fields.",
        )
    if has_bad_line_end(head):
        raise HeadError(
            Refusal.FIELD_LINE, 400, "Each header field must be one line that ends with CR LF."
        )


def _check_fields(head: bytes, line_end: int) -> None:
    is_1_1 = head[line_end - 3 : line_end - 2] == b"1"
    raw = _FIELD.findall(head, line_end - 1)
    fields = [(name.lower(), value.strip(b" \t")) for name, value in raw]
    hosts = [value for name, value in fields if name == b"host"]
    # RFC 9112 section 3.2.
    if len(hosts) > 1 or (is_1_1 and not hosts) or not all(map(_HOST.fullmatch, hosts)):
        raise HeadError(Refusal.HOST, 400, "There must be one Host field, which names a host.")
    codings = [value.lower() for name, value in fields if name == b"transfer-encoding"]
    lengths = [value for name, value in fields if name == b"content-length"]
    # RFC 9112 sections 6.1 to 6.3: two lengths of one body may be an attack.
    if len(lengths) + len(codings) > 1 or not all(map(bytes.isdigit, lengths)):
        raise HeadError(
            Refusal.LENGTH,
            400,
            "The length of the body must be told once, by a number or by chunks.",
        )
    if codings and (codings != [b"chunked"] or not is_1_1):
        raise HeadError(
            Refusal.TRANSFER_ENCODING,
            400,
            "The only Transfer-Encoding must be chunked, in HTTP/1.1.",
        )
