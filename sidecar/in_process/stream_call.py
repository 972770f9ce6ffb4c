"""Caller's side of an in-process RPC with a stream of responses."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import grpc
from grpc import StatusCode
from grpc.aio import EOF, UsageError

from sidecar.in_process.call import Call
from sidecar.in_process.metadata import Received

_Response = TypeVar("_Response")


class StreamCall(Call, grpc.aio.UnaryStreamCall[Any, _Response]):
    """Caller's side of an RPC that has any number of responses before its status.

    It holds one message that was written and not yet read. The next write waits until that
    one is read, so a slow reader slows the handler. As over a socket, the caller gets the
    status of the handler after the last message. The status of a cancelled call, or of one
    whose deadline has passed, comes at once: a message that is still held is then lost.
    """

    def __init__(self, timeout: float | None) -> None:
        self._held: Any = None
        self._has_begun = False
        self._ending: Callable[[], None] | None = None
        self._messages: AsyncIterator[_Response] | None = None
        self._is_read = False
        super().__init__(timeout)

    def __aiter__(self) -> AsyncIterator[_Response]:
        if self._is_read:
            raise UsageError(_MIXED)
        if self._messages is None:
            self._messages = self._iterate()
        return self._messages

    async def read(self) -> Any:
        if not self.done() and self._messages is not None:
            raise UsageError(_MIXED)
        self._is_read = True
        return await self._next()

    async def wait_for_connection(self) -> None:
        await self.initial_metadata()
        if self.done():
            self._raise_for_status()

    async def initial_metadata(self) -> grpc.aio.Metadata:
        while not self._has_begun and not self.done():
            await self._change()
        return grpc.aio.Metadata(*self.initial)

    def begin(self, initial: Received) -> None:
        """Take the initial metadata, which comes before the first message."""
        super().begin(initial)
        self._has_begun = True
        self._wake()

    async def write(self, message: object) -> None:
        """Hold `message` for the reader, as soon as it has read the one before.

        Returns without doing so if the RPC has ended for the caller.
        """
        while self._held is not None and not self.done():
            await self._change()
        if not self.done():
            self._held = message
            self._wake()

    def finish(
        self, code: StatusCode, details: str, trailing: Received = (), response: Any = None
    ) -> None:
        """Set the outcome of the handler, for when every message has been read."""

        def end() -> None:
            super(StreamCall, self).finish(code, details, trailing, response)

        if self._held is None:
            end()
        elif self._ending is None:
            self._ending = end

    async def _iterate(self) -> AsyncIterator[_Response]:
        while (message := await self._next()) is not EOF:
            yield message

    async def _next(self) -> Any:
        """Return the next message, or EOF after the last one. Raises the error of the RPC."""
        try:
            while self._held is None and not self.done():
                await self._change()
        except asyncio.CancelledError:
            self.cancel()
            raise
        if self.done():
            self._raise_for_status()
            return EOF
        message, self._held = self._held, None
        self._wake()
        if self._ending is not None:
            self._ending()
        return message


_MIXED = "The iterator and read/write APIs may not be mixed on a single RPC."
