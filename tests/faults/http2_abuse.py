"""The bytes that a bad client of gRPC sends after the opening of a connection of its own.

Each function returns the bytes; what they are against is RFC 9113, RFC 7541 and
https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md.
"""

import gzip
import ssl
import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import hpack
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from karmo.auth.v1.token_service_pb2 import ExchangeTokenRequest

METHOD = "/karmo.auth.v1.TokenService/ExchangeToken"
# The largest frame that any server takes (RFC 9113 section 4.2), in bytes.
_FRAME = 16384
_CANCEL = 8  # an error code, of RFC 9113 section 7
_BOMB_VALUE = 4000  # bytes; a field of it just fits into the table of RFC 7541

GOOD = ExchangeTokenRequest(
    grant_type="client_credentials", client_id="partner", client_secret="secret"
).SerializeToString()

Field: TypeAlias = tuple[str, str]
# Takes how many of its frames or calls are sent.
Flood: TypeAlias = Callable[[int], bytes]


# One call


def message(data: bytes = GOOD, *, compressed: bool = False, length: int | None = None) -> bytes:
    """Return a message of gRPC with its prefix, which tells another `length` if one is given."""
    return struct.pack(">BI", compressed, len(data) if length is None else length) + data


def call(*more: Field, stream: int = 1, body: bytes | None = None, path: str = METHOD) -> bytes:
    """Return a whole call with `more` metadata. Without a `body` it is a good request.

    A body beyond 65 535 bytes is more than the server has asked for.
    """
    data = message() if body is None else body
    frames = [DataFrame(stream, part) for part in _parts(data)]
    frames[-1].flags.add("END_STREAM")
    return head(*more, stream=stream, path=path) + b"".join(map(DataFrame.serialize, frames))


def head(*more: Field, stream: int = 1, path: str = METHOD) -> bytes:
    """Return the beginning of a call, which leaves its stream open."""
    frames = _head(_block(*more, path=path), stream)
    frames[-1].flags.add("END_HEADERS")
    return b"".join(frame.serialize() for frame in frames)


def _block(*more: Field, path: str = METHOD) -> bytes:
    # A new encoder each time: it refers only to what it has put into the table itself,
    # which is what the server has put there last.
    common = ((":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "a.test"))
    grpc = (("te", "trailers"), ("content-type", "application/grpc"))
    return hpack.Encoder().encode((*common, *grpc, *more))


def _head(block: bytes, stream: int) -> list[HeadersFrame | ContinuationFrame]:
    first, *others = _parts(block)
    return [HeadersFrame(stream, first), *(ContinuationFrame(stream, part) for part in others)]


def _parts(data: bytes) -> list[bytes]:
    return [data[start : start + _FRAME] for start in range(0, len(data), _FRAME)] or [b""]


# Calls that no server should take as they are


def oversized_metadata(size: int) -> bytes:
    """Return a call with a field of `size` bytes."""
    return call(("x-large", "a" * size))


def hpack_bomb(references: int) -> bytes:
    """Return a call whose fields take 4 000 bytes each when decoded, and one byte when sent."""
    return call(*(("x-bomb", "a" * _BOMB_VALUE) for _ in range(references)))


def lying_length(length: int) -> bytes:
    """Return a call whose message is said to have `length` bytes, and ends where it does."""
    return call(body=message(length=length))


def gzip_bomb(size: int) -> bytes:
    """Return a call whose message has `size` bytes when decompressed: a thousandth of it is sent.

    It is a request with one unknown field. Up to 60 MB fit into the window.
    """
    unknown = b"\x7a" + _varint(size) + bytes(size)  # field 15, of a length
    data = gzip.compress(unknown, mtime=0)
    return call(("grpc-encoding", "gzip"), body=message(data, compressed=True))


def unknown_compressor() -> bytes:
    """Return a call whose message is compressed by what no server knows."""
    return call(("grpc-encoding", "x-unknown"), body=message(compressed=True))


def zero_window() -> bytes:
    """Return a call whose answer the server is not allowed to send the messages of."""
    settings = {SettingsFrame.INITIAL_WINDOW_SIZE: 0}
    return SettingsFrame(0, settings=settings).serialize() + call()


def zero_window_update(stream: int = 0) -> bytes:
    """Return an update of a window by nothing, an error by RFC 9113 section 6.9."""
    return WindowUpdateFrame(stream, 0).serialize()


def _varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes((low | 0x80,)) + _varint(rest) if rest else bytes((low,))


# Floods


def rapid_reset(count: int) -> bytes:
    """Return so many calls, each cancelled as soon as it has begun."""
    return b"".join(
        head(stream=stream) + RstStreamFrame(stream, _CANCEL).serialize()
        for stream in _streams(count)
    )


def made_you_reset(count: int) -> bytes:
    """Return so many calls, each followed by an error for which the server must reset it."""
    return b"".join(head(stream=stream) + zero_window_update(stream) for stream in _streams(count))


def open_streams(count: int) -> bytes:
    """Return the beginnings of so many calls, none of which ends."""
    return b"".join(head(stream=stream) for stream in _streams(count))


def settings_flood(count: int) -> bytes:
    """Return so many SETTINGS, each of which must be acknowledged."""
    return SettingsFrame(0, settings={SettingsFrame.ENABLE_PUSH: 0}).serialize() * count


def ping_flood(count: int) -> bytes:
    """Return so many PING, each of which must be answered."""
    return PingFrame(0, b"12345678").serialize() * count


def priority_flood(count: int) -> bytes:
    """Return so many PRIORITY of streams that are not open."""
    return PriorityFrame(1, depends_on=3, stream_weight=1).serialize() * count


def empty_data_flood(count: int) -> bytes:
    """Return a call with so many DATA that hold nothing, which does not end."""
    return head() + DataFrame(1).serialize() * count


def continuation_flood(count: int) -> bytes:
    """Return a call whose header has so many CONTINUATION of one field each, and does not end."""
    more = hpack.Encoder().encode([("x-flood", "a" * 100, True)])
    first = HeadersFrame(1, _block()).serialize()
    return first + ContinuationFrame(1, more).serialize() * count


def _streams(count: int) -> range:
    """Return the numbers of so many streams of a client."""
    return range(1, 2 * count, 2)


FLOODS: Mapping[str, Flood] = MappingProxyType(
    {
        "rapid reset": rapid_reset,
        "made you reset": made_you_reset,
        "open streams": open_streams,
        "SETTINGS": settings_flood,
        "PING": ping_flood,
        "PRIORITY": priority_flood,
        "empty DATA": empty_data_flood,
        "CONTINUATION": continuation_flood,
    }
)


# What is no HTTP/2 at all, to be sent as the opening

HTTP1 = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"


def tls_hello() -> bytes:
    """Return the first bytes of a client of TLS."""
    sent = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), sent, server_hostname="a.test")
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        return sent.read()
    raise AssertionError("a handshake must wait for the server")
