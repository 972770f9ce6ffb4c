"""A DNS server for tests, over UDP and TCP, that replies as its script says (RFC 1035)."""

import asyncio
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import NamedTuple, TypeAlias, cast

# RFC 1035 section 3.2.2 and RFC 3596 section 2.1: types of records.
A, AAAA = 1, 28
# RFC 1035 section 4.1.1: response codes.
NO_ERROR, SERVFAIL, NXDOMAIN = 0, 2, 3
# Flags of a header: it is a response, truncated, with recursion desired and available.
_RESPONSE, _TRUNCATED, _RECURSION = 0x8000, 0x0200, 0x0180
_HEADER = struct.Struct("!6H")
_VERSIONS = {A: 4, AAAA: 6}
_IN = 1  # the class: Internet


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The reply to the queries of both types for a name: its addresses, or an error code.

    It is sent after `delay` seconds. One that `is_truncated` has no address over UDP, so that
    the client asks again by TCP.
    """

    addresses: Sequence[str] = ()
    code: int = NO_ERROR
    delay: float = 0.0
    is_truncated: bool = False


# The replies to the queries of each type for a name, one after the other; the last one stays.
# None is no reply. A name that is not in the script does not exist.
Script: TypeAlias = Mapping[str, Sequence[Reply | None]]


class Query(NamedTuple):
    """A query: its name in lower case, and its type."""

    name: str
    type: int
    over_tcp: bool = False


class DnsServer:
    """A server that replies by `script`. `queries` are those that came."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._counts: Counter[Query] = Counter()
        self.queries: list[Query] = []

    @asynccontextmanager
    async def serving(self, host: str, port: int, *, over_tcp: bool = True) -> AsyncIterator[None]:
        """Serve at an address while the context is open, by UDP alone unless `over_tcp`."""
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: _Datagrams(self), local_addr=(host, port)
        )
        server = await asyncio.start_server(self._serve_stream, host, port) if over_tcp else None
        try:
            yield
        finally:
            transport.close()
            if server:
                server.close()

    def respond(self, message: bytes, send: Callable[[bytes], None], *, over_tcp: bool) -> None:
        """Send the response to a query, in its time, if there is one."""
        name, kind, end = _read_question(message)
        self.queries.append(Query(name, kind, over_tcp))
        query = Query(name, kind)
        replies = self._script.get(name, [Reply(code=NXDOMAIN)])
        reply = replies[min(self._counts[query], len(replies) - 1)]
        is_whole = over_tcp or not (reply and reply.is_truncated)
        self._counts[query] += is_whole
        if reply:
            response = _write(message[:end], reply, kind, is_whole=is_whole)
            asyncio.get_running_loop().call_later(reply.delay, send, response)

    async def _serve_stream(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Serve a connection. RFC 1035 section 4.2.2: the length precedes each message."""

        def send(message: bytes) -> None:
            writer.write(struct.pack("!H", len(message)) + message)

        try:
            while True:
                (length,) = struct.unpack("!H", await reader.readexactly(2))
                self.respond(await reader.readexactly(length), send, over_tcp=True)
        except asyncio.IncompleteReadError:
            writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._server.respond(
            data, lambda response: self._transport.sendto(response, addr), over_tcp=False
        )


def _read_question(message: bytes) -> tuple[str, int, int]:
    """Return the name and the type in a query, and where the question ends."""
    labels, at = [], _HEADER.size
    while length := message[at]:
        labels.append(message[at + 1 : at + 1 + length].decode("ascii").lower())
        at += 1 + length
    (kind,) = struct.unpack_from("!H", message, at + 1)
    return ".".join(labels), kind, at + 5


def _write(question: bytes, reply: Reply, kind: int, *, is_whole: bool) -> bytes:
    """Return the response to a query, which is given up to the end of its question."""
    (identifier,) = struct.unpack_from("!H", question)
    parsed = [ip_address(address) for address in reply.addresses] if is_whole else []
    data = [address.packed for address in parsed if address.version == _VERSIONS.get(kind)]
    flags = _RESPONSE | _RECURSION | reply.code | (0 if is_whole else _TRUNCATED)
    header = _HEADER.pack(identifier, flags, 1, len(data), 0, 0)
    # RFC 1035 section 4.1.4: a pointer to the name in the question. The time to live is 0.
    records = [struct.pack("!HHHIH", 0xC00C, kind, _IN, 0, len(d)) + d for d in data]
    return header + question[_HEADER.size :] + b"".join(records)
