"""The message of a call, by a client that sends it late, in part, or never."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import grpc
import pytest
from grpc import StatusCode
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from hyperframe.frame import RstStreamFrame
from karmo.auth.v1.token_service_pb2 import ExchangeTokenRequest, ExchangeTokenResponse
from karmo.auth.v1.token_service_pb2_grpc import (
    TokenServiceStub,
    add_TokenServiceServicer_to_server,
)

from sidecar.api import SERVICES
from sidecar.grpc_server.server import GrpcLimits, GrpcServer
from sidecar.interceptors.admission import Admission
from sidecar.interceptors.handlers import Handler
from sidecar.interceptors.request_message import RequestMessage
from sidecar.problems import ProblemError
from sidecar.settings.types import Address
from tests.faults.bad_http2 import Answer, BadClient, connected
from tests.faults.conditions import eventually
from tests.faults.http2_abuse import call, head, message
from tests.recorded import recorded
from tests.servicers import RaisingServicer
from tests.virtual_time import VirtualLoop
from tests.ways import PUBLIC_URL

GUARD = 60  # seconds; nothing here takes nearly as long
SOON = 0.05
# A message that comes whole after that many bytes.
WHOLE = call()[len(head()) :]
WATCH = "/grpc.health.v1.Health/Watch"
MOST = 3
CANCEL = 8  # an error code, of RFC 9113 section 7


class Servicer(RaisingServicer):
    """Gives a token at once."""

    async def ExchangeToken(  # noqa: N802 the name of the RPC
        self, _request: ExchangeTokenRequest, _context: object
    ) -> ExchangeTokenResponse:
        """Return it."""
        return ExchangeTokenResponse(access_token="token")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A server, and where it is."""

    server: GrpcServer
    address: str
    channel: grpc.aio.Channel

    async def good(self) -> None:
        """Be served, on one connection, for the server allows few and hears late of their ends."""
        stub = TokenServiceStub(self.channel)
        answer = await stub.ExchangeToken(ExchangeTokenRequest(), timeout=GUARD)
        assert answer.access_token == "token"


@asynccontextmanager
async def listening(seconds: float = GUARD) -> AsyncIterator[Scene]:
    """Run one that gives a message so many seconds, and has a place for one call."""
    server = GrpcServer(
        SERVICES,
        Admission(1, streams=1),
        public_url=PUBLIC_URL,
        reflects=False,
        limits=GrpcLimits(message_timeout=seconds, connections=MOST),
    )
    add_TokenServiceServicer_to_server(Servicer(), server.server)
    address = server.bind(Address("127.0.0.1", 0))
    await server.start()
    await server.set_serving(serving=True)
    try:
        async with grpc.aio.insecure_channel(str(address)) as channel:
            yield Scene(server=server, address=str(address), channel=channel)
    finally:
        server.cut(0.5)
        await server.stop(GUARD)


def told(answer: Answer) -> tuple[int | None, str]:
    """Return the code of `answer` and what its message says."""
    return answer.code, unquote(answer.fields["grpc-message"])


PARTS = (b"", message()[:3], message(length=100))


@pytest.mark.timing("what is asked for is that it passes, however late")
@pytest.mark.parametrize("path", ["", WATCH], ids=["unary", "stream"])
async def test_a_message_has_its_time(path: str) -> None:
    """A call whose message does not come whole in time is refused with the time that it had."""
    async with listening(SOON) as scene, connected(scene.address) as client:
        for number, part in enumerate(PARTS):
            await client.send(begin(part, 2 * number + 1, path))
        for number in range(len(PARTS)):
            code, text = told(await client.answered(2 * number + 1))
            assert code == StatusCode.DEADLINE_EXCEEDED.value[0]
            assert text == "The request message must be complete in 0.05 s."


def begin(part: bytes, stream: int = 1, path: str = "") -> bytes:
    """Return a call that has sent `part` of its message, and goes on."""
    start = head(stream=stream, path=path) if path else head(stream=stream)
    return start + data_frame(part, stream)


def data_frame(part: bytes, stream: int) -> bytes:
    """Return a frame of HTTP/2 with `part` of a message."""
    return len(part).to_bytes(3, "big") + b"\0\0" + stream.to_bytes(4, "big") + part


@pytest.mark.parametrize("path", ["", WATCH], ids=["unary", "stream"])
async def test_a_call_without_a_message_is_told_so(path: str) -> None:
    """Who ends a call before its message hears it at once, and not when a deadline passes."""
    async with listening() as scene, connected(scene.address) as client:
        await client.send(call(body=b"", path=path) if path else call(body=b""))
        code, text = told(await client.answered())
        assert code == StatusCode.INVALID_ARGUMENT.value[0]
        assert text == "The call must have a request message."
        await scene.good()


@pytest.mark.parametrize("path", ["/none.Such/Method", "/grpc.health.v1.Health/None"])
async def test_what_is_not_served_is_refused_without_a_message(path: str) -> None:
    """A call of an unknown method waits for nothing, so none can be left waiting unseen."""
    async with listening() as scene, connected(scene.address) as client:
        await client.send(begin(b"", path=path))
        code, text = told(await client.answered())
        assert code == StatusCode.UNIMPLEMENTED.value[0]
        assert text == "The server has no such service or method."


async def test_a_message_that_comes_late_is_served() -> None:
    """Within its time a message may come in parts, and waiting for it takes no place of a call."""
    async with listening() as scene, connected(scene.address) as client:
        await client.send(head() + WHOLE[:11])
        await scene.good()
        await client.send(WHOLE[11:])
        assert (await client.answered()).code == 0


async def test_of_too_many_the_longest_wait_ends() -> None:
    """One call too many without a message ends the first of them; the others go on, as do good."""
    async with listening() as scene, connected(scene.address) as client:
        streams = [2 * number + 1 for number in range(MOST + 1)]
        for stream in streams:
            await client.send(begin(b"", stream))
        code, text = told(await client.answered(streams[0]))
        assert code == StatusCode.UNAVAILABLE.value[0]
        assert text == "There must not be more than 3 calls at once without their message."
        await finish_all(client, streams[2:])
        await scene.good()


async def finish_all(client: BadClient, streams: Iterable[int]) -> None:
    """Send the messages of calls that have begun, each of which must then be served."""
    for stream in streams:
        await client.send(call(stream=stream)[len(head(stream=stream)) :])
        assert (await client.answered(stream)).code == 0


async def test_a_crowd_does_not_keep_others_out() -> None:
    """While a client keeps as many calls open as may wait, whoever sends messages is served."""
    async with listening() as scene, connected(scene.address) as client:
        for number in range(10 * MOST):
            await client.send(begin(b"", 2 * number + 1))
            await scene.good()


async def test_the_end_does_not_wait_for_messages() -> None:
    """Who stops ends the calls whose messages are to come, later ones too, and they hear why."""
    async with listening() as scene, connected(scene.address) as client, asyncio.timeout(GUARD):
        with recorded() as log:
            identity = str(uuid.uuid4())
            await client.send(head(("x-request-id", identity)))
            await eventually(lambda: len(scene.server._message._waits) == 1)
            scene.server.cut(0.5)
            scene.server.cut(0.5)  # a second time ends nothing twice
            answer = await client.answered()
            line = await log.access_line(identity)
            await client.send(head(("x-request-id", later := str(uuid.uuid4())), stream=3))
            assert (await client.answered(3)).code == answer.code
            later_line = await log.access_line(later)
        assert answer.code == StatusCode.UNAVAILABLE.value[0]
        for written in (line, later_line):
            assert (written["code"], written["reason"]) == ("UNAVAILABLE", "SERVICE_STOPPING")


async def test_a_call_that_is_given_up_waits_no_longer() -> None:
    """Calls that are reset before their message do not count as waiting."""
    async with listening() as scene, connected(scene.address) as client:
        await client.send(begin(b""))
        for number in range(1, 3 * MOST):
            stream = 2 * number + 1
            await client.send(begin(b"", stream) + RstStreamFrame(stream, CANCEL).serialize())
            await scene.good()
        await finish_all(client, [1])


class Silent:
    """The context of a call whose message never comes."""

    async def read(self) -> None:
        """Wait for it."""
        await asyncio.Event().wait()


def test_an_end_in_the_moment_of_the_timeout() -> None:
    """A call whose time is over, but not told yet, is not ended a second time."""
    message = RequestMessage(timeout=GUARD, capacity=MOST)

    async def find(_details: object) -> Handler:
        return grpc.unary_unary_rpc_method_handler(Servicer().ExchangeToken)

    async def serve() -> None:
        details: Any = None  # nothing is asked of it
        handler: Any = await message.intercept_service(find, details)
        await handler.stream_unary(None, Silent())

    with VirtualLoop() as loop:
        call = loop.create_task(serve())
        loop.settle()  # it waits
        loop.call_later(GUARD, message.end)
        loop.advance(GUARD)  # both are due at once
        error = call.exception()
    assert isinstance(error, ProblemError)
    assert error.problem.definition.name == "REQUEST_TIMEOUT"


async def test_health_is_told_as_ever() -> None:
    """A check of the health, which is counted nowhere else, is read and answered."""
    async with listening() as scene:
        check = scene.channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            HealthCheckRequest.SerializeToString,
            HealthCheckResponse.FromString,
        )
        assert (await check(HealthCheckRequest())).status == HealthCheckResponse.SERVING
