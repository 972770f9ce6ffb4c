"""Raw-socket HTTP client: sends any bytes, and closes or resets at any time."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sidecar.settings.types import Address

FORM = b"Content-Type: application/x-www-form-urlencoded"
# Time limit of a response in a test, in seconds.
GUARD = 20


@dataclass(frozen=True, kw_only=True)
class Received:
    """A response: its status, its header fields by name in lower case, and its body."""

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
    """Return the bytes of a request with `Connection: close`."""
    length = b"Content-Length: %d" % len(body)
    common = (b"Host: sidecar.test", b"Connection: close", length)
    head = b"\r\n".join((f"{method} {target} HTTP/1.1".encode(), *common, *headers))
    return head + b"\r\n\r\n" + body


@asynccontextmanager
async def sent(
    address: Address, data: bytes, *, resets: bool = False
) -> AsyncIterator[asyncio.StreamReader]:
    """Send `data` and yield a reader of the response; close the connection at the end.

    With `resets` the connection is reset, as if the client was killed.
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
    """Send `data` and return the response, which ends with the connection."""
    async with asyncio.timeout(GUARD), sent(address, data) as reader:
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    status, headers = _read_head(head)
    return Received(status=status, headers=headers, body=body)


async def next_answer(reader: asyncio.StreamReader) -> Received:
    """Return the next of several responses. Raises IncompleteReadError if it is incomplete."""
    head = await reader.readuntil(b"\r\n\r\n")
    status, headers = _read_head(head.removesuffix(b"\r\n\r\n"))
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Received(status=status, headers=headers, body=body)


def _read_head(head: bytes) -> tuple[int, dict[str, str]]:
    status_line, *fields = head.decode("latin-1").split("\r\n")
    pairs = (field.split(": ", 1) for field in fields)
    return int(status_line.split()[1]), {name.lower(): value for name, value in pairs}
