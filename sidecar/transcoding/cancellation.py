"""Calling: a gRPC call that ends when its client goes away, and what it returned."""

import asyncio

import grpc
from google.protobuf.message import Message
from starlette.requests import Request
from starlette.types import Receive

from sidecar.transcoding.errors import ClientDisconnectedError, ResponseError

Call = grpc.aio.UnaryUnaryCall[Message, Message]


async def response_of(call: Call, request: Request) -> Message:
    """Return the response to `call`, which is cancelled as soon as the client goes away.

    Raises grpc.aio.AioRpcError for a call that failed, ResponseError for a response
    that cannot be read, and ClientDisconnectedError.
    """
    watcher = asyncio.create_task(_wait_for_disconnect(request.receive))
    watcher.add_done_callback(lambda _: call.cancel())
    try:
        message: Message | None = await call
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise  # it is we who are to stop
        if watcher.done():
            raise ClientDisconnectedError from None
        raise _closed() from None
    finally:
        watcher.cancel()
    if message is None:  # what grpc.aio makes of bytes that are no message
        raise ResponseError("it is no message of its type")
    return message


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _closed() -> grpc.aio.AioRpcError:
    """Return the failure of a call that was cancelled by nobody but its channel."""
    empty = grpc.aio.Metadata()
    details = "the channel was closed during the call"
    return grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, empty, empty, details)
