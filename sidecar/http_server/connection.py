"""The parser of one HTTP/1 connection: h11, with stricter rules."""

import asyncio
import re
from collections.abc import Callable
from typing import Any

import h11
from h11._receivebuffer import ReceiveBuffer

from sidecar.http_server import request_head
from sidecar.http_server.counts import Refusal
from sidecar.transcoding.errors import RequestError

# The key in the scope of a request under which the application finds its refusal.
REFUSAL = "sidecar.refusal"
# Each chunk costs time, however small it is. Clients send far fewer.
MAX_CHUNKS = 1024
_EMPTY_LINES = re.compile(rb"(?:\r\n)+")


class RefusedError(RequestError):
    """A request that the listener refuses. Its connection closes with the response."""

    def __init__(self, reason: Refusal, status: int, detail: str) -> None:
        super().__init__(detail, headers={"Connection": "close"})
        self.reason = reason
        self.status = status

    def scope(self, **connection: Any) -> Any:
        """Return the ASGI scope of a request that could not be read, of `connection`."""
        empty = {"method": "", "path": "", "raw_path": b"", "query_string": b"", "headers": []}
        return {"type": "http", "http_version": "1.1", **empty, **connection, REFUSAL: self}


class StoppingError(RefusedError):
    """A request that is incomplete at the end of the drain."""

    def __init__(self) -> None:
        detail = "The service stopped before the request was complete."
        super().__init__(Refusal.STOPPING, 503, detail)


class _Lines(ReceiveBuffer):
    """h11's receive buffer, which refuses lines that parsers read differently.

    h11 cuts the lines of chunks and the trailers here, and accepts a bare CR or LF in them.
    """

    def maybe_extract_next_line(self) -> bytearray | None:
        """Return the next line, if it is complete. Raises LocalProtocolError."""
        line = super().maybe_extract_next_line()
        _check(bytes(line or b""))
        return line

    def maybe_extract_lines(self) -> list[bytearray] | None:
        """Return the lines up to an empty one, if that is there. Raises LocalProtocolError."""
        data = bytes(self)
        # Behind a line end, so that the first line may be an empty one.
        end = request_head.END.search(b"\n" + data)
        _check(data[: end.end() - 1] if end else b"")
        return super().maybe_extract_lines()

    def skip_empty_lines(self) -> None:
        """Remove empty lines before a request (RFC 9112 section 2.2)."""
        lines = _EMPTY_LINES.match(bytes(self))
        if lines:
            self.maybe_extract_at_most(lines.end())


def _check(lines: bytes) -> None:
    if request_head.has_bad_line_end(lines):
        # h11 expects this error here. Its text reaches no client.
        raise h11.LocalProtocolError("a bare CR or LF, or a folded line")


class Connection(h11.Connection):
    """h11, stricter in what it reads; adds `Connection: close` to a last response."""

    def __init__(self, is_closing: Callable[[], bool], end_of_life: float) -> None:
        super().__init__(h11.SERVER, request_head.MAX_BYTES)
        self._receive_buffer = self._lines = _Lines()
        self._is_closing = is_closing
        self._end_of_life = end_of_life
        self._chunks = 0
        # Whether the head that comes next, of a POST, was checked before it came here.
        self.is_head_checked = False
        # Why each request is refused when its request line is here, if it is.
        self.limit_error: request_head.HeadError | None = None
        self._is_head_method = False
        self.has_eof = False
        self.refusal: RefusedError | None = None

    def next_event(self) -> Any:
        """Return the next event. Raises RemoteProtocolError, with the cause in `refusal`."""
        event = self._next_event()
        if isinstance(event, h11.Request):
            self._chunks = 0
        elif isinstance(event, h11.Data) and event.chunk_start:
            self._chunks += 1
        if self._chunks > MAX_CHUNKS:
            self.refusal = RefusedError(
                Refusal.TOO_MANY_CHUNKS,
                413,
                f"The body must not come in more than {MAX_CHUNKS} chunks.",
            )
            raise h11.RemoteProtocolError("too many chunks")
        return event

    def _next_event(self) -> Any:
        try:
            if self.their_state is h11.IDLE:
                self._lines.skip_empty_lines()
                self._check_head()
            return super().next_event()
        except request_head.HeadError as error:
            self.refusal = RefusedError(error.reason, error.status, error.detail)
            raise h11.RemoteProtocolError(error.detail) from None
        except h11.RemoteProtocolError:
            # Its own text quotes the request.
            self.refusal = RefusedError(
                Refusal.BAD_HTTP, 400, "The request must be HTTP/1.1 as RFC 9112 has it."
            )
            raise

    def _check_head(self) -> None:
        """Check the head that comes next, or the part of it that is here. Raises HeadError."""
        if self.is_head_checked:  # that of a POST
            self.is_head_checked = self._is_head_method = False
            return
        data = self.trailing_data[0]
        self._is_head_method = data.startswith(b"HEAD ")
        if self.limit_error is not None and b"\n" in data:
            raise self.limit_error
        request_head.check(data)

    def send(self, event: h11.Event) -> bytes | None:  # type: ignore[override] # one for all its overloads
        """Return the bytes of `event`; of a last response, with `Connection: close`.

        A response to HEAD has no body (RFC 9110 section 9.3.2). h11 sees to that only if it has
        read the whole head.
        """
        if isinstance(event, h11.Response) and self._is_last():
            headers = [pair for pair in event.headers if pair[0] != b"connection"]
            event = h11.Response(
                status_code=event.status_code,
                headers=[*headers, (b"Connection", b"close")],
                reason=event.reason,
            )
        data = super().send(event)
        return b"" if self._is_head_method and isinstance(event, h11.Data) else data

    def has_part(self) -> bool:
        """Return whether part of a request is here, and not all of it."""
        return self.their_state is h11.SEND_BODY or len(self._lines) > 0

    def is_fresh(self) -> bool:
        """Return whether no byte of a request is here, and its response will not be the last."""
        is_idle = self.their_state is h11.IDLE and not self.trailing_data[0]
        return is_idle and not self._is_last()

    def is_streaming(self) -> bool:
        """Return whether a response has begun and not ended."""
        return self.our_state is h11.SEND_BODY

    def ends_by_close(self) -> bool:
        """Return whether to close now would look like the end of a response (HTTP/1.0)."""
        return self.is_streaming() and (self.their_http_version or b"") < b"1.1"

    def _is_last(self) -> bool:
        is_old = asyncio.get_running_loop().time() > self._end_of_life
        is_ended = self.has_eof and not self.trailing_data[0]
        is_refused = self.refusal is not None or self.limit_error is not None
        return self._is_closing() or is_old or is_ended or is_refused
