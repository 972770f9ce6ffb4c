"""A writer of HTTP/1 responses, without I/O."""

import time
from collections.abc import Sequence
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
FAILED = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
# RFC 9110 sections 15.3.5 and 15.4.5: these have no content.
_WITHOUT_CONTENT = frozenset({204, 304})
_CLOSE = (b"Connection", b"close")


class ResponseWriter:
    """Writes the response to one request, of the HTTP `version` 1.0 or 1.1.

    `start` makes the head, and each call of `write` returns bytes for the connection; the first
    ones begin with the head. Both raise ValueError for a response that HTTP cannot have.

    `closes`: the connection must end with the response. `ends_by_close`: only the end of the
    connection shows the end of the response.
    """

    def __init__(self, version: str, *, is_head: bool) -> None:
        self.closes = False
        self.ends_by_close = False
        self._is_1_1 = version == "1.1"
        self._is_head = is_head
        self._has_content = True
        self._is_chunked = False
        self._left: int | None = None  # bytes of content that must follow
        self._head = b""

    def start(self, status: int, fields: Sequence[tuple[bytes, bytes]], *, closes: bool) -> None:
        """Begin with this status and these fields. `closes`: the connection ends with it."""
        # A start before this one may have failed.
        self._left, self._is_chunked, self.ends_by_close = None, False, False
        self._has_content = not self._is_head
        kept = []
        for name, value in fields:
            lower = name.lower()
            if lower == b"connection":
                closes = closes or value.lower() == b"close"
            elif lower == b"content-length":
                self._left = int(value)
                kept.append((name, value))
            elif lower != b"transfer-encoding":  # the framing is chosen here
                kept.append((name, value))
        if status in _WITHOUT_CONTENT:
            self._has_content = False
        elif self._left is None and self._has_content:
            self._frame(kept)
        self.closes = self.closes or closes or self.ends_by_close
        if self.closes:
            kept.append(_CLOSE)
        self._head = _serialize(status, kept)

    def _frame(self, fields: list[tuple[bytes, bytes]]) -> None:
        """Choose how a client finds the end of the content (RFC 9112 section 6.3)."""
        self._is_chunked = self._is_1_1
        self.ends_by_close = not self._is_1_1
        if self._is_chunked:
            fields.append((b"transfer-encoding", b"chunked"))

    def write(self, content: bytes, *, is_last: bool) -> bytes:
        """Return the bytes for a part of the content. `is_last`: no more follows."""
        if self._left is not None and self._has_content:
            left = self._left - len(content)
            if left < 0 or (is_last and left):
                raise ValueError("the content is not as long as Content-Length says")
            self._left = left
        head, self._head = self._head, b""
        if not self._has_content:
            return head
        if not self._is_chunked:
            return head + content
        # An empty chunk would be the last one.
        chunk = b"%x\r\n%b\r\n" % (len(content), content) if content else b""
        return head + chunk + (b"0\r\n\r\n" if is_last else b"")


def _serialize(status: int, fields: Sequence[tuple[bytes, bytes]]) -> bytes:
    lines = [_status_line(status), b"date: ", _date(int(time.time())), b"\r\n"]
    for name, value in fields:
        lines += (name, b": ", value, b"\r\n")
    lines.append(b"\r\n")
    head = b"".join(lines)
    count = len(fields) + 3
    # RFC 9110 section 5.5: a line end in a value would begin a field of its own.
    if head.count(b"\n") != count or head.count(b"\r") != count or b"\0" in head:
        raise ValueError("a header field holds a line end or NUL")
    return head


@lru_cache
def _status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


@lru_cache(maxsize=1)
def _date(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode()
