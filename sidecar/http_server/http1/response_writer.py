"""A writer of HTTP/1 responses, without I/O."""

import re
import time
from collections.abc import Iterable, Sequence
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import TypeAlias

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
FAILED = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
# RFC 9110 section 15: the statuses of final responses.
_STATUSES = range(200, 600)
# RFC 9110 sections 15.3.5 and 15.4.5: these have no content.
_WITHOUT_CONTENT = frozenset({204, 304})
# Sections 8.6 and 15.3.6: no length, and an empty content, whatever the application says.
_NO_CONTENT, _RESET_CONTENT = 204, 205
_EMPTY = (b"content-length", b"0")
_CLOSE = (b"Connection", b"close")
_CHUNKED = (b"transfer-encoding", b"chunked")
# How the connection works is decided here, not by the application.
_OF_CONNECTION = frozenset({b"connection", b"transfer-encoding"})
_DROPPED = dict.fromkeys((_NO_CONTENT, _RESET_CONTENT), _OF_CONNECTION | {b"content-length"})
# RFC 9110 sections 5.1 and 5.5: a line end in a value would begin a field of its own.
_FIELDS = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]++: [\t\x20-\x7e\x80-\xff]*+\r\n)*+")


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
        if status not in _STATUSES:
            raise ValueError("the status of a response must be from 200 to 599")
        kept, lengths, options = _sort(status, fields)
        self._left = _length_of(lengths)
        self._has_content = not self._is_head and status not in _WITHOUT_CONTENT
        # How a client finds the end of the content (RFC 9112 section 6.3).
        is_unsized = self._has_content and self._left is None
        self._is_chunked = is_unsized and self._is_1_1
        self.ends_by_close = is_unsized and not self._is_1_1
        if self._is_chunked:
            kept.append(_CHUNKED)
        asks_close = b"close" in map(bytes.strip, options)
        self.closes = self.closes or closes or asks_close or self.ends_by_close
        if self.closes:
            kept.append(_CLOSE)
        self._head = _serialize(status, kept)

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


_Fields: TypeAlias = list[tuple[bytes, bytes]]


def _sort(
    status: int, fields: Iterable[tuple[bytes, bytes]]
) -> tuple[_Fields, list[bytes], list[bytes]]:
    """Return the fields to be written, and the values of Content-Length and of Connection."""
    kept: _Fields = []
    own: dict[bytes, list[bytes]] = {b"content-length": [], b"connection": [], b"date": []}
    dropped = _DROPPED.get(status, _OF_CONNECTION)
    for name, value in fields:
        lower = name.lower()
        if lower in own:
            own[lower].append(value)
        if lower not in dropped:
            kept.append((name, value))
    if not own[b"date"]:
        kept.append((b"date", _date(int(time.time()))))
    options = b",".join(own[b"connection"]).lower().split(b",")
    if status == _RESET_CONTENT:
        return [*kept, _EMPTY], [b"0"], options
    return kept, own[b"content-length"], options


def _serialize(status: int, fields: Sequence[tuple[bytes, bytes]]) -> bytes:
    lines = b"".join([b"%b: %b\r\n" % field for field in fields])
    # The count finds a value with a line end and a whole field behind it.
    if not _FIELDS.fullmatch(lines) or lines.count(b"\n") != len(fields):
        raise ValueError("a header field has a name or a value that HTTP does not allow")
    return b"%b%b\r\n" % (_status_line(status), lines)


def _length_of(values: Sequence[bytes]) -> int | None:
    """Return the length of the content that the application gives. Raises ValueError."""
    if len(values) > 1 or not all(map(bytes.isdigit, values)):
        raise ValueError("Content-Length must be one number")
    return int(values[0]) if values else None


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
