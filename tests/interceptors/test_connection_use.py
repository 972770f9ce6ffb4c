"""Tests of the record of connections: calls in flight, unread responses, and the longest idle."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from hyperframe.frame import RstStreamFrame, SettingsFrame, WindowUpdateFrame

from sidecar.interceptors.connection_use import ConnectionUse, Peer, peer_of
from sidecar.interceptors.error_boundary import ErrorBoundary
from sidecar.interceptors.request_message import RequestMessage
from tests.faults.bad_http2 import OPENING, BadClient, connected
from tests.faults.conditions import eventually
from tests.faults.http2_abuse import call, head, message
from tests.ways import PUBLIC_URL

# After these, the server may not send the data of any response.
CLOSED_WINDOW = OPENING + SettingsFrame(0, settings={4: 0}).serialize()
OPEN_WINDOW = WindowUpdateFrame(1, 1_000).serialize()


@dataclass(slots=True, kw_only=True)
class Scene:
    """A server behind the interceptor. `Unary` and `Stream` wait for `release`."""

    use: ConnectionUse = field(default_factory=ConnectionUse)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    called: asyncio.Event = field(default_factory=asyncio.Event)
    address: str = ""

    async def unary(self, request: bytes, _context: object) -> bytes:
        """Return the request."""
        self.called.set()
        await self.release.wait()
        return request

    async def stream(self, request: bytes, context: Any) -> None:
        """Write the request back."""
        self.called.set()
        await self.release.wait()
        await context.write(request)

    def unread(self, capacity: int = 1_000) -> set[Peer]:
        """Return the connections whose responses are not read by now, or too many."""
        return self.use.unread(before=asyncio.get_running_loop().time(), capacity=capacity)


@pytest.fixture(name="scene")
async def _scene() -> AsyncIterator[Scene]:
    scene = Scene()
    interceptors = (scene.use, ErrorBoundary(PUBLIC_URL), RequestMessage(timeout=60, capacity=9))
    server = grpc.aio.server(interceptors=interceptors)
    handlers: dict[str, Any] = {
        "Unary": grpc.unary_unary_rpc_method_handler(scene.unary),
        "Stream": grpc.unary_stream_rpc_method_handler(scene.stream),
    }
    generic = grpc.method_handlers_generic_handler("test.Use", handlers)
    server.add_generic_rpc_handlers((generic,))
    scene.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield scene
    scene.release.set()
    await server.stop(None)


def begin(method: str, stream: int = 1, *, is_whole: bool = True) -> bytes:
    """Return a call of a method of the scene, or without `is_whole` its head alone."""
    path = f"/test.Use/{method}"
    return call(path=path, body=message(b"x"), stream=stream) if is_whole else head(path=path)


@asynccontextmanager
async def calling(scene: Scene, *sent: bytes) -> AsyncIterator[tuple[BadClient, Peer]]:
    """Connect with a closed window and send; yield the client and its peer for the server."""
    async with connected(scene.address, CLOSED_WINDOW) as client:
        await client.send(b"".join(sent))
        yield client, client.address


@pytest.mark.parametrize(
    ("name", "peer"),
    [
        ("ipv4:127.0.0.1:1", ("127.0.0.1", 1)),
        ("ipv6:%5B::1%5D:65535", ("::1", 65535)),
        ("ipv6:[fe80::1%25eth0]:8", ("fe80::1%eth0", 8)),
        ("unix:", ("", 0)),
    ],
)
def test_the_peer_has_an_address_and_a_port(name: str, peer: Peer) -> None:
    """Each form of a peer's name in gRPC gives the address and the port."""
    assert peer_of(name) == peer


@pytest.mark.parametrize("method", ["Unary", "Stream"])
async def test_an_unread_response_counts_until_it_is_read(scene: Scene, method: str) -> None:
    """A response is unread from the end of its handler, or its write, until the client reads."""
    async with calling(scene, begin(method)) as (client, peer):
        await scene.called.wait()
        assert scene.unread() == set()
        scene.release.set()
        await eventually(lambda: scene.unread() == {peer})
        assert scene.use.unread(before=0, capacity=1) == set()  # it is not old
        await client.send(OPEN_WINDOW)
        assert (await client.answered()).code == 0
        await eventually(lambda: scene.unread() == set())


async def test_beyond_the_capacity_the_oldest_count(scene: Scene) -> None:
    """If too many responses are unread, those with the oldest ones are named, however young."""
    scene.release.set()
    async with AsyncExitStack() as stack:
        peers: list[Peer] = []
        for _ in range(3):
            _, peer = await stack.enter_async_context(calling(scene, begin("Unary")))
            peers.append(peer)
            await eventually(lambda: scene.unread() == set(peers))
        for capacity in range(4):
            named = scene.use.unread(before=0, capacity=capacity)
            assert named == set(peers[: 3 - capacity])


async def test_a_connection_that_breaks_has_no_unread_response(scene: Scene) -> None:
    """A closed connection is forgotten with its responses."""
    scene.release.set()
    async with calling(scene, begin("Unary"), begin("Stream", 3)) as (_, peer):
        await eventually(lambda: scene.unread() == {peer})
    await eventually(lambda: scene.unread() == set())


async def test_a_refusal_is_sent_whatever_is_read(scene: Scene) -> None:
    """The status of a failed call has no data, so it leaves although the window is closed."""
    async with calling(scene, call(path="/none.Such/Method")) as (client, _):
        assert (await client.answered()).code == grpc.StatusCode.UNIMPLEMENTED.value[0]
        await eventually(lambda: scene.unread() == set())


async def test_the_longest_idle_are_found(scene: Scene) -> None:
    """A connection is idle since its last call, or since it was first seen without one."""
    scene.release.set()
    silent, later = ("192.0.2.1", 1), ("192.0.2.1", 2)
    assert scene.use.idle({silent}, 1) == [silent]
    async with calling(scene) as (one, first), calling(scene) as (two, second):
        for client, stream in ((one, 1), (two, 1), (one, 3)):
            await client.send(begin("Unary", stream) + WindowUpdateFrame(stream, 99).serialize())
            assert (await client.answered(stream)).code == 0
        assert scene.use.idle({first, second, silent, later}, 4) == [silent, second, first, later]
        assert scene.use.known == 4
        assert scene.use.idle({first, second}, 1) == [second]
        assert scene.use.known == 2


async def test_a_call_in_flight_is_not_idle(scene: Scene) -> None:
    """A connection is not idle from the message of a unary call to the end of its handler."""
    async with calling(scene, begin("Unary"), begin("Unary", 3)) as (_, peer):
        await scene.called.wait()
        assert scene.use.idle({peer}, 1) == []
        scene.release.set()
        await eventually(lambda: scene.use.idle({peer}, 1) == [peer])


async def test_each_call_in_flight_counts(scene: Scene) -> None:
    """If one of two calls ends, its connection is not idle."""
    async with calling(scene, begin("Unary"), begin("Unary", 3)) as (client, peer):
        await scene.called.wait()
        await client.send(RstStreamFrame(3, 8).serialize())
        await eventually(lambda: scene.use._busy[peer] == 1)
        assert scene.use.idle({peer}, 1) == []


@pytest.mark.parametrize("method", ["Unary", "Stream"])
async def test_a_call_that_only_waits_is_no_use(scene: Scene, method: str) -> None:
    """A connection with a call without its message, or with a stream, is idle all the same."""
    is_whole = method == "Stream"
    async with calling(scene, begin(method, is_whole=is_whole)) as (_, peer):
        await eventually(lambda: scene.use.known == 1)
        assert scene.use.idle({peer}, 1) == [peer]
        assert scene.use.unused({peer, ("192.0.2.1", 1)}) == {("192.0.2.1", 1)}
    await eventually(lambda: scene.use.unused({peer}) == {peer})
