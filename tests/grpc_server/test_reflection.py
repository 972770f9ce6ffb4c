"""Tests of the reflection service: the protocol over a real server, grpcurl and buf."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.message_factory import GetMessageClass
from grpc import StatusCode
from grpc_health.v1.health_pb2 import HealthCheckResponse
from grpc_reflection.v1alpha.reflection_pb2 import (
    ExtensionRequest,
    ServerReflectionRequest,
    ServerReflectionResponse,
)

from sidecar.grpc_server.reflection import Reflection
from sidecar.grpc_server.schema import Schema
from tests.grpc_server.described import DURATION, FILE, SYMBOLS, compiled, pool_of
from tests.running_server import GUARD, METHOD, SERVICE, Running, open_server
from tests.sidecar_process import Ended, find_tool, printed, run
from tests.ways import outcome_of

V1, V1ALPHA = (f"grpc.reflection.{version}.ServerReflection" for version in ("v1", "v1alpha"))
SERVED = [SERVICE, "grpc.health.v1.Health", V1, V1ALPHA]
NOT_FOUND, INVALID = (code.value[0] for code in (StatusCode.NOT_FOUND, StatusCode.INVALID_ARGUMENT))
Question = ServerReflectionRequest
LIST = Question(list_services="")
both = pytest.mark.parametrize("service", [V1, V1ALPHA], ids=["v1", "v1alpha"])


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    """Run our server on a free port."""
    async with open_server() as opened:
        yield opened


@pytest.fixture(scope="module", name="published")
def _published(tmp_path_factory: pytest.TempPathFactory) -> FileDescriptorSet:
    return compiled(tmp_path_factory.mktemp("described"))


@asynccontextmanager
async def described(published: FileDescriptorSet) -> AsyncIterator[str]:
    """Run a server that describes a schema of every kind of symbol; yield its address."""
    server = grpc.aio.server()
    Reflection(Schema((), published)).add_to(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


def stream_of(
    channel: grpc.aio.Channel,
    service: str,
    request: type[Any] = ServerReflectionRequest,
    response: type[Any] = ServerReflectionResponse,
) -> Any:
    """Return a new stream of questions, whose messages are of the given classes."""
    method: Any = channel.stream_stream(
        f"/{service}/ServerReflectionInfo", request.SerializeToString, response.FromString
    )
    return method(timeout=GUARD)


async def ask(
    channel: grpc.aio.Channel, *questions: ServerReflectionRequest, service: str = V1
) -> list[Any]:
    """Return the responses to `questions` on one stream, which the server must then end."""
    stream = stream_of(channel, service)
    responses = []
    for question in questions:
        await stream.write(question)
        responses.append(await stream.read())
    await stream.done_writing()
    assert await stream.read() is grpc.aio.EOF
    assert await stream.code() is StatusCode.OK
    return responses


async def ask_described(published: FileDescriptorSet, *questions: Question) -> list[Any]:
    """Return the responses of a server for the schema of every kind of symbol."""
    async with described(published) as address, grpc.aio.insecure_channel(address) as channel:
        return await ask(channel, *questions)


def files_of(response: Any) -> list[str]:
    """Return the names of the files in a response."""
    files = response.file_descriptor_response.file_descriptor_proto
    return [FileDescriptorProto.FromString(file).name for file in files]


# The protocol


@both
async def test_the_services_are_listed(running: Running, service: str) -> None:
    """Exactly the services of the server are listed, sorted, by both versions."""
    (response,) = await ask(running.channel, LIST, service=service)
    assert [one.name for one in response.list_services_response.service] == sorted(SERVED)


@both
async def test_our_symbols_are_found(running: Running, service: str) -> None:
    """Services, methods, messages of calls and of error details are found by both versions."""
    symbols = {
        SERVICE: "karmo/auth/v1/token_service.proto",
        METHOD.replace("/", ".").strip("."): "karmo/auth/v1/token_service.proto",
        "karmo.problem.v1.ProblemDetails": "karmo/problem/v1/problem_details.proto",
        "google.rpc.ErrorInfo": "google/rpc/error_details.proto",
        "grpc.health.v1.Health.Check": None,
        f"{V1}.ServerReflectionInfo": "grpc/reflection/v1/reflection.proto",
        f"{V1ALPHA}.ServerReflectionInfo": None,
    }
    for symbol, file in symbols.items():
        question = Question(file_containing_symbol=symbol)
        (response,) = await ask(running.channel, question, service=service)
        assert files_of(response)[0] == (file or files_of(response)[0])


@pytest.mark.parametrize("symbol", SYMBOLS.values(), ids=SYMBOLS)
async def test_every_kind_of_symbol_is_found(published: FileDescriptorSet, symbol: str) -> None:
    """A symbol of each kind gives its file, with the imports of that."""
    (response,) = await ask_described(published, Question(file_containing_symbol=symbol))
    assert files_of(response) == [FILE, DURATION]


async def test_files_and_extensions_are_found(published: FileDescriptorSet) -> None:
    """A file is found by name and by extension, and a message has its extension numbers."""
    extension = ExtensionRequest(containing_type="described.v1.Outer", extension_number=101)
    by_name, by_extension, numbers, none = await ask_described(
        published,
        Question(file_by_filename=DURATION),
        Question(file_containing_extension=extension),
        Question(all_extension_numbers_of_type="described.v1.Outer"),
        Question(all_extension_numbers_of_type="described.v1.Outer.Inner"),
    )
    assert files_of(by_name) == [DURATION]
    assert files_of(by_extension) == [FILE]  # its import was sent before
    found = numbers.all_extension_numbers_response
    assert (found.base_type_name, [*found.extension_number]) == ("described.v1.Outer", [100, 101])
    assert none.WhichOneof("message_response") == "all_extension_numbers_response"
    assert [*none.all_extension_numbers_response.extension_number] == []


async def test_imports_are_sent_once_on_a_stream(published: FileDescriptorSet) -> None:
    """A file comes with imports that this stream has not had; another stream has them again."""
    question = Question(file_containing_symbol="described.v1.Outer")
    async with described(published) as address, grpc.aio.insecure_channel(address) as channel:
        for _ in range(2):
            responses = await ask(channel, question, question)
            assert list(map(files_of, responses)) == [[FILE, DURATION], [FILE]]


UNKNOWN = {
    "symbol": Question(file_containing_symbol="karmo.auth.v1.Canary"),
    "method": Question(file_containing_symbol=f"{SERVICE}.Canary"),
    "symbol with a dot": Question(file_containing_symbol=f".{SERVICE}"),
    "no symbol": Question(file_containing_symbol=""),
    "long symbol": Question(file_containing_symbol="a." * 6_000),
    "file": Question(file_by_filename="canary.proto"),
    "no file": Question(file_by_filename=""),
    "extension": Question(
        file_containing_extension=ExtensionRequest(
            containing_type="google.protobuf.MethodOptions", extension_number=-1
        )
    ),
    "extension of no message": Question(
        file_containing_extension=ExtensionRequest(containing_type="Canary", extension_number=1)
    ),
    "numbers of no message": Question(all_extension_numbers_of_type=SERVICE),
}


@pytest.mark.parametrize("question", UNKNOWN.values(), ids=UNKNOWN)
async def test_what_is_unknown_is_not_found(running: Running, question: Question) -> None:
    """An unknown name gets an error that says so, and the stream goes on."""
    question.host = "any.example"
    response, after = await ask(running.channel, question, LIST)
    assert response.error_response.error_code == NOT_FOUND
    assert response.error_response.error_message.startswith("The server has no such ") or (
        "extension" in response.error_response.error_message
    )
    assert response.original_request == question
    assert response.valid_host == "any.example"
    assert len(after.list_services_response.service) == len(SERVED)


async def test_a_request_without_a_question_is_invalid(running: Running) -> None:
    """A request that asks nothing gets an error, and the stream goes on."""
    response, after = await ask(running.channel, Question(), LIST)
    assert response.error_response.error_code == INVALID
    assert after.WhichOneof("message_response") == "list_services_response"


@both
@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"\x22\x02\xff\xfe", StatusCode.INVALID_ARGUMENT),
        (b"\x22\x7f", StatusCode.INVALID_ARGUMENT),
        (b"\x7b" * 8_000, StatusCode.INVALID_ARGUMENT),
        (b"\x22\xff\xff\x00" + b"a" * 16_383, StatusCode.RESOURCE_EXHAUSTED),
    ],
    ids=["no UTF-8", "truncated", "nested", "over 16 KiB"],
)
async def test_a_malformed_request_ends_its_stream(
    running: Running, service: str, message: bytes, code: StatusCode
) -> None:
    """Bytes that are no request end their stream with a status, and no other stream."""
    method: Any = running.channel.stream_stream(f"/{service}/ServerReflectionInfo")
    stream = method(timeout=GUARD)
    await stream.write(LIST.SerializeToString())
    assert SERVICE.encode() in await stream.read()
    await stream.write(message)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    assert caught.value.code() is code
    if code is StatusCode.INVALID_ARGUMENT:
        assert outcome_of(caught.value).problem
    assert len(await ask(running.channel, LIST)) == 1


async def test_streams_do_not_delay_the_end(running: Running) -> None:
    """A stream on which nothing is asked ends when the server stops, with the reason."""
    async with asyncio.timeout(GUARD):
        stream = stream_of(running.channel, V1)
        await stream.write(LIST)
        await stream.read()
        await running.server.stop(10 * GUARD)
        assert await stream.code() is StatusCode.UNAVAILABLE
        assert "being stopped" in await stream.details()


@both
async def test_reflection_can_be_off(service: str) -> None:
    """Without reflection, neither version is implemented."""
    async with open_server(reflects=False) as running:
        stream = stream_of(running.channel, service)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream.read()
        outcome = outcome_of(caught.value)
        assert outcome.code is StatusCode.UNIMPLEMENTED
        assert outcome.problem is not None
        assert outcome.problem["karmoCode"] == "40400001"
        assert await running.health("") == HealthCheckResponse.NOT_SERVING


async def test_v1_is_as_it_describes_itself(running: Running) -> None:
    """A client made of v1's own description can talk to v1, and finds no name of v1alpha in it."""
    (response,) = await ask(running.channel, Question(file_containing_symbol=V1))
    files = response.file_descriptor_response.file_descriptor_proto
    assert not any(b"v1alpha" in file for file in files)
    service = pool_of(files).FindServiceByName(V1)
    assert not service.file.GetOptions().deprecated
    (method,) = service.methods
    request, answer = map(GetMessageClass, (method.input_type, method.output_type))
    assert request.DESCRIPTOR.full_name == "grpc.reflection.v1.ServerReflectionRequest"
    stream = stream_of(running.channel, V1, request, answer)
    await stream.write(request(list_services="", host="here"))
    listed: Any = await stream.read()
    assert {one.name for one in listed.list_services_response.service} == set(SERVED)
    assert listed.original_request == request(list_services="", host="here")
    await stream.done_writing()


async def methods_of(running: Running, service: str) -> list[str]:
    """Return the paths of the methods of `service`, as reflection describes it."""
    (response,) = await ask(running.channel, Question(file_containing_symbol=service))
    files = response.file_descriptor_response.file_descriptor_proto
    methods = pool_of(files).FindServiceByName(service).methods
    return [f"/{service}/{method.name}" for method in methods]


async def code_of(running: Running, path: str) -> StatusCode:
    """Call a method with an empty message; return its code, or OK if its stream stays open."""
    method: Any = running.channel.stream_stream(path)
    call = method(timeout=GUARD)
    await call.write(b"")
    with suppress(grpc.aio.AioRpcError):
        if await call.read() is not grpc.aio.EOF:
            call.cancel()
            return StatusCode.OK
    code: StatusCode = await call.code()
    return code


async def test_each_method_that_is_described_has_an_answer(running: Running) -> None:
    """A method that reflection offers is served or UNIMPLEMENTED, and never a fault of ours."""
    (listed,) = await ask(running.channel, LIST)
    services = [one.name for one in listed.list_services_response.service]
    paths = [path for service in services for path in await methods_of(running, service)]
    codes = {path: await code_of(running, path) for path in paths}
    assert codes == {
        METHOD: StatusCode.OK,
        "/grpc.health.v1.Health/Check": StatusCode.OK,
        "/grpc.health.v1.Health/List": StatusCode.UNIMPLEMENTED,
        "/grpc.health.v1.Health/Watch": StatusCode.OK,
        f"/{V1}/ServerReflectionInfo": StatusCode.OK,
        f"/{V1ALPHA}/ServerReflectionInfo": StatusCode.OK,
    }


# Tools


async def grpcurl(address: str, *arguments: str) -> Ended:
    """Run grpcurl to its end."""
    return await run(find_tool("grpcurl"), "-plaintext", address, *arguments)


async def test_grpcurl_lists_what_is_served(running: Running) -> None:
    """`list` names all services, and the method of ours."""
    services = printed(await grpcurl(running.address, "list"))
    assert services.split() == sorted(SERVED)
    methods = printed(await grpcurl(running.address, "list", SERVICE))
    assert methods.split() == [f"{SERVICE}.ExchangeToken"]


DESCRIBED: Sequence[tuple[str, str]] = (
    (f"{SERVICE}.ExchangeToken", "is a method"),
    (SERVICE, "is a service"),
    ("karmo.auth.v1.ExchangeTokenRequest", "is a message"),
    ("karmo.auth.v1.ExchangeTokenRequest.client_id", "is a field"),
    ("karmo.problem.v1.ProblemReason", "is an enum"),
    ("karmo.problem.v1.ProblemReason.PROBLEM_REASON_CONFLICT", "is an enum value"),
    ("google.api.http", "is an extension"),
    ("google.rpc.ErrorInfo", "is a message"),
    ("grpc.health.v1.Health.Check", "is a method"),
    (V1, "is a service"),
    (f"{V1}.ServerReflectionInfo", "is a method"),
    (f"{V1ALPHA}.ServerReflectionInfo", "is a method"),
)


@pytest.mark.parametrize(("symbol", "kind"), DESCRIBED)
async def test_grpcurl_describes_every_kind(running: Running, symbol: str, kind: str) -> None:
    """`describe` finds services, methods, messages, fields, enums, values and extensions."""
    assert f"{symbol} {kind}:" in printed(await grpcurl(running.address, "describe", symbol))


async def test_grpcurl_describes_all(running: Running) -> None:
    """`describe` without a symbol describes every service."""
    described = printed(await grpcurl(running.address, "describe"))
    assert [line for line in described.splitlines() if line.endswith("is a service:")] == [
        f"{service} is a service:" for service in sorted(SERVED)
    ]


async def test_grpcurl_tells_an_unknown_symbol(running: Running) -> None:
    """`describe` of an unknown name fails by that."""
    end = await grpcurl(running.address, "describe", f"{SERVICE}.Canary")
    assert end.status != 0
    assert f"Symbol not found: {SERVICE}.Canary" in end.stderr


async def test_grpcurl_prints_comments(published: FileDescriptorSet) -> None:
    """If the published schema has comments, `describe` prints them."""
    async with described(published) as address:
        method = printed(await grpcurl(address, "describe", "described.v1.Describer.Describe"))
        message = printed(await grpcurl(address, "describe", "described.v1.Outer"))
    assert "// A method with a comment." in method
    assert "// A field with a comment." in message


@pytest.mark.parametrize("protocol", ["grpc-v1", "grpc-v1alpha"])
async def test_buf_calls_by_reflection(running: Running, tmp_path: Path, protocol: str) -> None:
    """`buf curl` makes a call with the schema of each version."""
    options = ("--protocol", "grpc", "--http2-prior-knowledge", "--reflect-protocol", protocol)
    call = (*options, "-d", '{"grant_type": "x"}', f"http://{running.address}{METHOD}")
    end = await run(find_tool("buf"), "curl", *call, env={"HOME": str(tmp_path)})
    assert '"access_token": "token"' in printed(end)


async def test_buf_lists_the_methods(running: Running, tmp_path: Path) -> None:
    """`buf curl` lists all methods."""
    options = ("--protocol", "grpc", "--http2-prior-knowledge", "--list-methods")
    end = await run(
        find_tool("buf"), "curl", *options, f"http://{running.address}", env={"HOME": str(tmp_path)}
    )
    assert METHOD.strip("/") in printed(end).split()
