"""A parser of one HTTP/1.1 response, by httptools. Without I/O.

It tells exactly where the response ends: a byte behind it makes the connection unfit for
another exchange, for it could become part of the next caller's response.
"""

from http import HTTPStatus

import httptools

from sidecar.auth_api.transport.errors import TransportError

# Bytes. Interim responses, chunk headers and trailers count as head.
MAX_HEAD, MAX_BODY = 64 * 1024, 64 * 1024
MAX_FIELDS = 128
MAX_INTERIM = 20
# RFC 9112 section 6.3: responses that never have a body.
_WITHOUT_BODY = frozenset({204, 304})


class ResponseParser:
    """Parses one response, after up to `MAX_INTERIM` interim ones, which it drops.

    `status`, `fields` (names in lower case) and `body` hold the response. `is_complete`: it
    is whole. `can_reuse`: it was framed exactly, nothing followed it, and the auth-api keeps
    the connection.
    """

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.status = 0
        self.fields: list[tuple[bytes, bytes]] = []
        self.body = bytearray()
        self.is_complete = False
        self.can_reuse = False
        self._received = 0
        self._interim = 0
        self._is_in_head = True
        self._ends_with_connection = False

    @property
    def has_head(self) -> bool:
        """Whether the head of the final response has come."""
        return not self._is_in_head

    @property
    def has_begun(self) -> bool:
        """Whether a byte has come."""
        return self._received > 0

    def feed(self, data: bytes) -> None:
        """Parse `data`. Raises TransportError for what is no response, or too large a one."""
        # llhttp skips empty lines before a response; here nothing may come before it.
        if not self._received and data[:1] != b"H":
            raise TransportError("bad_http", "no status line")
        self._received += len(data)
        view = memoryview(data)
        try:
            if len(data) > 1:
                self._parser.feed_data(view[:-1])
            if self.is_complete:
                self.can_reuse = False  # at least one byte follows
                return
            self._parser.feed_data(view[-1:])
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.is_complete:
                raise _fault_of(error) from None
            self.can_reuse = False  # what follows is no response
        if self._received - len(self.body) > MAX_HEAD and not self.is_complete:
            self._overflow()

    def feed_eof(self) -> None:
        """End the response with its connection. Raises TransportError if it is not whole."""
        if self._is_in_head or not self._ends_with_connection:
            raise TransportError("closed", "before the whole response" if self.has_begun else None)
        self.is_complete = True

    # Called by httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a field of the head; trailers are dropped."""
        if self._is_in_head:
            self.fields.append((name.lower(), value))
            if len(self.fields) > MAX_FIELDS:
                raise TransportError("bad_http", f"more than {MAX_FIELDS} header fields")

    def on_headers_complete(self) -> None:
        """Check the head of a final response."""
        if self.is_complete:
            return
        self.status = self._parser.get_status_code()
        if 100 <= self.status < 200:
            return
        if self.status < 100:  # RFC 9110 section 15
            raise TransportError("bad_http", "a status below 100")
        self._is_in_head = False
        version = self._parser.get_http_version()
        if version not in ("1.0", "1.1"):
            raise TransportError("bad_http", "an unknown version")
        self.can_reuse = self._check_framing() and version == "1.1" and self._keeps_alive()

    def on_body(self, data: bytes) -> None:
        """Keep a part of the body."""
        if self.is_complete:
            return
        self.body += data
        if len(self.body) > MAX_BODY:
            self._overflow()

    def on_message_complete(self) -> None:
        """Drop an interim response, or complete the final one."""
        if self.is_complete:
            return
        if not self._is_in_head:
            self.is_complete = True
            return
        self._interim += 1
        self.fields.clear()
        # RFC 9110 section 15.2.2: 101 answers an Upgrade field, which no request of ours has.
        if self.status == 101 or self._interim > MAX_INTERIM:
            raise TransportError("bad_http", "an interim response that is not expected")

    def _overflow(self) -> None:
        """End a response that is too large. Raises TransportError unless it is an error."""
        if self._is_in_head:
            raise TransportError("bad_http", f"a head of more than {MAX_HEAD} bytes")
        if self.status == HTTPStatus.OK:
            raise TransportError("too_large", self._excess())
        # The status and the fields of an error say enough.
        self.body.clear()
        self.is_complete, self.can_reuse = True, False

    def _excess(self) -> str:
        if len(self.body) > MAX_BODY:
            return f"a body of more than {MAX_BODY} bytes"
        return f"a head, chunk headers and trailers of more than {MAX_HEAD} bytes"

    def _check_framing(self) -> bool:
        """Return whether the response has an exact end (RFC 9112 section 6.3).

        Raises TransportError.
        """
        codings = self._values(b"transfer-encoding")
        if codings and codings != [b"chunked"]:
            raise TransportError("bad_http", "a transfer coding other than chunked")
        if self.status in _WITHOUT_BODY:
            return not codings and not self._values(b"content-length")
        is_framed = bool(codings or self._values(b"content-length"))
        self._ends_with_connection = not is_framed
        return is_framed

    def _keeps_alive(self) -> bool:
        """Return whether the auth-api keeps the connection (RFC 9112 section 9.3)."""
        options = b",".join(self._values(b"connection"))
        return b"close" not in [option.strip() for option in options.split(b",")]

    def _values(self, name: bytes) -> list[bytes]:
        return [value.strip().lower() for field, value in self.fields if field == name]


def _fault_of(error: Exception) -> BaseException:
    """Return the fault of an error of httptools, which wraps the errors of callbacks."""
    if isinstance(error, httptools.HttpParserCallbackError):
        return error.__context__ or error
    return TransportError("bad_http", type(error).__name__)
