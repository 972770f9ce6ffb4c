"""Calling: a gRPC call that ends when its client goes away, and what it returned."""

import asyncio

import grpc
from google.protobuf.message import Message
from starlette.requests import Request
from starlette.types import Receive

from sidecar.transcoding.errors import ClientDisconnectedError

Call = grpc.aio.UnaryUnaryCall[Message, Message]


async def result(call: Call, request: Request) -> Message:
    """Return the response to `call`, which is cancelled as soon as the client goes away.

    Raises grpc.aio.AioRpcError for a call that failed, and ClientDisconnectedError.
    """
    watcher = asyncio.create_task(_cancel_on_disconnect(call, request.receive))
    try:
        return await call
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise  # it is we who are to stop
        raise ClientDisconnectedError from None
    finally:
        watcher.cancel()


async def _cancel_on_disconnect(call: grpc.aio.Call, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    call.cancel()
