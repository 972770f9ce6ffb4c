"""The access line of gRPC: one for each call, with what the caller saw of it."""

import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

import grpc
import pytest
from google.rpc.error_details_pb2 import RequestInfo
from grpc import StatusCode
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from karmo.auth.v1.token_service_pb2 import ExchangeTokenRequest
from karmo.auth.v1.token_service_pb2_grpc import (
    TokenServiceStub,
    add_TokenServiceServicer_to_server,
)

from sidecar.api import SERVICES
from sidecar.in_process import InProcessChannel
from sidecar.interceptors.access_log import AccessLog
from sidecar.problems import find_detail
from tests.recorded import Line, recorded
from tests.running_server import (
    FIELDS,
    GUARD,
    METHOD,
    REFLECTIONS,
    SERVICE,
    Running,
    Servicer,
    Stub,
    call_of,
    open_server,
    reflection,
)
from tests.upstream import answer
from tests.ways import Deployment, outcome_of


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    """Run a server on a free port."""
    async with open_server() as opened:
        yield opened


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
        for version in REFLECTIONS:
            stream = reflection(running, version)(iter([question]), metadata=metadata)
            assert len([response async for response in stream]) == 1
        lines = await log.access_lines(request_id, 3)
    assert [(line["method"], line["code"]) for line in lines] == [
        ("/grpc.health.v1.Health/Check", "OK"),
        *((method, "OK") for method in REFLECTIONS),
    ]


# The request id


async def exchange(deployment: Deployment, *metadata: tuple[str, str]) -> RequestInfo:
    """Have the upstream refuse a client, and return what the refusal tells of the request."""
    deployment.upstream.reply = answer(401, {"error": "invalid_client"})
    stub = TokenServiceStub(deployment.channels["grpc"])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ExchangeToken(ExchangeTokenRequest(**FIELDS), metadata=metadata, timeout=GUARD)
    outcome = outcome_of(caught.value)
    assert outcome.details is not None
    info = find_detail(outcome.details, RequestInfo)
    assert info is not None
    return info


async def test_a_request_id_that_is_a_uuid_is_kept(deployment: Deployment, request_id: str) -> None:
    """One id is in the details for the caller, in the log, and in the request upstream."""
    trace = f"00-{uuid.uuid4().hex}-{'b' * 16}-01"
    with recorded() as log:
        info = await exchange(deployment, ("x-request-id", request_id), ("traceparent", trace))
        line = await log.access_line(request_id)
    assert info.request_id == request_id
    assert line["upstream_status"] == 401
    assert f"X-Request-Id: {request_id}\r\n".encode() in deployment.upstream.requests[0]
    assert f"traceparent: {trace}\r\n".encode() in deployment.upstream.requests[0]


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
    deployment: Deployment, sent: tuple[tuple[str, str], ...]
) -> None:
    """Without an id of the right form a new one is made, and what was sent goes nowhere."""
    with recorded() as log:
        info = await exchange(deployment, *sent)
        await log.access_line(str(uuid.UUID(info.request_id)))
    assert f"X-Request-Id: {info.request_id}\r\n".encode() in deployment.upstream.requests[0]
    assert b"traceparent" not in deployment.upstream.requests[0]
    assert b"canary" not in deployment.upstream.requests[0]
    assert "canary" not in log.text
