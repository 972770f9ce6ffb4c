"""RPC handlers as interceptors see them: their types, and what wraps and calls them."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NoReturn, TypeAlias

import grpc
from google.protobuf.message import DecodeError
from karmo.problem.v1 import problem_details_pb2 as pb

from sidecar.problems import Problem, ProblemError

# One interceptor serves methods of every type, so none can be named here.
Context = grpc.aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # generic in its stub alone
Continuation: TypeAlias = Callable[[grpc.HandlerCallDetails], Awaitable["Handler | None"]]
Behavior = Callable[[Any, Context], Any]

UNKNOWN_METHOD = Problem(
    reason=pb.PROBLEM_REASON_NOT_FOUND, detail="The server has no such service or method."
)
_UNREADABLE = Problem(
    reason=pb.PROBLEM_REASON_INVALID_REQUEST, detail="The request message cannot be read."
)


def rewrap(handler: Handler, wrap: Callable[[Behavior, Handler], Behavior]) -> Handler:
    """Return `handler` with its behavior replaced by what `wrap` makes of it.

    The new behavior is a coroutine function whatever the handler streams: it
    writes its responses to the context, or returns the only one. A single
    request reaches it as bytes when the call came over a socket.
    """
    kind = (handler.request_streaming, handler.response_streaming)
    name, make = _KINDS[kind]
    return make(
        wrap(getattr(handler, name), handler),
        partial(parse, handler=handler) if handler.request_streaming else None,
        handler.response_serializer,
    )


def is_being_cancelled() -> bool:
    """Whether the call itself is to end, and not something that its handler waited for.

    `context.cancelled()` cannot tell: it is still False when the handler is cancelled.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def finish(result: Any, context: Context) -> Any:
    """Wait for what a handler returned: its response, or a stream of them, which is written."""
    if not inspect.isasyncgen(result):
        return await result
    async for response in result:
        await context.write(response)
    return None


def parse(request: Any, handler: Handler) -> Any:
    """Return the message that `request` is. Raises ProblemError for bytes that are none."""
    if not isinstance(request, bytes) or handler.request_deserializer is None:
        return request
    try:
        return handler.request_deserializer(request)
    except DecodeError:
        raise ProblemError(_UNREADABLE) from None


async def refuse_unknown(_request: object, _context: Context) -> NoReturn:
    """Be the handler of what is not served. Raises ProblemError."""
    raise ProblemError(UNKNOWN_METHOD)


UNKNOWN: Handler = grpc.unary_unary_rpc_method_handler(refuse_unknown)
_KINDS: dict[tuple[bool, bool], tuple[str, Callable[..., Handler]]] = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}
