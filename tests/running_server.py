"""gRPC server over a socket, whose servicer ends each call as its request demands."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NoReturn

import grpc
from grpc import StatusCode
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import (
    ServerReflectionRequest,
    ServerReflectionResponse,
)
from karmo.auth.v1.token_service_pb2 import ExchangeTokenRequest, ExchangeTokenResponse
from karmo.auth.v1.token_service_pb2_grpc import (
    TokenServiceStub,
    add_TokenServiceServicer_to_server,
)
from karmo.problem.v1 import problem_details_pb2 as pb

from sidecar.api import SERVICES
from sidecar.grpc_server.server import GrpcServer
from sidecar.interceptors.admission import Admission
from sidecar.problems import Problem, ProblemError
from sidecar.settings.types import Address
from tests.servicers import RaisingServicer
from tests.ways import PUBLIC_URL

# Time limit of every wait, in seconds.
GUARD = 60
# A body that does not fit into the buffers in front of a reader.
LARGE = b"." * (16 * 2**20)
SERVICE = "karmo.auth.v1.TokenService"
METHOD = f"/{SERVICE}/ExchangeToken"
# Its versions have messages of the same form.
REFLECTIONS = tuple(
    f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
    for version in ("v1", "v1alpha")
)
LOOPBACK = Address("127.0.0.1", 0)
FIELDS = {"grant_type": "client_credentials", "client_id": "partner", "client_secret": "secret"}
Call = grpc.aio.UnaryUnaryCall[ExchangeTokenRequest, ExchangeTokenResponse]
# Any: the stub of the health service has no types.
Stub = Any


class Servicer(RaisingServicer):
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
    """A server that is not yet healthy, its servicer, and a channel to it."""

    def __init__(
        self, server: GrpcServer, address: str, servicer: Servicer, channel: grpc.aio.Channel
    ) -> None:
        self.server = server
        self.address = address
        self.servicer = servicer
        self.channel = channel

    async def health(self, name: str) -> int:
        """Return the health of the named service, or of the whole server."""
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
    """Call the servicer through `channel`."""
    return TokenServiceStub(channel).ExchangeToken(
        ExchangeTokenRequest(grant_type=grant_type),
        metadata=(("x-request-id", request_id),),
        timeout=timeout,
    )


@asynccontextmanager
async def open_server(
    address: Address = LOOPBACK, *, reflects: bool = True, more: Mapping[str, Any] | None = None
) -> AsyncIterator[Running]:
    """Run a server on `address`, with the handlers `more` in a service test.Streams."""
    async with AsyncExitStack() as stack:
        server = GrpcServer(
            SERVICES, Admission(100, streams=100), public_url=PUBLIC_URL, reflects=reflects
        )
        servicer = Servicer()
        add_TokenServiceServicer_to_server(servicer, server.server)
        generic = grpc.method_handlers_generic_handler("test.Streams", dict(more or {}))
        server.server.add_generic_rpc_handlers((generic,))
        stack.callback(server.release)
        bound = server.bind(address).connectable
        await server.start()
        stack.push_async_callback(server.stop, 0)
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(str(bound)))
        yield Running(server, str(bound), servicer, channel)


def reflection(running: Running, method: str = REFLECTIONS[0]) -> Stub:
    """Return the method of a version of the reflection service."""
    return running.channel.stream_stream(
        method,
        ServerReflectionRequest.SerializeToString,
        ServerReflectionResponse.FromString,
    )
