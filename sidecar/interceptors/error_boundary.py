"""The guard: the interceptor through which every failure of a call leaves as a mapped status.

Without it grpc.aio sends the text of any exception to the caller, that of its
decoder included, and leaves a caller waiting when a handler is cancelled from
within.
"""

import asyncio
from collections.abc import Iterator
from typing import Any, NoReturn

import grpc
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc.aio import AbortError
from grpc_status import rpc_status
from karmo.problem.v1 import problem_details_pb2 as pb

from sidecar import logs
from sidecar.call import current_call
from sidecar.interceptors.handlers import (
    UNKNOWN,
    UNKNOWN_METHOD,
    Behavior,
    Context,
    Continuation,
    Handler,
    finish,
    is_being_cancelled,
    parse,
    rewrap,
)
from sidecar.problems import Problem, ProblemError, find_detail, to_status

# grpc.aio returns what was set, a StatusCode or its number.
_UNIMPLEMENTED = (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNIMPLEMENTED.value[0])
_INTERNAL = Problem(
    reason=pb.PROBLEM_REASON_INTERNAL,
    detail="The service met a fault of its own; report it with the request id.",
)


class ErrorBoundary(grpc.aio.ServerInterceptor):
    """Wraps every handler. `public_url` is the base of the problem types."""

    def __init__(self, public_url: str) -> None:
        self._public_url = public_url

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        """Return the handler of the call, guarded; for an unknown method, one that says so."""
        handler = await continuation(handler_call_details)
        return rewrap(handler or UNKNOWN, self._guard)

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
                await self._abort(context, UNKNOWN_METHOD if is_missing else _INTERNAL)
            except Exception as error:  # noqa: BLE001 whatever it is, its text stays here
                logs.failure("a handler failed", error)
                await self._abort(context, _INTERNAL)

        return guarded

    async def _abort(self, context: Context, problem: Problem) -> NoReturn:
        call = current_call()
        karmo_code = problem.karmo_code or problem.definition.karmo_code
        call.note(reason=problem.definition.name, karmo_code=karmo_code)
        status = to_status(problem, request_id=call.request_id, public_url=self._public_url)
        told = rpc_status.to_status(status)
        await context.abort(told.code, told.details, (*told.trailing_metadata, *_pushback(status)))


def _pushback(status: Status) -> Iterator[tuple[str, str]]:
    """Yield what tells gRPC libraries that retry by themselves when they may (gRFC A6)."""
    retry = find_detail(status, RetryInfo)
    if retry is not None:
        yield "grpc-retry-pushback-ms", str(retry.retry_delay.seconds * 1000)
