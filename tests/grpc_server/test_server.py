"""Tests of the gRPC server around a servicer: health, streams, addresses, shutdown."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import StatusCode
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest

from sidecar.api import SERVICES
from sidecar.grpc_server.server import _OPTIONS, GrpcLimits, GrpcServer
from sidecar.interceptors.admission import Admission
from sidecar.settings.types import Address
from tests.faults.conditions import eventually
from tests.faults.wire import accepts, ipv6_works
from tests.interceptors.test_admission import failure_of
from tests.running_server import (
    GUARD,
    LARGE,
    LOOPBACK,
    SERVICE,
    Call,
    Running,
    Stub,
    open_server,
    reflection,
)
from tests.ways import PUBLIC_URL


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    """Run a server on a free port."""
    async with open_server() as opened:
        yield opened


# Health


@pytest.mark.parametrize("name", ["", SERVICE])
async def test_health_tells_when_calls_are_wanted(running: Running, name: str) -> None:
    """A running server is healthy only while it is set serving, as a whole and by service."""
    seen = [await running.health(name)]
    for serving in (True, False, True):
        await running.server.set_serving(serving=serving)
        seen.append(await running.health(name))
    status = HealthCheckResponse
    assert seen == [status.NOT_SERVING, status.SERVING, status.NOT_SERVING, status.SERVING]


async def test_health_knows_no_other_service(running: Running) -> None:
    """The health of an unknown service is NOT_FOUND."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await running.health("karmo.auth.v1.Other")
    assert caught.value.code() is StatusCode.NOT_FOUND


async def watched(watches: Sequence[Any], status: int) -> None:
    """Assert that the next status of each watch is `status`."""
    for watch in watches:
        assert (await watch.read()).status == status


async def test_a_server_that_stops_finishes_its_calls(running: Running, request_id: str) -> None:
    """At shutdown all health checks get NOT_SERVING, and calls in flight finish.

    Watches end with a reason, and later calls are refused.
    """
    await running.server.set_serving(serving=True)
    stub: Stub = HealthStub(running.channel)
    async with asyncio.timeout(GUARD):
        watches = [stub.Watch(HealthCheckRequest(service=name)) for name in ("", SERVICE) * 3]
        await watched(watches, HealthCheckResponse.SERVING)
        call = running.call("wait", request_id)
        await running.servicer.running.wait()
        await running.server.set_serving(serving=False)
        await watched(watches, HealthCheckResponse.NOT_SERVING)
        assert await running.health(SERVICE) == HealthCheckResponse.NOT_SERVING
        stopping = asyncio.create_task(running.server.stop(GUARD))
        for watch in watches:
            assert await watch.code() is StatusCode.UNAVAILABLE
            assert "being stopped" in await watch.details()
        assert not call.done()
        running.servicer.release.set()
        assert (await call).access_token == "token"
        await stopping
        late = running.call("wait", request_id)
        assert await late.code() is StatusCode.UNAVAILABLE


async def test_who_watches_does_not_delay_the_end(running: Running) -> None:
    """A watch that the client no longer reads does not delay the end."""
    await running.server.set_serving(serving=True)
    stub: Stub = HealthStub(running.channel)
    watch = stub.Watch(HealthCheckRequest())
    async with asyncio.timeout(GUARD):
        await watched([watch], HealthCheckResponse.SERVING)
        await running.server.stop(10 * GUARD)
        assert await watch.code() is StatusCode.UNAVAILABLE


async def test_a_stream_that_nobody_reads_can_be_cut_off() -> None:
    """A client that does not read its stream delays the end only until the cut."""
    is_writing = asyncio.Event()

    async def write(_request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        is_writing.set()
        await context.write(LARGE)

    handlers: dict[str, Any] = {"Write": grpc.unary_stream_rpc_method_handler(write)}
    async with asyncio.timeout(GUARD), open_server(more=handlers) as running:
        stream: Any = running.channel.unary_stream("/test.Streams/Write")
        call = stream(b"")
        await is_writing.wait()
        stopping = asyncio.create_task(running.server.stop(10 * GUARD))
        await eventually(lambda: not accepts(running.address))
        assert not stopping.done()
        running.server.cut(0.5)
        await stopping
        call.cancel()


async def test_a_connection_has_few_streams() -> None:
    """The ninth stream on a connection is refused, until one ends; other connections go on."""
    options = (("grpc.use_local_subchannel_pool", 1),)  # otherwise both channels share a connection
    async with asyncio.timeout(GUARD), AsyncExitStack() as stack:
        running = await stack.enter_async_context(open_server())
        channel = grpc.aio.insecure_channel(running.address, options)
        one: Stub = HealthStub(running.channel)
        other: Stub = HealthStub(await stack.enter_async_context(channel))
        watches = [one.Watch(HealthCheckRequest()) for _ in range(7)]
        await watched(watches, HealthCheckResponse.NOT_SERVING)
        for _ in range(2):  # each ends before the next begins
            question = ServerReflectionRequest(list_services="")
            call: Any = reflection(running)(iter([question]))
            assert len([response async for response in call]) == 1
        watches.append(one.Watch(HealthCheckRequest()))
        await watched(watches[7:], HealthCheckResponse.NOT_SERVING)
        refused = one.Watch(HealthCheckRequest())
        assert await refused.code() is StatusCode.UNAVAILABLE
        details = "There must not be more than 8 streams at once on a connection."
        assert await refused.details() == details
        await watched([other.Watch(HealthCheckRequest())], HealthCheckResponse.NOT_SERVING)
        watches[0].cancel()
        await eventually(partial(has_room, one))
        await running.server.stop(GUARD)


async def has_room(stub: Stub) -> bool:
    """Return whether the server accepts one more watch."""
    with suppress(grpc.aio.AioRpcError):
        await stub.Watch(HealthCheckRequest()).read()
        return True
    return False


async def test_a_stream_that_is_being_written_ends_after_that() -> None:
    """A stream that ends in the middle of a write still delivers the message, then the end."""
    is_writing = asyncio.Event()

    async def write(_request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        is_writing.set()
        await context.write(LARGE)
        raise AssertionError("it was not ended")

    handlers: dict[str, Any] = {"Write": grpc.unary_stream_rpc_method_handler(write)}
    admission = Admission(100, streams=100)
    server = GrpcServer(SERVICES, admission, public_url=PUBLIC_URL, reflects=False)
    generic = grpc.method_handlers_generic_handler("test.Streams", handlers)
    server.server.add_generic_rpc_handlers((generic,))
    bound = server.bind(LOOPBACK)
    await server.start()
    options = (("grpc.max_receive_message_length", -1),)
    async with (
        asyncio.timeout(GUARD),
        grpc.aio.insecure_channel(str(bound), options) as channel,
    ):
        stream: Any = channel.unary_stream("/test.Streams/Write")
        call = stream(b"")
        await is_writing.wait()
        admission.end_streams()  # before the reader has read anything
        assert await call.read() == LARGE
        assert await call.code() is StatusCode.UNAVAILABLE
        await server.stop(GUARD)


async def send_calls(running: Running, request_id: str) -> list[Call]:
    """Return calls that are sent, and whose handlers have not started."""
    await running.call("at once", request_id)
    calls = [running.call("at once", request_id) for _ in range(90)]
    for _ in range(3):
        await asyncio.sleep(0)
    return calls


@pytest.mark.soak
async def test_what_was_received_is_served(running: Running, request_id: str) -> None:
    """Calls that gRPC has received are served, even if no handler has started yet."""
    async with asyncio.timeout(GUARD):
        calls = await send_calls(running, request_id)
        time.sleep(0.2)  # noqa: ASYNC251 they arrive while the loop is blocked
        await running.server.stop(GUARD)
        assert {(await call).access_token for call in calls} == {"token"}


@pytest.mark.soak
async def test_what_was_received_is_refused_at_the_cut(running: Running, request_id: str) -> None:
    """Calls that gRPC has received before a cut hear that the service stops, all of them."""
    admission = running.server._admission
    async with asyncio.timeout(GUARD):
        calls = await send_calls(running, request_id)
        time.sleep(0.2)  # noqa: ASYNC251 they arrive while the loop is blocked
        admission.end_calls()
        stopping = asyncio.create_task(running.server.stop(GUARD))
        running.server.cut(0.5)
        outcomes = [await failure_of(call) for call in calls]
        await stopping
    assert all(outcome.problem for outcome in outcomes)


async def test_who_goes_on_calling_does_not_keep_a_server_that_is_cut(
    running: Running, request_id: str
) -> None:
    """A caller that calls again whatever it hears is served until the cut; then the server ends."""
    codes: list[StatusCode] = []
    async with asyncio.timeout(GUARD):
        stopping = asyncio.create_task(running.server.stop(10 * GUARD))
        while not stopping.done():
            codes.append(await running.call("at once", request_id).code())
            if len(codes) == 20:
                running.server.cut(0.2)
    assert codes[:20] == [StatusCode.OK] * 20
    assert codes[-1] is not StatusCode.OK


async def test_the_last_answers_still_arrive(running: Running, request_id: str) -> None:
    """The answers of the last calls all reach their callers before the server ends."""
    async with asyncio.timeout(GUARD):
        calls = [running.call("wait", request_id) for _ in range(90)]
        for _ in calls:
            await running.servicer.waiting.get()
        stopping = asyncio.create_task(running.server.stop(GUARD))
        running.servicer.release.set()
        assert {(await call).access_token for call in calls} == {"token"}
        await stopping


async def test_a_call_without_end_does_not_keep_the_server(
    running: Running, request_id: str
) -> None:
    """A call that is still in flight at the end of the grace period is aborted."""
    async with asyncio.timeout(GUARD):
        call = running.call("wait", request_id)
        await running.servicer.running.wait()
        await running.server.stop(0.1)
        assert await call.code() is StatusCode.UNAVAILABLE


# Addresses


@pytest.mark.parametrize("name", [name for name, _ in (*_OPTIONS, *GrpcLimits().options())])
def test_every_option_is_one_of_grpc(name: str) -> None:
    """Every option is known to gRPC: it ignores a misspelt one, which then limits nothing."""
    core = Path(str(import_module("grpc._cython.cygrpc").__file__)).read_bytes()
    assert f"{name}\0".encode() in core


async def test_an_address_of_another_server_is_in_use() -> None:
    """Two servers never share a port, which would split the calls between them."""
    first, second = (
        GrpcServer(SERVICES, Admission(100, streams=100), public_url=PUBLIC_URL, reflects=False)
        for _ in range(2)
    )
    (taken,) = first.bind(LOOPBACK).addresses
    assert taken.port > 0
    with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{taken.port}: "):
        second.bind(taken)


async def test_an_address_of_anybody_is_in_use() -> None:
    """A port on which another process listens cannot be bound."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = Address("127.0.0.1", listener.getsockname()[1])
        server = GrpcServer(
            SERVICES, Admission(100, streams=100), public_url=PUBLIC_URL, reflects=False
        )
        with pytest.raises(OSError, match=f"^cannot listen on {taken}"):
            server.bind(taken)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        pytest.param("::1", marks=pytest.mark.skipif(not ipv6_works(), reason="no IPv6")),
    ],
)
async def test_every_kind_of_address_is_served(host: str) -> None:
    """The server listens on IPv4 and IPv6 addresses, and on localhost."""
    async with open_server(Address(host, 0)) as running:
        assert await running.health("") == HealthCheckResponse.NOT_SERVING
