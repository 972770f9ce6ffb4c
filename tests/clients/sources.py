"""Both token sources of the Python client behind one signature, and services for them to call."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import grpc
import pytest
from karmo.auth.v1.token_service_pb2 import ExchangeTokenResponse
from karmo.auth.v1.token_service_pb2_grpc import add_TokenServiceServicer_to_server

from karmo_auth_client import AsyncTokenSource, Token, TokenSource
from tests.patience import HANG
from tests.servicers import RaisingServicer

CLIENT_ID, SECRET = "partner", "canary-5f0c"
Kind = type[TokenSource] | type[AsyncTokenSource]
KINDS: tuple[Kind, ...] = (TokenSource, AsyncTokenSource)
every_kind = pytest.mark.parametrize("kind", KINDS)


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the seconds."""
        return self.now


class Client:
    """One token source, with the clock that it reads."""

    def __init__(self, source: TokenSource | AsyncTokenSource, clock: Clock) -> None:
        self.source = source
        self.clock = clock

    async def get(self) -> Token:
        """Return its token; the source for threads runs in one."""
        if isinstance(self.source, TokenSource):
            return await asyncio.to_thread(self.source.get)
        return await self.source.get()

    async def close(self) -> None:
        """Close it."""
        if isinstance(self.source, TokenSource):
            await asyncio.to_thread(self.source.close)
        else:
            await self.source.close()


@asynccontextmanager
async def client_of(kind: Kind, target: str, **options: Any) -> AsyncIterator[Client]:
    """Yield a client of the service at `target`, in plain text unless `options` say otherwise."""
    clock = Clock()
    defaults: dict[str, Any] = {"plaintext": True, "timeout": HANG, "clock": clock}
    client = Client(kind(target, CLIENT_ID, SECRET, **(defaults | options)), clock)
    try:
        yield client
    finally:
        await client.close()


class Abort:
    """An outcome of a call: a status, with trailing metadata."""

    def __init__(
        self, code: grpc.StatusCode, message: str = "", *metadata: tuple[str, str | bytes]
    ) -> None:
        self.code = code
        self.message = message
        self.metadata = metadata

    async def do(self, context: Any) -> NoReturn:
        """End the call."""
        await context.abort(self.code, self.message, self.metadata)
        raise AssertionError


class Scripted(RaisingServicer):
    """A token service with one outcome for each call; `calls` counts them."""

    def __init__(self, *outcomes: ExchangeTokenResponse | Abort) -> None:
        self._outcomes: Iterator[ExchangeTokenResponse | Abort] = iter(outcomes)
        self.calls = 0

    async def ExchangeToken(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802 the RPC
        """Give the next outcome."""
        self.calls += 1
        outcome = next(self._outcomes)
        return outcome if isinstance(outcome, ExchangeTokenResponse) else await outcome.do(context)


def issued(text: str = "the.access.token", expires_in: int = 3600) -> ExchangeTokenResponse:
    """Return the response with a token."""
    return ExchangeTokenResponse(access_token=text, token_type="Bearer", expires_in=expires_in)


@asynccontextmanager
async def serving(
    handlers: RaisingServicer | Sequence[grpc.GenericRpcHandler],
    tls: grpc.ServerCredentials | None = None,
) -> AsyncIterator[str]:
    """Serve a servicer, or handlers, on a free port, and yield its address."""
    server = grpc.aio.server()
    if isinstance(handlers, RaisingServicer):
        add_TokenServiceServicer_to_server(handlers, server)
    else:
        server.add_generic_rpc_handlers(tuple(handlers))
    add = server.add_insecure_port if tls is None else server.add_secure_port
    port = add("localhost:0", *(() if tls is None else (tls,)))
    await server.start()
    try:
        yield f"localhost:{port}"
    finally:
        await server.stop(None)
