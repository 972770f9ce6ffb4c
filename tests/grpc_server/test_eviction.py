"""Tests of the eviction of connections, by a real server with clients that ask or read nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from hyperframe.frame import SettingsFrame
from karmo.auth.v1.token_service_pb2_grpc import add_TokenServiceServicer_to_server

from sidecar.api import SERVICES
from sidecar.grpc_server.server import GrpcLimits, GrpcServer
from sidecar.interceptors.admission import Admission
from tests.faults import http2_abuse as abuse
from tests.faults.bad_http2 import OPENING, BadClient, connected
from tests.faults.conditions import eventually
from tests.running_server import GUARD, LOOPBACK, Servicer, Stub, call_of
from tests.ways import PUBLIC_URL

LIMIT = 4
CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
NOTHING = abuse.message(b"")
# A client that has acknowledged the settings of the server.
ACKNOWLEDGED = OPENING + SettingsFrame(0, flags=["ACK"]).serialize()
# A client to whom no data of a response may be sent.
CLOSED_WINDOW = ACKNOWLEDGED + SettingsFrame(0, settings={4: 0}).serialize()
# Seconds that core gives a client after GOAWAY to answer its ping.
GRACE_OF_CORE = 20
# The ways of clients to take a place and ask nothing.
SILENT = {
    "no preface": b"",
    "a preface": OPENING,
    "no call": ACKNOWLEDGED,
    "no message": ACKNOWLEDGED + abuse.head(),
    "a past call": ACKNOWLEDGED + abuse.call(path=CHECK, body=NOTHING),
    "a watch": ACKNOWLEDGED + abuse.call(path=WATCH, body=NOTHING),
    "an unread response": CLOSED_WINDOW + abuse.call(path=CHECK, body=NOTHING),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A server that allows four connections."""

    server: GrpcServer
    servicer: Servicer
    address: str

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[grpc.aio.Channel]:
        """Yield a channel with a connection of its own."""
        options = (("grpc.use_local_subchannel_pool", 1),)
        async with grpc.aio.insecure_channel(self.address, options) as channel:
            yield channel

    async def good(self) -> None:
        """Be served over a new connection."""
        async with self.channel() as channel:
            assert (await call_of(channel, "at once", "")).access_token == "token"


@asynccontextmanager
async def serving(read_timeout: float = GUARD) -> AsyncIterator[Scene]:
    """Run a server whose clients have so many seconds to read a response."""
    server = GrpcServer(
        SERVICES,
        Admission(100, streams=100),
        public_url=PUBLIC_URL,
        reflects=False,
        limits=GrpcLimits(handshake_timeout=GUARD, read_timeout=read_timeout, connections=LIMIT),
    )
    servicer = Servicer()
    add_TokenServiceServicer_to_server(servicer, server.server)
    address = server.bind(LOOPBACK)
    await server.start()
    try:
        yield Scene(server=server, servicer=servicer, address=str(address))
    finally:
        servicer.release.set()
        server.cut(0.1)
        await server.stop(GUARD)


async def crowd(stack: AsyncExitStack, scene: Scene, opening: bytes, count: int) -> list[BadClient]:
    """Open `count` connections that send `opening` and no more."""
    opened = [connected(scene.address, opening) for _ in range(count)]
    return [await stack.enter_async_context(client) for client in opened]


def has_evicted(scene: Scene, count: int) -> bool:
    """Return whether so many connections were ended."""
    return scene.server.counts.evicted >= count


@pytest.mark.parametrize("opening", SILENT.values(), ids=SILENT)
async def test_silent_connections_make_room(opening: bytes) -> None:
    """As many as the limit ask nothing, and each of many good clients is served beside them."""
    async with AsyncExitStack() as stack, serving() as scene:
        await crowd(stack, scene, opening, LIMIT)
        for evicted in range(1, 5):
            await scene.good()
            await crowd(stack, scene, opening, 1)
            await eventually(partial(has_evicted, scene, evicted))
        await scene.good()


async def test_a_call_in_flight_is_never_ended() -> None:
    """While a call goes on, its connection stays, and silent ones are ended."""
    async with AsyncExitStack() as stack, serving() as scene:
        channel = await stack.enter_async_context(scene.channel())
        call = call_of(channel, "wait", "")
        await scene.servicer.running.wait()
        await crowd(stack, scene, ACKNOWLEDGED, 2 * LIMIT - 1)
        await eventually(partial(has_evicted, scene, LIMIT))
        assert not call.done()
        scene.servicer.release.set()
        assert (await call).access_token == "token"


async def test_up_to_the_limit_nobody_is_ended() -> None:
    """Connections within the limit stay; one more ends the longest idle one, and no other."""
    check = partial(abuse.call, path=CHECK, body=NOTHING)
    async with AsyncExitStack() as stack, serving() as scene:
        clients = await crowd(stack, scene, ACKNOWLEDGED, LIMIT)
        for client in clients:  # they are idle since then, in this order
            await client.send(check())
            assert (await client.answered()).code == 0
        assert scene.server.counts.evicted == 0
        clients += await crowd(stack, scene, ACKNOWLEDGED + check(), 1)
        await clients[0].closed()
        for client in clients[1:]:
            await client.send(check(stream=3))
            assert (await client.answered(3)).code == 0
        assert scene.server.counts.evicted == 1


async def test_who_does_not_read_is_ended() -> None:
    """A client with an unread response is ended when its time is over, and no other."""
    async with serving(read_timeout=0.2) as scene, scene.channel() as idle:
        assert (await call_of(idle, "at once", "")).access_token == "token"
        async with connected(scene.address, SILENT["an unread response"]) as client:
            assert (await client.closed()).answer().code is None
        assert scene.server.counts.evicted == 1
        await scene.good()


async def test_unread_responses_are_bounded() -> None:
    """A client with more unread responses than the limit is ended, long before its time is over."""
    calls = (abuse.call(path=CHECK, body=NOTHING, stream=number) for number in range(1, 100, 2))
    async with serving() as scene:
        async with connected(scene.address, CLOSED_WINDOW + b"".join(calls)) as client:
            await client.closed()
        await scene.good()


@pytest.mark.timing("a slow machine only makes it later than the bound that core has of its own")
@pytest.mark.parametrize("name", sorted(SILENT.keys() - {"no message"}))
async def test_nobody_delays_the_end(name: str) -> None:
    """A server that stops ends soon, although a client does not read, close or answer pings.

    Only a call whose message may still come has the time of the drain.
    """
    async with AsyncExitStack() as stack, serving() as scene:
        await crowd(stack, scene, SILENT[name], 1)
        await scene.good()
        before = asyncio.get_running_loop().time()
        await scene.server.stop(100 * GUARD)
        assert asyncio.get_running_loop().time() - before < GRACE_OF_CORE


async def test_an_unread_watch_stops_no_other() -> None:
    """While a client does not read its watch, the health still changes, and others see it."""
    async with asyncio.timeout(GUARD), AsyncExitStack() as stack, serving() as scene:
        await crowd(stack, scene, CLOSED_WINDOW + abuse.call(path=WATCH, body=NOTHING), 2)
        stub: Stub = HealthStub(await stack.enter_async_context(scene.channel()))
        watch = stub.Watch(HealthCheckRequest())
        assert (await watch.read()).status == HealthCheckResponse.NOT_SERVING
        await scene.server.set_serving(serving=True)
        assert (await watch.read()).status == HealthCheckResponse.SERVING
        await scene.server.set_serving(serving=True)  # no change, so no message
        unknown = stub.Watch(HealthCheckRequest(service="none"))
        assert (await unknown.read()).status == HealthCheckResponse.SERVICE_UNKNOWN
        await scene.server.set_serving(serving=False)
        assert (await watch.read()).status == HealthCheckResponse.NOT_SERVING
