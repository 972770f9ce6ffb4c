"""The parser of one HTTP/1 connection: h11, and what it leaves to its user to decide."""

import asyncio
import re
from collections.abc import Callable
from typing import Any

import h11

from sidecar import request_head
from sidecar.transcoding.errors import RequestError

# Where the application finds, in the scope of a request, that it is refused.
REFUSAL = "sidecar.refusal"
# Each chunk takes time, however small it is; bodies are not sent in that many.
MAX_CHUNKS = 1024
_EMPTY_LINES = re.compile(rb"(?:\r\n)+")


class RefusedError(RequestError):
    """A request that the front does not accept. Its connection ends with the answer."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail, headers={"Connection": "close"})
        self.status = status


class Connection(h11.Connection):
    """h11, stricter in what it reads, and told when an answer is the last."""

    def __init__(self, is_closing: Callable[[], bool], end_of_life: float) -> None:
        super().__init__(h11.SERVER, request_head.MAX_BYTES)
        self._is_closing = is_closing
        self._end_of_life = end_of_life
        self._chunks = 0
        self.has_heard_all = False
        self.refusal: RefusedError | None = None

    def next_event(self) -> Any:
        """Return the next event. Raises RemoteProtocolError, and `refusal` tells why."""
        event = self._next_event()
        if isinstance(event, h11.Request):
            self._chunks = 0
        elif isinstance(event, h11.Data) and event.chunk_start:
            self._chunks += 1
        if self._chunks > MAX_CHUNKS:
            self.refusal = RefusedError(
                413, f"The body must not come in more than {MAX_CHUNKS} chunks."
            )
            raise h11.RemoteProtocolError("too many chunks")
        return event

    def _next_event(self) -> Any:
        try:
            if self.their_state is h11.IDLE:
                self._pass_empty_lines()
                request_head.check(self.trailing_data[0])
            return super().next_event()
        except request_head.HeadError as error:
            self.refusal = RefusedError(error.status, error.detail)
            raise h11.RemoteProtocolError(error.detail) from None
        except h11.RemoteProtocolError:
            # Its own text quotes what was sent.
            self.refusal = RefusedError(400, "The request must be HTTP/1.1 as RFC 9112 has it.")
            raise

    def _pass_empty_lines(self) -> None:
        """Leave out empty lines before a request (RFC 9112 section 2.2)."""
        found = _EMPTY_LINES.match(self.trailing_data[0])
        if found:
            self._receive_buffer.maybe_extract_at_most(found.end())  # h11 offers nothing else

    def send(self, event: h11.Event) -> bytes | None:  # type: ignore[override] # one for all its overloads
        """Return the bytes of `event`; of a last answer, with `Connection: close`."""
        if isinstance(event, h11.Response) and self._is_last():
            kept = [pair for pair in event.headers if pair[0] != b"connection"]
            event = h11.Response(
                status_code=event.status_code,
                headers=[*kept, (b"Connection", b"close")],
                reason=event.reason,
            )
        return super().send(event)

    def _is_last(self) -> bool:
        is_old = asyncio.get_running_loop().time() > self._end_of_life
        is_heard = self.has_heard_all and not self.trailing_data[0]
        return self._is_closing() or is_old or is_heard or self.refusal is not None
