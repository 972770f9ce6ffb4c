"""The gRPC server around a servicer: health, reflection, addresses, and its access lines."""

import asyncio
import socket
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn, cast

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.rpc.error_details_pb2 import RequestInfo
from grpc import StatusCode
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub
from karmo.auth.v1.token_service_pb2 import ExchangeTokenRequest, ExchangeTokenResponse
from karmo.auth.v1.token_service_pb2_grpc import (
    TokenServiceServicer,
    TokenServiceStub,
    add_TokenServiceServicer_to_server,
)
from karmo.problem.v1 import problem_details_pb2 as pb

from sidecar.admission import Admission
from sidecar.grpc_server import _OPTIONS, AccessLog, GrpcServer
from sidecar.in_process import InProcessChannel
from sidecar.problems import Problem, ProblemError, find_detail
from sidecar.runtime import SERVICES
from sidecar.setting_types import Address
from tests.faults.conditions import eventually
from tests.faults.wire import accepts
from tests.recorded import Line, recorded
from tests.upstream import answer
from tests.ways import PUBLIC_URL, House, outcome_of

# The longest that anything here may take before the test fails, in seconds.
GUARD = 60
# More than any reader gets before it reads, in bytes.
LARGE = b"." * (16 * 2**20)
SERVICE = "karmo.auth.v1.TokenService"
METHOD = f"/{SERVICE}/ExchangeToken"
LOOPBACK = Address("127.0.0.1", 0)
FIELDS = {"grant_type": "client_credentials", "client_id": "partner", "client_secret": "secret"}
Call = grpc.aio.UnaryUnaryCall[ExchangeTokenRequest, ExchangeTokenResponse]
# Any: the stub of the health service names the types of none of its methods.
Stub = Any


class Servicer(TokenServiceServicer):
    """Ends each call as the grant type of its request says."""

    def __init__(self) -> None:
        self.running = asyncio.Event()
        self.release = asyncio.Event()
        self.waiting: asyncio.Queue[None] = asyncio.Queue()

    async def ExchangeToken(  # noqa: N802 the name of the RPC
        self, request: ExchangeTokenRequest, context: Any
    ) -> ExchangeTokenResponse:
        """Answer, fail or wait."""
        self.running.set()
        match request.grant_type:
            case "problem":
                raise ProblemError(Problem(reason=pb.PROBLEM_REASON_CONFLICT))
            case "fault":
                raise ValueError("canary")
            case "abort":
                await context.abort(StatusCode.DATA_LOSS, "own words")
            case "code":
                context.set_code(StatusCode.ALREADY_EXISTS)
            case "wait":
                self.waiting.put_nowait(None)
                await self.release.wait()
            case "wait and fail":
                await self._fail_when_cancelled()
        return ExchangeTokenResponse(access_token="token")

    async def _fail_when_cancelled(self) -> NoReturn:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ProblemError(Problem(reason=pb.PROBLEM_REASON_UPSTREAM_TIMEOUT)) from None
        raise AssertionError("it waits for ever")


class Running:
    """A server that has not been made healthy yet, its servicer, and a channel to it."""

    def __init__(
        self, server: GrpcServer, address: str, servicer: Servicer, channel: grpc.aio.Channel
    ) -> None:
        self.server = server
        self.address = address
        self.servicer = servicer
        self.channel = channel

    async def health(self, name: str) -> int:
        """Return the status of the service of that name, or of all."""
        stub: Stub = HealthStub(self.channel)
        response = await stub.Check(HealthCheckRequest(service=name), timeout=GUARD)
        status: int = response.status
        return status

    def call(self, grant_type: str, request_id: str) -> Call:
        """Call the servicer."""
        return call_of(self.channel, grant_type, request_id)


def call_of(
    channel: grpc.aio.Channel, grant_type: str, request_id: str, timeout: float = GUARD
) -> Call:
    """Call the servicer at the other end of `channel`."""
    return TokenServiceStub(channel).ExchangeToken(
        ExchangeTokenRequest(grant_type=grant_type),
        metadata=(("x-request-id", request_id),),
        timeout=timeout,
    )


@asynccontextmanager
async def open_server(
    address: Address = LOOPBACK, *, reflects: bool = True, more: Mapping[str, Any] | None = None
) -> AsyncIterator[Running]:
    """Run a server on `address`, with `more` handlers in a service test.Streams."""
    async with AsyncExitStack() as stack:
        server = GrpcServer(SERVICES, Admission(100), public_url=PUBLIC_URL, reflects=reflects)
        servicer = Servicer()
        add_TokenServiceServicer_to_server(servicer, server.server)
        generic = grpc.method_handlers_generic_handler("test.Streams", dict(more or {}))
        server.server.add_generic_rpc_handlers((generic,))
        bound = server.bind(address)
        await server.start()
        stack.push_async_callback(server.stop, 0)
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(str(bound)))
        yield Running(server, str(bound), servicer, channel)


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    """Run a server on a free port."""
    async with open_server() as opened:
        yield opened


@pytest.fixture
def request_id() -> str:
    """Give a new request id."""
    return str(uuid.uuid4())


# Health


@pytest.mark.parametrize("name", ["", SERVICE])
async def test_health_tells_when_calls_are_wanted(running: Running, name: str) -> None:
    """A server that runs is healthy only while it is said to be, as a whole and by service."""
    seen = [await running.health(name)]
    for serving in (True, False, True):
        await running.server.set_serving(serving=serving)
        seen.append(await running.health(name))
    status = HealthCheckResponse
    assert seen == [status.NOT_SERVING, status.SERVING, status.NOT_SERVING, status.SERVING]


async def test_health_knows_no_other_service(running: Running) -> None:
    """Who asks for a service that is not here is told so, and not that all is well."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await running.health("karmo.auth.v1.Other")
    assert caught.value.code() is StatusCode.NOT_FOUND


async def watched(watches: Sequence[Any], status: int) -> None:
    """Assert that each watch tells `status` next."""
    for watch in watches:
        assert (await watch.read()).status == status


async def test_a_server_that_stops_finishes_its_calls(running: Running, request_id: str) -> None:
    """All who watch or ask hear NOT_SERVING; watches end with a reason, a call in flight well.

    A call that comes later is refused.
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
    """A watch that nobody reads any more is ended as well."""
    await running.server.set_serving(serving=True)
    stub: Stub = HealthStub(running.channel)
    watch = stub.Watch(HealthCheckRequest())
    async with asyncio.timeout(GUARD):
        await watched([watch], HealthCheckResponse.SERVING)
        await running.server.stop(10 * GUARD)
        assert await watch.code() is StatusCode.UNAVAILABLE


async def test_a_stream_that_nobody_reads_can_be_cut_off() -> None:
    """Whoever asks and reads no answer keeps the end waiting only until that is hastened."""
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
        running.server.cut()
        await stopping
        call.cancel()


async def test_a_connection_has_few_streams() -> None:
    """The ninth watch on a connection is refused; others watch, and one that ends makes room."""
    options = (("grpc.use_local_subchannel_pool", 1),)  # or both would share a connection
    async with asyncio.timeout(GUARD), AsyncExitStack() as stack:
        running = await stack.enter_async_context(open_server())
        channel = grpc.aio.insecure_channel(running.address, options)
        one: Stub = HealthStub(running.channel)
        other: Stub = HealthStub(await stack.enter_async_context(channel))
        watches = [one.Watch(HealthCheckRequest()) for _ in range(7)]
        await watched(watches, HealthCheckResponse.NOT_SERVING)
        for _ in range(2):  # each makes room for the next when it ends
            question = ServerReflectionRequest(list_services="")
            call: Any = reflection(running).ServerReflectionInfo(iter([question]))
            assert len([response async for response in call]) == 1
        watches.append(one.Watch(HealthCheckRequest()))
        await watched(watches[7:], HealthCheckResponse.NOT_SERVING)
        refused = one.Watch(HealthCheckRequest())
        assert await refused.code() is StatusCode.UNAVAILABLE
        told = "There must not be more than 8 streams at once on a connection."
        assert await refused.details() == told
        await watched([other.Watch(HealthCheckRequest())], HealthCheckResponse.NOT_SERVING)
        watches[0].cancel()
        await eventually(partial(has_room, one))
        await running.server.stop(GUARD)


async def has_room(stub: Stub) -> bool:
    """Return whether one more watch is answered."""
    with suppress(grpc.aio.AioRpcError):
        await stub.Watch(HealthCheckRequest()).read()
        return True
    return False


async def test_a_stream_that_is_being_written_ends_after_that() -> None:
    """An end in the middle of a write lets the reader have what is written, and then the end."""
    is_writing = asyncio.Event()

    async def write(_request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        is_writing.set()
        await context.write(LARGE)
        raise AssertionError("it was not ended")

    handlers: dict[str, Any] = {"Write": grpc.unary_stream_rpc_method_handler(write)}
    admission = Admission(100)
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
        admission.end_streams()  # and the reader has read nothing
        assert await call.read() == LARGE
        assert await call.code() is StatusCode.UNAVAILABLE
        await server.stop(GUARD)


@pytest.mark.soak
async def test_what_was_received_is_served(running: Running, request_id: str) -> None:
    """Calls that gRPC has received, though no handler had its turn yet, are still served."""
    async with asyncio.timeout(GUARD):
        await running.call("at once", request_id)
        calls = [running.call("at once", request_id) for _ in range(90)]
        for _ in range(3):
            await asyncio.sleep(0)  # they are sent
        time.sleep(0.2)  # noqa: ASYNC251 they arrive, while nothing can be done about it
        await running.server.stop(GUARD)
        assert {(await call).access_token for call in calls} == {"token"}


async def test_the_last_answers_still_arrive(running: Running, request_id: str) -> None:
    """Calls that end together, as the last ones, all reach their callers before the server ends."""
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
    """A call that is still in flight at the end of the grace is given up."""
    async with asyncio.timeout(GUARD):
        call = running.call("wait", request_id)
        await running.servicer.running.wait()
        await running.server.stop(0.1)
        assert await call.code() is StatusCode.UNAVAILABLE


# Reflection


def reflection(running: Running) -> Stub:
    """Return the stub of the reflection service, whose stubs know channels without asyncio only."""
    return ServerReflectionStub(cast("grpc.Channel", running.channel))


async def ask(running: Running, request: ServerReflectionRequest) -> Any:
    """Return the answer to one question about the schema."""
    async with asyncio.timeout(GUARD):
        return await reflection(running).ServerReflectionInfo(iter([request])).read()


async def test_reflection_lists_the_services(running: Running) -> None:
    """A tool that asks learns every service that the server has, and no other."""
    response = await ask(running, ServerReflectionRequest(list_services=""))
    assert {service.name for service in response.list_services_response.service} == {
        SERVICE,
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }


async def test_reflection_describes_the_schema(running: Running) -> None:
    """A tool learns methods, messages and JSON names, those of the details of errors included."""
    for symbol in (SERVICE, "karmo.problem.v1.ProblemDetails"):
        question = ServerReflectionRequest(file_containing_symbol=symbol)
        response = await ask(running, question)
        files = map(
            FileDescriptorProto.FromString, response.file_descriptor_response.file_descriptor_proto
        )
        package, _, name = symbol.rpartition(".")
        (file,) = (file for file in files if file.package == package)
        services = {service.name for service in file.service}
        assert name in services | {message.name for message in file.message_type}
        names = {field.json_name for message in file.message_type for field in message.field}
        assert {"client_id", "access_token"} <= names or {"karmoCode", "karmoErrors"} <= names


async def test_reflection_can_be_off() -> None:
    """Without reflection the schema is not told, and asking is as calling what is not there."""
    async with open_server(reflects=False) as running:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(running, ServerReflectionRequest(list_services=""))
        outcome = outcome_of(caught.value)
        assert outcome.code is StatusCode.UNIMPLEMENTED
        assert outcome.problem is not None
        assert outcome.problem["karmoCode"] == "40400001"
        assert await running.health("") == HealthCheckResponse.NOT_SERVING


# Addresses


@pytest.mark.parametrize("name", [name for name, _ in _OPTIONS])
def test_every_option_is_one_of_grpc(name: str) -> None:
    """Core passes over an option that it does not know, so that a misspelt one limits nothing."""
    core = Path(str(import_module("grpc._cython.cygrpc").__file__)).read_bytes()
    assert f"{name}\0".encode() in core


def test_an_address_of_another_server_is_in_use() -> None:
    """Two servers never share a port, which would split the calls between them."""
    first, second = (
        GrpcServer(SERVICES, Admission(100), public_url=PUBLIC_URL, reflects=False)
        for _ in range(2)
    )
    taken = first.bind(LOOPBACK)
    assert taken.port > 0
    with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{taken.port}: "):
        second.bind(taken)


def test_an_address_of_anybody_is_in_use() -> None:
    """A port that something else listens at cannot be taken."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = Address("127.0.0.1", listener.getsockname()[1])
        server = GrpcServer(SERVICES, Admission(100), public_url=PUBLIC_URL, reflects=False)
        with pytest.raises(OSError, match=f"^cannot listen on {taken}"):
            server.bind(taken)


def has_ipv6() -> bool:
    """Whether the loopback address of IPv6 can be listened at."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        pytest.param("::1", marks=pytest.mark.skipif(not has_ipv6(), reason="no IPv6")),
    ],
)
async def test_every_kind_of_address_is_served(host: str) -> None:
    """The server listens on an address of either version of IP, or on the name of loopback."""
    async with open_server(Address(host, 0)) as running:
        assert await running.health("") == HealthCheckResponse.NOT_SERVING


# Access lines


ENDS: Mapping[str, tuple[StatusCode, Line]] = {
    "fine": (StatusCode.OK, {"code": "OK"}),
    "problem": (
        StatusCode.ABORTED,
        {"code": "ABORTED", "reason": "CONFLICT", "karmo_code": "40930001"},
    ),
    "fault": (
        StatusCode.INTERNAL,
        {"code": "INTERNAL", "reason": "INTERNAL", "karmo_code": "50090001"},
    ),
    "abort": (StatusCode.DATA_LOSS, {"code": "DATA_LOSS"}),
    "code": (StatusCode.ALREADY_EXISTS, {"code": "ALREADY_EXISTS"}),
}


def without_measures(line: Line) -> Line:
    """Return what a line says of the call itself."""
    measured = {"time", "level", "logger", "message", "request_id", "peer", "duration_ms"}
    return {name: value for name, value in line.items() if name not in measured}


@pytest.mark.parametrize(("grant_type", "code", "said"), [(k, *v) for k, v in ENDS.items()])
async def test_each_call_has_one_line(
    running: Running, request_id: str, grant_type: str, code: StatusCode, said: Line
) -> None:
    """The line of a call tells its method, its peer and how it ended, as the caller saw it."""
    with recorded() as log:
        assert await running.call(grant_type, request_id).code() is code
        line = await log.access_line(request_id)
        await running.health("")
        assert len(log.find(request_id)) == 1
    assert without_measures(line) == {"protocol": "grpc", "method": METHOD, **said}
    assert line["peer"].startswith("127.0.0.1:")
    assert line["duration_ms"] >= 0


async def test_a_call_that_is_cancelled_has_its_line(running: Running, request_id: str) -> None:
    """A caller that leaves is in the log as CANCELLED."""
    with recorded() as log:
        call = running.call("wait", request_id)
        await running.servicer.running.wait()
        call.cancel()
        line = await log.access_line(request_id)
    assert without_measures(line) == {"protocol": "grpc", "method": METHOD, "code": "CANCELLED"}


@pytest.mark.timing("the handler has its first turn before a timer of the same loop")
async def test_a_call_that_is_too_late_has_its_line(request_id: str) -> None:
    """A call whose deadline passes is in the log as DEADLINE_EXCEEDED, as its caller saw it.

    In process, because over a socket the caller may leave just before the
    server sees the deadline pass.
    """
    async with InProcessChannel(interceptors=(AccessLog(SERVICES),)) as channel:
        servicer = Servicer()
        # It takes handlers as a server does.
        add_TokenServiceServicer_to_server(servicer, cast("grpc.aio.Server", channel))
        with recorded() as log:
            call = call_of(channel, "wait", request_id, timeout=0.1)
            assert await call.code() is StatusCode.DEADLINE_EXCEEDED
            line = await log.access_line(request_id)
    assert without_measures(line) == {
        "protocol": "grpc",
        "method": METHOD,
        "code": "DEADLINE_EXCEEDED",
    }


async def test_a_call_that_fails_too_late_has_its_line(running: Running, request_id: str) -> None:
    """A handler that fails after its caller has left still leaves a line with a code."""
    with recorded() as log:
        call = running.call("wait and fail", request_id)
        await running.servicer.running.wait()
        call.cancel()
        line = await log.access_line(request_id)
    assert line["code"] in {"CANCELLED", "DEADLINE_EXCEEDED"}
    assert line["reason"] == "UPSTREAM_TIMEOUT"


async def test_the_name_of_an_unknown_method_is_not_written(
    running: Running, request_id: str
) -> None:
    """What a caller made up is `unknown` in the log."""
    metadata = (("x-request-id", request_id),)
    with recorded() as log:
        for path in ("/canary.Service/Canary", f"/{SERVICE}/Canary", f"{METHOD}/canary"):
            call: Any = running.channel.unary_unary(path)
            assert await call(b"", metadata=metadata).code() is StatusCode.UNIMPLEMENTED
        lines = await log.access_lines(request_id, 3)
    for line in lines:
        assert without_measures(line) == {
            "protocol": "grpc",
            "method": "unknown",
            "code": "UNIMPLEMENTED",
            "reason": "NOT_FOUND",
            "karmo_code": "40400001",
        }
    assert "canary" not in log.text.lower()


async def test_calls_of_health_and_reflection_have_their_lines(
    running: Running, request_id: str
) -> None:
    """The services beside ours are told by their names, streams included."""
    metadata = (("x-request-id", request_id),)
    health: Stub = HealthStub(running.channel)
    question = ServerReflectionRequest(list_services="")
    with recorded() as log:
        await health.Check(HealthCheckRequest(), metadata=metadata)
        stream = reflection(running).ServerReflectionInfo(iter([question]), metadata=metadata)
        assert len([response async for response in stream]) == 1
        lines = await log.access_lines(request_id, 2)
    assert [(line["method"], line["code"]) for line in lines] == [
        ("/grpc.health.v1.Health/Check", "OK"),
        ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", "OK"),
    ]


# The request id


async def exchange(house: House, *metadata: tuple[str, str]) -> RequestInfo:
    """Have the upstream refuse a client, and return what the refusal tells of the request."""
    house.upstream.reply = answer(401, {"error": "invalid_client"})
    stub = TokenServiceStub(house.channels["grpc"])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ExchangeToken(ExchangeTokenRequest(**FIELDS), metadata=metadata, timeout=GUARD)
    outcome = outcome_of(caught.value)
    assert outcome.details is not None
    info = find_detail(outcome.details, RequestInfo)
    assert info is not None
    return info


async def test_a_request_id_that_is_a_uuid_is_kept(house: House, request_id: str) -> None:
    """One id is in the details for the caller, in the log, and in the request upstream."""
    trace = f"00-{uuid.uuid4().hex}-{'b' * 16}-01"
    with recorded() as log:
        info = await exchange(house, ("x-request-id", request_id), ("traceparent", trace))
        line = await log.access_line(request_id)
    assert info.request_id == request_id
    assert line["upstream_status"] == 401
    assert f"X-Request-Id: {request_id}\r\n".encode() in house.upstream.requests[0]
    assert f"traceparent: {trace}\r\n".encode() in house.upstream.requests[0]


@pytest.mark.parametrize(
    "sent",
    [
        (),
        (("x-request-id", "canary"), ("traceparent", "canary")),
        (("x-request-id", ""), ("traceparent", "")),
        (("x-request-id", f"{uuid.uuid4()} canary"),),
    ],
    ids=["none", "text", "empty", "more than a UUID"],
)
async def test_another_request_id_is_replaced(
    house: House, sent: tuple[tuple[str, str], ...]
) -> None:
    """Without an id of the right form a new one is made, and what was sent goes nowhere."""
    with recorded() as log:
        info = await exchange(house, *sent)
        await log.access_line(str(uuid.UUID(info.request_id)))
    assert f"X-Request-Id: {info.request_id}\r\n".encode() in house.upstream.requests[0]
    assert b"traceparent" not in house.upstream.requests[0]
    assert b"canary" not in house.upstream.requests[0]
    assert "canary" not in log.text
