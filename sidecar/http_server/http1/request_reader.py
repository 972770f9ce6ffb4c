"""Reads the requests of one connection, one after the other. Without I/O."""

import math
import re

from sidecar.http_server.http1 import request_head
from sidecar.http_server.http1.chunked_body import ChunkedBody
from sidecar.http_server.http1.request_head import RequestHead

_EMPTY_LINES = re.compile(rb"(?:\r\n)+")
_LINE_END = re.compile(rb"[\r\n]")


class RequestReader:
    """Reads one request. `finish` makes it ready for the next one.

    `head` is that of the request, None before it has come. `is_complete`: its body has come too.
    `rest` are the bytes that are not read yet.
    """

    def __init__(self) -> None:
        self.head: RequestHead | None = None
        self.is_complete = False
        self.rest = b""
        self._seen = 0  # bytes of `rest` that hold no whole head
        self._left = 0  # bytes of a body with a length
        self._chunked: ChunkedBody | None = None

    @property
    def has_part(self) -> bool:
        """Whether a part of a request is here, and not all of it."""
        return bool(self.rest) if self.head is None else not self.is_complete

    @property
    def left(self) -> float:
        """How many bytes of the body have not come; infinite if only its end will tell."""
        return self._left if self._chunked is None or self.is_complete else math.inf

    @property
    def is_head_method(self) -> bool:
        """Whether the method of the request is HEAD, whose response has no body.

        Its line may be all that is here (RFC 9110 section 9.3.2).
        """
        if self.head is None:
            return self.rest.startswith(b"HEAD ")
        return self.head.method == "HEAD"

    def receive(self, data: bytes) -> None:
        """Take bytes from the connection. Empty lines before a request are dropped."""
        self.rest += data
        self._drop_empty_lines()

    def read_head(self) -> RequestHead | None:
        """Return the head of the next request, or None if it is not complete.

        Raises RefusedError for a head, or a part of one, that no client may send.
        """
        if self._is_known():
            return None
        head = request_head.read(self.rest) if self.rest else None
        self._seen = len(self.rest) if head is None else 0
        if head is not None:
            self.head = head
            self.rest = self.rest[head.size :]
            self._left = head.length or 0
            self._chunked = ChunkedBody() if head.length is None else None
        return head

    def _drop_empty_lines(self) -> None:
        lines = _EMPTY_LINES.match(self.rest) if self.head is None else None
        if lines:  # RFC 9112 section 2.2
            self.rest, self._seen = self.rest[lines.end() :], 0

    def _is_known(self) -> bool:
        """Whether no line has ended or begun since the last look, and no limit is passed."""
        if not self._seen or _LINE_END.search(self.rest, self._seen - 1):
            return False
        has_line = b"\n" in self.rest
        limit = request_head.MAX_BYTES if has_line else request_head.MAX_LINE_BYTES
        return len(self.rest) <= limit

    def read_body(self) -> bytes:
        """Return what has come of the body since the last call. Raises RefusedError."""
        if self._chunked is not None:
            body, self.rest = self._chunked.read(self.rest)
            self.is_complete = self._chunked.is_complete
            return body
        body, self.rest = self.rest[: self._left], self.rest[self._left :]
        self._left -= len(body)
        self.is_complete = self._left == 0
        return body

    def finish(self) -> None:
        """Forget the request, to read the next one from `rest`."""
        self.head = self._chunked = None
        self.is_complete = False
        self._drop_empty_lines()
