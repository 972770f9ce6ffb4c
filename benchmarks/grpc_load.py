"""The exchange of a unary gRPC call over HTTP/2, with the least work for each call.

It does what a client must do in answer to the frames of a gRPC server, with one stream
at a time. It ignores the server's flow control, so a request must be small.
"""

import struct
from collections.abc import Callable, Mapping, Sequence

from hpack import Encoder

_HEADER = 9  # bytes of a frame before its payload
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_ACK = _END_STREAM = 0x1
_END_HEADERS = 0x4
_INITIAL_WINDOW, _MAX_WINDOW = 65_535, 2**31 - 1
_MESSAGE_HEAD = 5  # bytes of a gRPC message before its content


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return the bytes of a frame (RFC 9113 section 4.1)."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


# The window of the connection is opened once, wide enough for the whole load.
_OPENING = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    + frame(_SETTINGS, 0, 0)
    + frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", _MAX_WINDOW - _INITIAL_WINDOW))
)


class GrpcExchange:
    """Calls one method of a gRPC server with one message, one call after the other."""

    def __init__(self, path: str, message: bytes) -> None:
        self._encoder = Encoder()
        self._fields = _fields(path)
        self._message = struct.pack(">BI", 0, len(message)) + message
        self._stream = -1
        self._replies = _OPENING  # what goes before the next request
        self._buffer = bytearray()
        self._received = 0  # bytes of the answer's message, with its head
        self._handlers: Mapping[int, Callable[[int, bytes], None]] = {
            _DATA: self._on_data,
            _SETTINGS: self._on_settings,
            _PING: self._on_ping,
            _RST_STREAM: self._on_failure,
            _GOAWAY: self._on_failure,
        }

    def request(self) -> bytes:
        """Return the frames of the next call, after replies to the server's own frames."""
        self._stream += 2
        replies, self._replies = self._replies, b""
        head = self._encoder.encode(self._fields)
        headers = frame(_HEADERS, _END_HEADERS, self._stream, head)
        return replies + headers + frame(_DATA, _END_STREAM, self._stream, self._message)

    def feed(self, data: bytes) -> bool:
        """Parse received bytes; return whether they end the call.

        Raises ValueError if the call ends without a message, which is how it fails.
        """
        self._buffer += data
        has_ended = False
        while len(self._buffer) >= _HEADER:
            end = _HEADER + int.from_bytes(self._buffer[:3], "big")
            if len(self._buffer) < end:
                break
            kind, flags = self._buffer[3], self._buffer[4]
            payload = bytes(self._buffer[_HEADER:end])
            del self._buffer[:end]
            has_ended |= self._take(kind, flags, payload)
        return has_ended

    def _take(self, kind: int, flags: int, payload: bytes) -> bool:
        handler = self._handlers.get(kind)
        if handler:
            handler(flags, payload)
        return self._end(payload) if kind == _HEADERS and flags & _END_STREAM else False

    def _end(self, trailers: bytes) -> bool:
        if self._received <= _MESSAGE_HEAD:
            raise ValueError(f"a call fails: {trailers!r}")
        self._received = 0
        return True

    def _on_data(self, _flags: int, payload: bytes) -> None:
        self._received += len(payload)

    def _on_settings(self, flags: int, _payload: bytes) -> None:
        if not flags & _ACK:
            self._replies += frame(_SETTINGS, _ACK, 0)

    def _on_ping(self, flags: int, payload: bytes) -> None:
        if not flags & _ACK:
            self._replies += frame(_PING, _ACK, 0, payload)

    def _on_failure(self, _flags: int, payload: bytes) -> None:
        raise ValueError(f"the server ends the stream or the connection: {payload!r}")


def _fields(path: str) -> Sequence[tuple[str, str]]:
    return (
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("user-agent", "benchmark"),
    )
