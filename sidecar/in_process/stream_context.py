"""Handler's side of an in-process RPC with a stream of responses."""

import inspect
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import grpc

from sidecar.in_process.context import CallDetails, ServicerContext
from sidecar.in_process.stream_call import StreamCall


class StreamContext(ServicerContext):
    """Handler's side of an RPC whose handler yields its responses, or writes them here."""

    kind = "unary_stream"

    def __init__(self, call: StreamCall[Any], details: CallDetails) -> None:
        super().__init__(call, details)
        self._stream = call

    async def read(self) -> Any:
        self._check_open()
        return grpc.aio.EOF  # the request was the one message

    async def write(self, message: object) -> None:
        self._check_open()
        if message is None:
            raise TypeError("the handler wrote no message")
        self._check_caller()
        if not self._initial_sent:
            self._begin(())
        await self._stream.write(message)
        self._check_caller()

    async def _handle(self, behavior: Callable[..., Any], request: object) -> None:
        responses = behavior(request, self)
        if inspect.isasyncgen(responses):
            async with aclosing(responses):
                async for response in responses:
                    await self.write(response)
        elif inspect.isawaitable(responses):
            await responses  # it has written them
        else:
            raise TypeError("the handler must be an async function or generator")

    def _answer(self, response: object) -> None:  # noqa: ARG002 - there is none
        self._finish(self._status(), self._details)
