"""Handshakes over real sockets that are ended from outside, in each of their moments."""

import asyncio
import errno
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import trustme

from sidecar.tls.handshake import Handshake
from tests.faults.conditions import eventually
from tests.loops import on_each_loop, on_uvloop


@dataclass(slots=True)
class Echo(asyncio.Protocol):
    """A protocol that sends back what it receives, and notes what happens."""

    events: list[str] = field(default_factory=list)
    abort: Callable[[], None] = lambda: None
    aborts: bool = False
    transport: Any = None

    def accepted(self, peer: Any, abort: Callable[[], None]) -> None:
        """Note it; abort at once if that is wanted."""
        assert peer[0] == "127.0.0.1"
        self.events.append("accepted")
        self.abort = abort
        if self.aborts:
            abort()

    def handshake_ended(self) -> None:
        """Note it."""
        self.events.append("handshake ended")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note it."""
        self.events.append("made")
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Send it back."""
        self.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 as asyncio calls it
        """Note it."""
        self.events.append("lost")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A server of one protocol."""

    port: int
    trust: ssl.SSLContext
    running: set[asyncio.Task[None]]

    async def connect(self, *, tls: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect, with or without a handshake."""
        return await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self.trust if tls else None
        )


@asynccontextmanager
async def serving(protocol: Echo) -> AsyncIterator[Scene]:
    """Serve by TLS; no handshake may be left at the end."""
    authority = trustme.CA()
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(served)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    running: set[asyncio.Task[None]] = set()
    server = await asyncio.get_running_loop().create_server(
        lambda: begin(protocol, served, running), "127.0.0.1", 0
    )
    try:
        yield Scene(port=server.sockets[0].getsockname()[1], trust=trust, running=running)
        await eventually(lambda: not running)
    finally:
        server.close()


def begin(protocol: Echo, context: ssl.SSLContext, running: set[asyncio.Task[None]]) -> Handshake:
    """Return the protocol of a new connection."""
    return Handshake(protocol, context, timeout=60, shutdown_timeout=60, running=running)


@on_each_loop
async def test_a_handshake_leads_to_the_protocol() -> None:
    """After the handshake the protocol has the connection, with the first bytes of the client."""
    protocol = Echo()
    async with serving(protocol) as scene:
        reader, writer = await scene.connect(tls=True)
        writer.write(b"echo")
        assert await reader.readexactly(4) == b"echo"
        writer.close()
        await eventually(lambda: "lost" in protocol.events)
        protocol.abort()  # what it would end is gone
    assert protocol.events == ["accepted", "made", "handshake ended", "lost"]


@on_each_loop
async def test_a_handshake_can_be_ended() -> None:
    """A silent client is ended at once, at its accept or later, and the protocol knows."""
    for aborts in (True, False):
        protocol = Echo(aborts=aborts)
        async with serving(protocol) as scene:
            reader, writer = await scene.connect(tls=False)
            if not aborts:
                await eventually(lambda: bool(scene.running))
                protocol.abort()
            with suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
        assert protocol.events == ["accepted", "handshake ended"]


@on_each_loop
async def test_a_bad_handshake_ends() -> None:
    """What is no TLS ends the connection, and the protocol knows."""
    protocol = Echo()
    async with serving(protocol) as scene:
        reader, writer = await scene.connect(tls=False)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        with suppress(ConnectionError):
            await reader.read()
        writer.close()
    assert protocol.events == ["accepted", "handshake ended"]


@on_uvloop
async def test_without_a_descriptor_the_connection_is_closed() -> None:
    """If the system has no descriptor for the second transport, the first one is closed."""

    def dup() -> None:
        raise OSError(errno.EMFILE, "too many open files")

    closed = asyncio.Event()
    transport = SimpleNamespace(
        get_extra_info=lambda _name: SimpleNamespace(dup=dup), abort=closed.set
    )
    protocol, running = Echo(), set[asyncio.Task[None]]()
    handshake = begin(protocol, ssl.create_default_context(), running)
    handshake.connection_made(cast("asyncio.BaseTransport", transport))
    assert closed.is_set()
    assert (protocol.events, running) == ([], set())
