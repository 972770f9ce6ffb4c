"""RPC handlers: their types, and functions that wrap and call them."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Any, NoReturn, TypeAlias

import grpc
from google.protobuf.message import DecodeError
from karmo.problem.v1 import problem_details_pb2 as pb

from sidecar.problems import Problem, ProblemError

# One interceptor serves methods of all message types.
Context = grpc.aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # generic only in its stub
Continuation: TypeAlias = Callable[[grpc.HandlerCallDetails], Awaitable["Handler | None"]]
Behavior = Callable[[Any, Context], Any]

UNKNOWN_METHOD = Problem(
    reason=pb.PROBLEM_REASON_NOT_FOUND, detail="The server has no such service or method."
)
_UNREADABLE = Problem(
    reason=pb.PROBLEM_REASON_INVALID_REQUEST, detail="The request message cannot be read."
)


def rewrap(handler: Handler, wrap: Callable[[Behavior, Handler], Behavior]) -> Handler:
    """Return `handler` with its behavior replaced by `wrap(behavior, handler)`.

    The new behavior must be a coroutine function: it writes streamed responses to the
    context, and returns a single one. Over a socket a single request comes as bytes.
    """
    kind = (handler.request_streaming, handler.response_streaming)
    name, make = _KINDS[kind]
    return make(
        wrap(getattr(handler, name), handler),
        partial(parse, handler=handler) if handler.request_streaming else None,
        handler.response_serializer,
    )


def is_being_cancelled() -> bool:
    """Whether the call itself is cancelled, and not only something that its handler awaits.

    `context.cancelled()` does not tell: it is still False when the handler is cancelled.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def run(behavior: Behavior, handler: Handler, request: Any, context: Context) -> Any:
    """Run `behavior` of `handler`, be it as a servicer has it or rewrapped.

    It gets the message of `request`, which may be bytes. Returns a single response. Those that it
    yields are written to `context`. Raises ProblemError for bytes that are no message.
    """
    result = behavior(parse(request, handler), context)
    if not inspect.isasyncgen(result):
        return await result
    async with aclosing(result):
        async for response in result:
            await context.write(response)
    return None


def parse(request: Any, handler: Handler) -> Any:
    """Return the message in `request`. Raises ProblemError for bytes that are no message."""
    if not isinstance(request, bytes) or handler.request_deserializer is None:
        return request
    try:
        return handler.request_deserializer(request)
    except DecodeError:
        raise ProblemError(_UNREADABLE) from None


async def refuse_unknown(_request: object, _context: Context) -> NoReturn:
    """Handle a call of an unknown method. Raises ProblemError."""
    raise ProblemError(UNKNOWN_METHOD)


UNKNOWN: Handler = grpc.unary_unary_rpc_method_handler(refuse_unknown)
_KINDS: dict[tuple[bool, bool], tuple[str, Callable[..., Handler]]] = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}
