"""Channels to the handlers of a test: one in process, one through a real server."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import grpc

from sidecar.in_process import InProcessChannel

Open = Callable[[grpc.GenericRpcHandler], AbstractAsyncContextManager[grpc.aio.Channel]]


class BuggyChannel(InProcessChannel):
    """A channel each call over which raises an error that no caller expects."""

    def unary_unary(self, *_arguments: Any, **_options: Any) -> Any:
        """Return a callable that raises."""

        def call(*_arguments: Any, **_options: Any) -> None:
            raise LookupError("canary")

        return call


@asynccontextmanager
async def in_process(handler: grpc.GenericRpcHandler) -> AsyncIterator[grpc.aio.Channel]:
    """Yield a channel to `handler`, without a socket."""
    channel = InProcessChannel()
    channel.add_generic_rpc_handlers((handler,))
    async with channel:
        yield channel


@asynccontextmanager
async def over_a_socket(handler: grpc.GenericRpcHandler) -> AsyncIterator[grpc.aio.Channel]:
    """Yield a channel to `handler`, through a server of grpc.aio."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(None)
