"""Tests of the cache of handlers, in front of a real server and in the in-process channel."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from grpc import StatusCode

from sidecar.interceptors.handler_cache import HandlerCache
from sidecar.interceptors.handlers import Behavior, Context, Continuation, Handler, parse, rewrap
from tests.in_process.test_channel import HI, method_of, open_in_process, open_socket, serving

Open = Callable[..., Awaitable[grpc.aio.Channel]]


class Naming(grpc.aio.ServerInterceptor):
    """Adds its name to each response, and keeps the methods that it was run for."""

    def __init__(self, name: str) -> None:
        self.ran_for: list[str] = []
        self._name = name

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> "Handler | None":
        """Return the handler of the method, which adds the name."""
        self.ran_for.append(handler_call_details.method)
        handler = await continuation(handler_call_details)
        return handler and rewrap(handler, self._wrap)

    def _wrap(self, behavior: Behavior, handler: Handler) -> Behavior:
        async def named(request: Any, context: Context) -> Any:
            response = await behavior(parse(request, handler), context)
            return StringValue(value=f"{self._name} {response.value}")

        return named


async def echo(request: StringValue, _context: object) -> StringValue:
    """Return the request."""
    return request


async def key(_request: object, context: Any) -> StringValue:
    """Return the metadata `key` of the call."""
    return StringValue(value=dict(context.invocation_metadata())["key"])


@pytest.fixture(params=[open_in_process, open_socket], ids=["in_process", "socket"])
async def open_channel(request: pytest.FixtureRequest) -> AsyncIterator[Open]:
    """Yield a function that opens channels of one kind; they are closed after the test."""
    async with AsyncExitStack() as stack:
        yield partial(request.param, stack)


async def test_the_interceptors_run_once_for_each_method(open_channel: Open) -> None:
    """The first call of a method runs the interceptors, and later ones have the same handler."""
    outer, inner = Naming("outer"), Naming("inner")
    register = serving(Call=echo, Other=key)
    channel = await open_channel(register, (HandlerCache(outer, inner),))
    call, other = method_of(channel), method_of(channel, "/test.Case/Other")
    for number in range(3):
        assert (await call(HI)).value == "outer inner hi"
        response = await other(HI, metadata=(("key", str(number)),))
        assert response.value == f"outer inner {number}"
    assert outer.ran_for == inner.ran_for == ["/test.Case/Call", "/test.Case/Other"]


async def test_a_method_that_is_not_served_is_not_kept(open_channel: Open) -> None:
    """Callers cannot fill the cache with names that they invent."""
    naming = Naming("any")
    channel = await open_channel(serving(Call=echo), (HandlerCache(naming),))
    unknown = method_of(channel, "/test.Case/Unknown")
    for _ in range(2):
        assert await unknown(HI).code() is StatusCode.UNIMPLEMENTED
    assert naming.ran_for == ["/test.Case/Unknown"] * 2
