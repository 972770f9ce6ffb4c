"""Cancellation of a gRPC call when its HTTP client disconnects."""

import asyncio

import grpc
from google.protobuf.message import Message
from starlette.requests import Request
from starlette.types import Receive

from sidecar.transcoding.errors import ClientDisconnectedError, ResponseError

Call = grpc.aio.UnaryUnaryCall[Message, Message]


async def response_of(call: Call, request: Request) -> Message:
    """Return the response to `call`; cancel the call as soon as the client disconnects.

    Raises grpc.aio.AioRpcError if the call fails, ResponseError if the response cannot be
    decoded, and ClientDisconnectedError if the client disconnects.
    """
    watcher = asyncio.create_task(_wait_for_disconnect(request.receive))
    watcher.add_done_callback(lambda _: call.cancel())
    try:
        message: Message | None = await call
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise  # this task itself was cancelled
        if watcher.done():
            raise ClientDisconnectedError from None
        raise _closed() from None
    finally:
        watcher.cancel()
    if message is None:  # grpc.aio returns None for bytes that it cannot decode
        raise ResponseError("it is not a valid message of its type")
    return message


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _closed() -> grpc.aio.AioRpcError:
    """Return the error of a call that was cancelled only because its channel was closed."""
    empty = grpc.aio.Metadata()
    details = "the channel was closed during the call"
    return grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, empty, empty, details)
