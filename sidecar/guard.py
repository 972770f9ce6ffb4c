"""The guard: the interceptor through which every failure of a call leaves as a mapped status.

Without it grpc.aio sends the text of any exception to the caller, that of its
decoder included, and leaves a caller waiting when a handler is cancelled from
within.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any, NoReturn, TypeAlias

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc.aio import AbortError
from grpc_status import rpc_status
from karmo.problem.v1 import problem_details_pb2 as pb

from sidecar import logs
from sidecar.problems import Problem, ProblemError, find_detail, to_status

# One interceptor serves methods of every type, so none can be named here.
Context = grpc.aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # generic in its stub alone
Continuation: TypeAlias = Callable[[grpc.HandlerCallDetails], Awaitable["Handler | None"]]
Behavior = Callable[[Any, Context], Any]

_UNKNOWN_METHOD = Problem(
    reason=pb.PROBLEM_REASON_NOT_FOUND, detail="The server has no such service or method."
)
# grpc.aio returns what was set, a StatusCode or its number.
_UNIMPLEMENTED = (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNIMPLEMENTED.value[0])
_UNREADABLE = Problem(
    reason=pb.PROBLEM_REASON_INVALID_REQUEST, detail="The request message cannot be read."
)
_INTERNAL = Problem(
    reason=pb.PROBLEM_REASON_INTERNAL,
    detail="The service met a fault of its own; report it with the request id.",
)


class Guard(grpc.aio.ServerInterceptor):
    """Wraps every handler. `public_url` is the base of the problem types."""

    def __init__(self, public_url: str) -> None:
        self._public_url = public_url

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        """Return the handler of the call, guarded; for an unknown method, one that says so."""
        handler = await continuation(handler_call_details)
        return rewrap(handler or _UNKNOWN, self._guard)

    def _guard(self, behavior: Behavior, handler: Handler) -> Behavior:
        async def guarded(request: Any, context: Context) -> Any:
            try:
                return await finish(behavior(parse(request, handler), context), context)
            except AbortError:
                raise
            except ProblemError as error:
                await self._abort(context, error.problem)
            except asyncio.CancelledError:
                if is_being_cancelled():
                    raise
                await self._abort(context, _INTERNAL)
            except NotImplementedError as error:
                # Generated servicers answer so for a method that nobody implements.
                is_missing = context.code() in _UNIMPLEMENTED
                if not is_missing:
                    logs.failure("a handler failed", error)
                await self._abort(context, _UNKNOWN_METHOD if is_missing else _INTERNAL)
            except Exception as error:  # noqa: BLE001 whatever it is, its text stays here
                logs.failure("a handler failed", error)
                await self._abort(context, _INTERNAL)

        return guarded

    async def _abort(self, context: Context, problem: Problem) -> NoReturn:
        call = logs.current_call()
        karmo_code = problem.karmo_code or problem.definition.karmo_code
        call.note(reason=problem.definition.name, karmo_code=karmo_code)
        status = to_status(problem, request_id=call.request_id, public_url=self._public_url)
        told = rpc_status.to_status(status)
        await context.abort(told.code, told.details, (*told.trailing_metadata, *_pushback(status)))


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


def _pushback(status: Status) -> Iterator[tuple[str, str]]:
    """Yield what tells gRPC libraries that retry by themselves when they may (gRFC A6)."""
    retry = find_detail(status, RetryInfo)
    if retry is not None:
        yield "grpc-retry-pushback-ms", str(retry.retry_delay.seconds * 1000)


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
    raise ProblemError(_UNKNOWN_METHOD)


_UNKNOWN: Handler = grpc.unary_unary_rpc_method_handler(refuse_unknown)
_KINDS: dict[tuple[bool, bool], tuple[str, Callable[..., Handler]]] = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}
