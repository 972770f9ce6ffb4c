"""An HTTP/2 client made of a raw socket: it sends any bytes, and reads the frames that come back.

What it may send is in tests/faults/http2_abuse.py.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import hpack
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    RstStreamFrame,
    SettingsFrame,
)

from tests.faults.conditions import GUARD
from tests.faults.wire import drip, host_and_port

# What a connection begins with (RFC 9113 section 3.4).
OPENING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SettingsFrame(0).serialize()
_FRAME_HEAD = 9  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back on one stream: header and trailer fields, and the bytes of its messages.

    `reset` is the error code if the stream was reset (RFC 9113 section 7).
    """

    fields: Mapping[str, str]
    data: bytes
    reset: int | None

    @property
    def code(self) -> int | None:
        """The code of gRPC, or None if there is none."""
        code = self.fields.get("grpc-status")
        return None if code is None else int(code)


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """The frames that came back, in their order."""

    frames: tuple[Frame, ...]

    @property
    def goaway(self) -> int | None:
        """The error code of the last GOAWAY, or None if none came."""
        codes = [frame.error_code for frame in self.frames if isinstance(frame, GoAwayFrame)]
        return codes[-1] if codes else None

    def answer(self, stream: int = 1) -> Answer:
        """Return what came back on `stream`."""
        ours = [frame for frame in self.frames if frame.stream_id == stream]
        resets = [frame.error_code for frame in ours if isinstance(frame, RstStreamFrame)]
        return Answer(
            fields=self._fields(stream),
            data=b"".join(bytes(frame.data) for frame in ours if isinstance(frame, DataFrame)),
            reset=resets[0] if resets else None,
        )

    def _fields(self, stream: int) -> dict[str, str]:
        # Every block is decoded, of whatever stream, because all of them share one table.
        decoder = hpack.Decoder()
        fields: dict[str, str] = {}
        block = b""
        for frame in self.frames:
            if isinstance(frame, HeadersFrame | ContinuationFrame):
                block += bytes(frame.data)
                if "END_HEADERS" in frame.flags:
                    told = {str(name): str(value) for name, value in decoder.decode(block)}
                    fields |= told if frame.stream_id == stream else {}
                    block = b""
        return fields


class BadClient:
    """A connection to a server of HTTP/2. It answers nothing by itself, not even a PING."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._frames: list[Frame] = []

    @property
    def address(self) -> tuple[str, int]:
        """The IP address and the port of its end of the connection."""
        host, port = self._writer.get_extra_info("sockname")[:2]
        return host, port

    @property
    def received(self) -> Received:
        """What came back by now."""
        return Received(frames=tuple(self._frames))

    async def send(self, data: bytes) -> None:
        """Send `data`. Raises ConnectionError when the server has closed."""
        self._writer.write(data)
        await self._writer.drain()

    async def drip(self, data: bytes, interval: float) -> None:
        """Send `data` one byte at a time, `interval` seconds apart. Raises as send does."""
        await drip(self._writer, data, interval)

    async def exchange(self, data: bytes) -> Received:
        """Send `data` and the end of sending, and return all that comes until the server closes.

        What comes is read meanwhile, so that neither side waits for the other, and
        what the server no longer wants is not sent. Raises TimeoutError if it never closes.
        """
        sending = asyncio.create_task(self._send_all(data))
        try:
            return await self.closed()
        finally:
            sending.cancel()
            await asyncio.wait([sending])

    async def _send_all(self, data: bytes) -> None:
        with suppress(ConnectionError):
            await self.send(data)
            self._writer.write_eof()

    async def closed(self) -> Received:
        """Return all that comes until the server closes. Raises TimeoutError if it never does."""
        async with asyncio.timeout(GUARD):
            async for _ in self._read():
                pass
        return self.received

    async def answered(self, stream: int = 1) -> Answer:
        """Return what comes on `stream` until it ends, or until the server closes.

        Raises TimeoutError if neither happens.
        """
        async with asyncio.timeout(GUARD):
            async for frame in self._read():
                is_last = "END_STREAM" in frame.flags or isinstance(frame, RstStreamFrame)
                if frame.stream_id == stream and is_last:
                    break
        return self.received.answer(stream)

    async def filled(self, window: int = 65_535) -> None:
        """Read until as many bytes have come as a client's window has that is never updated.

        Raises TimeoutError if fewer come.
        """
        size = 0
        async with asyncio.timeout(GUARD):
            async for frame in self._read():
                size += len(frame.data) if isinstance(frame, DataFrame) else 0
                if size >= window:
                    break

    async def _read(self) -> AsyncIterator[Frame]:
        """Yield the frames that come until the server closes, in order or by RST."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await self._reader.readexactly(_FRAME_HEAD)
                frame, length = Frame.parse_frame_header(memoryview(head))
                frame.parse_body(memoryview(await self._reader.readexactly(length)))
                self._frames.append(frame)
                yield frame


@asynccontextmanager
async def connected(address: str, opening: bytes = OPENING) -> AsyncIterator[BadClient]:
    """Connect to `address` and send `opening`; at the end of the context, hang up."""
    reader, writer = await asyncio.open_connection(*host_and_port(address))
    try:
        client = BadClient(reader, writer)
        await client.send(opening)
        yield client
    finally:
        writer.close()
