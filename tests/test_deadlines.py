"""Tests of deadlines and departing callers: both end the upstream call, over every path.

The paths are the two protocols, each over both channels: REST through the in-process
channel and through a gRPC channel to the same sidecar; gRPC over a socket and in process.
"""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from typing import Any

import grpc
import pytest
import pytest_asyncio
from grpc import StatusCode
from karmo.auth.v1.token_service_pb2 import ExchangeTokenRequest, ExchangeTokenResponse
from karmo.auth.v1.token_service_pb2_grpc import TokenServiceStub

from sidecar.api import SERVICES
from sidecar.http_server.listener import HttpListener
from sidecar.process import sockets
from sidecar.rest import app as rest_app
from sidecar.settings.types import Address
from tests.raw_http import FORM, Received, answer_to, request, sent
from tests.recorded import recorded
from tests.ways import PUBLIC_URL, WAYS, Deployment, Sent, open_deployment

# Time limit of every wait, in seconds.
GUARD = 60
FIELDS = {"grant_type": "client_credentials", "client_id": "partner", "client_secret": "secret"}
BODY = b"grant_type=client_credentials&client_id=partner&client_secret=secret"
CHANNELS = ("grpc", "grpc in process")
Call = grpc.aio.UnaryUnaryCall[ExchangeTokenRequest, ExchangeTokenResponse]


@asynccontextmanager
async def served_by_remote(address: Address) -> AsyncIterator[Address]:
    """Serve the REST application over a gRPC channel to `address`."""
    async with AsyncExitStack() as stack:
        bound = stack.enter_context(closing(sockets.listen(Address("127.0.0.1", 0))))
        channel = grpc.aio.insecure_channel(str(address))
        app = rest_app.build(SERVICES, channel, public_url=PUBLIC_URL)
        listener = HttpListener(app, bound, grace=1)
        await listener.start()
        stack.push_async_callback(listener.stop)
        yield sockets.address_of(bound)


@pytest_asyncio.fixture(scope="module", name="_remote")
async def _open_remote(_deployment: Deployment) -> AsyncIterator[Address]:
    async with served_by_remote(_deployment.addresses.grpc) as address:
        yield address


@pytest.fixture(params=["in-process channel", "remote channel"])
def rest(request: pytest.FixtureRequest, deployment: Deployment, _remote: Address) -> Address:
    """Return the address of REST, over each channel in turn."""
    return deployment.addresses.rest if request.param == "in-process channel" else _remote


@pytest.fixture(params=CHANNELS)
def channel(request: pytest.FixtureRequest, deployment: Deployment) -> grpc.aio.Channel:
    """Return a channel to the service, of each kind in turn."""
    return deployment.channels[request.param]


def post(*headers: str) -> bytes:
    """Return a valid token request with `headers`."""
    return request(headers=(FORM, *(header.encode() for header in headers)), body=BODY)


def start(channel: grpc.aio.Channel, **options: Any) -> Call:
    """Start a valid token request."""
    return TokenServiceStub(channel).ExchangeToken(ExchangeTokenRequest(**FIELDS), **options)


async def code_of(call: Call) -> StatusCode:
    """Return the code that a call ends with."""
    async with asyncio.timeout(GUARD):
        return await call.code()


def assert_timed_out(received: Received) -> None:
    """Assert that REST answered with the problem of a timeout."""
    problem = json.loads(received.body)
    assert (received.status, problem["karmoCode"]) == (504, "50430001")
    assert received.headers["retry-after"] == "1"


async def assert_upstream_was_left(deployment: Deployment) -> None:
    """Assert that the auth-api got one request, whose connection was closed."""
    async with asyncio.timeout(GUARD):
        await deployment.upstream.gone.wait()
    assert len(deployment.upstream.requests) == 1


# Deadlines


async def test_a_deadline_over_rest_ends_the_upstream_call(
    deployment: Deployment, rest: Address
) -> None:
    """The header grpc-timeout limits the exchange, over any channel between REST and service."""
    for milliseconds in tried(deployment):
        assert_timed_out(await answer_to(rest, post(f"grpc-timeout: {milliseconds}m")))
    await assert_upstream_was_left(deployment)


async def test_a_deadline_over_grpc_ends_the_upstream_call(
    deployment: Deployment, channel: grpc.aio.Channel
) -> None:
    """The deadline of a gRPC caller limits the exchange."""
    for milliseconds in tried(deployment):
        call = start(channel, timeout=milliseconds / 1000)
        assert await code_of(call) == StatusCode.DEADLINE_EXCEEDED
    await assert_upstream_was_left(deployment)


def tried(deployment: Deployment) -> Iterator[int]:
    """Yield longer and longer times, until a request reaches the auth-api, which then hangs.

    Except on a busy machine, the first one is long enough.
    """
    deployment.upstream.script = deployment.upstream.hang
    for milliseconds in (50, 500, 5000, 15000):
        yield milliseconds
        if deployment.upstream.requests:
            return


@pytest.mark.parametrize("limit", ["0m", "0n", "0H", "00000000S", "1n"])
async def test_no_time_over_rest_calls_nobody(deployment: Deployment, limit: str) -> None:
    """A request whose deadline has passed on arrival is answered without the auth-api.

    Only in process: over a socket gRPC gives such a call a millisecond.
    """
    rest = deployment.addresses.rest
    assert_timed_out(await answer_to(rest, post(f"grpc-timeout: {limit}")))
    assert (await answer_to(rest, post())).status == 200
    assert len(deployment.upstream.requests) == 1


# gRPC measures a deadline by the system clock, which may be set during the call.
TOO_LATE = [("grpc", -60), *(("grpc in process", limit) for limit in (0, 0.0, -1, 1e-9))]


@pytest.mark.parametrize(("by", "limit"), TOO_LATE)
async def test_no_time_over_grpc_calls_nobody(
    deployment: Deployment, by: str, limit: float
) -> None:
    """A call whose deadline has passed on arrival is answered without the auth-api."""
    channel = deployment.channels[by]
    assert await code_of(start(channel, timeout=limit)) == StatusCode.DEADLINE_EXCEEDED
    assert await code_of(start(channel)) == StatusCode.OK
    assert len(deployment.upstream.requests) == 1


@pytest.mark.parametrize("limit", ["99999999H", "60000m", "60000000u"])
async def test_a_deadline_that_is_met_changes_nothing(
    deployment: Deployment, rest: Address, limit: str
) -> None:
    """A token in time is returned, up to the longest deadline that can be written."""
    assert (await answer_to(rest, post(f"grpc-timeout: {limit}"))).status == 200
    assert len(deployment.upstream.requests) == 1


# The timeout in the settings


@pytest.mark.timing("what is slow to reach the auth-api is as late as its answer")
async def test_the_timeout_of_the_setting_is_the_same_problem_by_every_way() -> None:
    """An auth-api that never answers gives the same 504 over every way in."""
    async with (
        asyncio.timeout(GUARD),
        open_deployment(
            auth_api_connect_timeout="100ms", auth_api_try_timeout="200ms", auth_api_timeout="300ms"
        ) as deployment,
    ):
        deployment.upstream.script = deployment.upstream.hang
        outcomes = await asyncio.gather(
            *(deployment.ways[name](Sent(fields=FIELDS)) for name in WAYS)
        )
        problems = [dict(outcome.problem or {}) for outcome in outcomes]
        instances = {problem.pop("instance") for problem in problems}
    assert len(instances) == len(WAYS)
    assert problems[0]["karmoCode"] == "50430001"
    assert problems == problems[:1] * len(WAYS)
    assert {outcome.status for outcome in outcomes} == {504, None}
    assert {outcome.code for outcome in outcomes} == {StatusCode.DEADLINE_EXCEEDED, None}


# Callers that leave


async def test_a_rest_client_that_resets_ends_the_upstream_call(
    deployment: Deployment, rest: Address
) -> None:
    """A client that resets while it waits ends its call, which is logged as 499."""
    deployment.upstream.script = deployment.upstream.hang
    request_id = str(uuid.uuid4())
    with recorded() as log:
        data = post(f"X-Request-Id: {request_id}")
        async with asyncio.timeout(GUARD), sent(rest, data, resets=True):
            await deployment.upstream.received.wait()
        await assert_upstream_was_left(deployment)
        expected: dict[str, object] = {"rest": 499}
        if rest != deployment.addresses.rest:
            expected["grpc"] = "CANCELLED"  # the line of the server behind the remote channel
        lines = await log.access_lines(request_id, len(expected))
    assert {line["protocol"]: line.get("status", line.get("code")) for line in lines} == expected
    assert "error" not in {entry["level"] for entry in log.entries}


async def test_a_rest_client_that_hangs_up_early_calls_nobody(deployment: Deployment) -> None:
    """A client that leaves in the middle of its body is logged as 499, without an exchange."""
    request_id = str(uuid.uuid4())
    with recorded() as log:
        cut_short = post(f"X-Request-Id: {request_id}")[:-10]
        async with asyncio.timeout(GUARD), sent(deployment.addresses.rest, cut_short):
            pass
        line = await log.access_line(request_id)
    assert (line["status"], line["route"]) == (499, "/v1/oauth/token")
    assert deployment.upstream.requests == []


@pytest.mark.parametrize("how", ["cancel", "abandon"])
async def test_a_grpc_caller_that_leaves_ends_the_upstream_call(
    deployment: Deployment, channel: grpc.aio.Channel, how: str
) -> None:
    """A caller that cancels, or whose waiting task is cancelled, ends the upstream call."""
    deployment.upstream.script = deployment.upstream.hang
    call = start(channel)
    waiting = asyncio.ensure_future(call)
    async with asyncio.timeout(GUARD):
        await deployment.upstream.received.wait()
    assert call.cancel() if how == "cancel" else waiting.cancel()
    await assert_upstream_was_left(deployment)
    assert await code_of(call) == StatusCode.CANCELLED
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_grpc_caller_that_leaves_is_logged_as_cancelled(deployment: Deployment) -> None:
    """The only access line of a call that its caller cancelled has CANCELLED, and no fault."""
    deployment.upstream.script = deployment.upstream.hang
    request_id = str(uuid.uuid4())
    with recorded() as log:
        call = start(deployment.channels["grpc"], metadata=(("x-request-id", request_id),))
        async with asyncio.timeout(GUARD):
            await deployment.upstream.received.wait()
        call.cancel()
        line = await log.access_line(request_id)
    assert line["code"] == "CANCELLED"
    assert "reason" not in line
    assert "error" not in {entry["level"] for entry in log.entries}


async def test_a_grpc_connection_that_breaks_ends_the_upstream_call(deployment: Deployment) -> None:
    """A connection that closes in the middle of a call ends the upstream call."""
    deployment.upstream.script = deployment.upstream.hang
    async with asyncio.timeout(GUARD):
        async with grpc.aio.insecure_channel(str(deployment.addresses.grpc)) as channel:
            call = start(channel)
            await deployment.upstream.received.wait()
        await call.code()
    await assert_upstream_was_left(deployment)


async def test_callers_who_leave_in_crowds_leave_room(
    deployment: Deployment, channel: grpc.aio.Channel
) -> None:
    """After more callers than upstream connections leave at once, the next one is served."""
    deployment.upstream.script = deployment.upstream.hang
    calls = [start(channel) for _ in range(120)]
    async with asyncio.timeout(GUARD):
        await deployment.upstream.received.wait()
    for call in calls:
        call.cancel()
    assert {await code_of(call) for call in calls} == {StatusCode.CANCELLED}
    deployment.upstream.reset()
    for _ in range(3):
        assert await code_of(start(channel)) == StatusCode.OK
