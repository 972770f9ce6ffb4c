"""Caller's side of an in-process RPC with one response."""

import asyncio
from collections.abc import Generator
from typing import Any, TypeVar, cast

import grpc

from sidecar.in_process.call import Call

_Response = TypeVar("_Response")


class UnaryCall(Call, grpc.aio.UnaryUnaryCall[Any, _Response]):
    """Caller's side of an RPC that has one response, which comes with the status."""

    def __await__(self) -> Generator[Any, None, _Response]:
        try:
            yield from self._wait().__await__()
        except asyncio.CancelledError:
            self.cancel()
            raise
        self._raise_for_status()
        return cast("_Response", self._response)

    async def wait_for_connection(self) -> None:
        await self
