"""An HTTP client made of a raw socket: what no library would send, and hanging up at will."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sidecar.settings.types import Address

FORM = b"Content-Type: application/x-www-form-urlencoded"
# How long an answer may take before the test fails, in seconds.
GUARD = 20


@dataclass(frozen=True, kw_only=True)
class Received:
    """An answer: its status, its header fields by name in lower case, and its body."""

    status: int
    headers: dict[str, str]
    body: bytes


def request(
    method: str = "POST",
    target: str = "/v1/oauth/token",
    *,
    headers: Iterable[bytes] = (FORM,),
    body: bytes = b"",
) -> bytes:
    """Return the bytes of a request that asks for the connection to be closed."""
    length = b"Content-Length: %d" % len(body)
    common = (b"Host: sidecar.test", b"Connection: close", length)
    head = b"\r\n".join((f"{method} {target} HTTP/1.1".encode(), *common, *headers))
    return head + b"\r\n\r\n" + body


@asynccontextmanager
async def sent(
    address: Address, data: bytes, *, resets: bool = False
) -> AsyncIterator[asyncio.StreamReader]:
    """Send `data` and give what reads the answer; at the end of the context, hang up.

    With `resets` that is a reset, as of a client that was killed.
    """
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        writer.write(data)
        await writer.drain()
        yield reader
    finally:
        if resets:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.close()


async def answer_to(address: Address, data: bytes) -> Received:
    """Send `data` and return the answer, which ends with the connection."""
    async with asyncio.timeout(GUARD), sent(address, data) as reader:
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    status, headers = _read_head(head)
    return Received(status=status, headers=headers, body=body)


async def next_answer(reader: asyncio.StreamReader) -> Received:
    """Return the next of several answers. Raises IncompleteReadError if no whole one comes."""
    head = await reader.readuntil(b"\r\n\r\n")
    status, headers = _read_head(head.removesuffix(b"\r\n\r\n"))
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Received(status=status, headers=headers, body=body)


def _read_head(head: bytes) -> tuple[int, dict[str, str]]:
    status_line, *fields = head.decode("latin-1").split("\r\n")
    pairs = (field.split(": ", 1) for field in fields)
    return int(status_line.split()[1]), {name.lower(): value for name, value in pairs}
