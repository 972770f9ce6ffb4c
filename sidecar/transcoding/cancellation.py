"""Cancellation of a gRPC call when its HTTP client disconnects."""

import asyncio
from typing import Any

import grpc
from google.protobuf.message import Message
from starlette.requests import Request
from starlette.types import Receive

from sidecar.transcoding.errors import ClientDisconnectedError, ResponseError
from sidecar.transcoding.status import failure_of

Call = grpc.aio.UnaryUnaryCall[Message, Message]
StreamCall = grpc.aio.UnaryStreamCall[Message, Message]


async def response_of(call: Call, request: Request) -> Message:
    """Return the response to `call`; cancel the call as soon as the client disconnects.

    Raises grpc.aio.AioRpcError if the call fails, RequestError or ResponseError if the request or
    the response is beyond a limit of gRPC, ResponseError if the response cannot be decoded, and
    ClientDisconnectedError if the client disconnects.
    """
    watcher = _watch(call, request)
    try:
        return _check(await call)
    except grpc.aio.AioRpcError as error:
        raise failure_of(error) from None
    except asyncio.CancelledError as cancelled:
        raise _reason(cancelled, watcher) from None
    finally:
        watcher.cancel()


class Responses:
    """The stream of responses to `call`, which is cancelled as soon as the client disconnects.

    `close` must be called in the end.
    """

    def __init__(self, call: StreamCall, request: Request) -> None:
        self._call = call
        self._watcher = _watch(call, request)

    async def read(self) -> Message | None:
        """Return the next response, or None after the last one.

        Raises what `response_of` raises.
        """
        try:
            response: Any = await self._call.read()  # EOF has no type of its own
        except grpc.aio.AioRpcError as error:
            raise failure_of(error) from None
        except asyncio.CancelledError as cancelled:
            raise _reason(cancelled, self._watcher) from None
        return None if response is grpc.aio.EOF else _check(response)

    def close(self) -> None:
        """Stop watching the client, and cancel the call unless it has ended."""
        self._watcher.cancel()
        self._call.cancel()


def _watch(call: grpc.aio.Call, request: Request) -> asyncio.Task[None]:
    watcher = asyncio.create_task(_wait_for_disconnect(request.receive))
    watcher.add_done_callback(lambda _: call.cancel())
    return watcher


def _reason(cancelled: BaseException, watcher: asyncio.Task[None]) -> BaseException:
    """Return the error of a call that was `cancelled` while it was awaited."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        return cancelled  # this task itself was cancelled
    return ClientDisconnectedError() if watcher.done() else _closed()


def _check(response: Message | None) -> Message:
    if response is None:  # grpc.aio returns None for bytes that it cannot decode
        raise ResponseError("it is not a valid message of its type")
    return response


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _closed() -> grpc.aio.AioRpcError:
    """Return the error of a call that was cancelled only because its channel was closed."""
    empty = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, empty, empty)
