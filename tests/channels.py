"""Channels to the handlers of a test: one in process, one through a real server."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, cast

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


class _Announcing:
    """A channel that sets an event when the client of a stream has its initial metadata."""

    def __init__(self, channel: grpc.aio.Channel, arrived: asyncio.Event) -> None:
        self._channel = channel
        self._arrived = arrived
        self._waiting: asyncio.Task[None] | None = None

    def unary_unary(self, *arguments: Any, **options: Any) -> Any:
        """Return the callable of the channel."""
        return self._channel.unary_unary(*arguments, **options)

    def unary_stream(self, *arguments: Any, **options: Any) -> Any:
        """Return a callable whose calls are watched."""
        method: Any = self._channel.unary_stream(*arguments, **options)

        def start(*arguments: Any, **options: Any) -> Any:
            call = method(*arguments, **options)
            if self._waiting is not None:
                self._waiting.cancel()
            self._arrived.clear()
            self._waiting = asyncio.create_task(self._announce(call))
            return call

        return start

    async def _announce(self, call: Any) -> None:
        await call.initial_metadata()
        self._arrived.set()


def announcing(channel: grpc.aio.Channel, arrived: asyncio.Event) -> grpc.aio.Channel:
    """Return `channel`, which sets `arrived` when the client has the initial metadata of a stream.

    There is one stream at a time. A handler that sends initial metadata and no message must wait
    for `arrived` before it ends: if the status arrives before the client has asked for the
    metadata, grpc.aio puts empty metadata in its place (`_AioCall._set_status` in grpcio 1.85).
    """
    return cast("grpc.aio.Channel", _Announcing(channel, arrived))
