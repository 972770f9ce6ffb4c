"""The chunked transfer coding of a request's body (RFC 9112 section 7.1), read by httptools."""

import re

import httptools

from sidecar.http_server.counts import Refusal
from sidecar.http_server.http1.refusal import BadHttpError, RefusedError

# Each chunk costs time, however small it is. Real clients send far fewer chunks.
MAX_CHUNKS = 1024
# Bytes that are no content: sizes, extensions and trailer fields.
MAX_OVERHEAD = 16 * 1024
# The parser needs a head before the body. It does not get that of the client: `request_head` reads
# it more strictly, and an Upgrade field in it would make this parser drop the body.
_HEAD = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
# Each chunked body ends so, with trailer fields or without: its last line is not empty.
_END = re.compile(rb"(?<!\n)\r\n\r\n")
# Bytes before the next ones that may be a part of an end, with the one that it looks back at.
_TAIL = 4


class ChunkedBody:
    """Reads one chunked body. Extensions and trailer fields are dropped.

    A trailer must not become a header field: it comes after all checks of the head (RFC 9110
    section 6.5.1).
    """

    def __init__(self) -> None:
        self.is_complete = False
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(_HEAD)
        self._content = bytearray()
        self._chunks = 0
        self._overhead = 0
        self._is_new_chunk = False
        self._tail = b""

    def read(self, data: bytes) -> tuple[bytes, bytes]:
        """Return the content in `data`, and the bytes after the end of the body.

        Raises RefusedError for a body that is malformed or has too many chunks.
        """
        self._content.clear()
        # The parser does not say where a body ends. So it gets no byte beyond a possible end.
        data = self._tail + data
        start, end = len(self._tail), 0
        while start < len(data) and not self.is_complete:
            match = _END.search(data, end)
            end = match.end() if match else len(data)
            self._feed(data[start:end])
            start = end
        self._tail = data[max(start - _TAIL, 0) : start]
        return bytes(self._content), data[start:]

    def _feed(self, data: bytes) -> None:
        size = len(self._content)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            raise BadHttpError from None
        if self._chunks > MAX_CHUNKS:
            raise RefusedError(
                Refusal.TOO_MANY_CHUNKS,
                413,
                f"The body must not come in more than {MAX_CHUNKS} chunks.",
            )
        self._overhead += len(data) - (len(self._content) - size)
        if self._overhead > MAX_OVERHEAD:
            raise BadHttpError

    # Called by httptools

    def on_chunk_header(self) -> None:
        """Note the beginning of a chunk, or of the last one, which is empty."""
        self._is_new_chunk = True

    def on_body(self, data: bytes) -> None:
        """Keep the content of a chunk, or of a part of one."""
        self._content += data
        self._chunks += self._is_new_chunk
        self._is_new_chunk = False

    def on_message_complete(self) -> None:
        """Note the end of the body."""
        self.is_complete = True
