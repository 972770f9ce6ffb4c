"""An interceptor that turns every exception of a call into a google.rpc.Status.

Without it grpc.aio sends the text of exceptions to callers, also that of its decoder, and
leaves a caller waiting when a handler is cancelled from within.
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
    is_being_cancelled,
    rewrap,
    run,
)
from sidecar.problems import Problem, ProblemError, find_detail, to_status

# grpc.aio returns the code as it was set: a StatusCode or its number.
_UNIMPLEMENTED = (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNIMPLEMENTED.value[0])
_INTERNAL = Problem(reason=pb.PROBLEM_REASON_INTERNAL)


class ErrorBoundary(grpc.aio.ServerInterceptor):
    """Wraps every handler. `public_url` is the base URL of the problem types."""

    def __init__(self, public_url: str) -> None:
        self._public_url = public_url

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        """Return the wrapped handler; for an unknown method, a handler that says so."""
        handler = await continuation(handler_call_details)
        return rewrap(handler or UNKNOWN, self._wrap)

    def _wrap(self, behavior: Behavior, handler: Handler) -> Behavior:
        async def bounded(request: Any, context: Context) -> Any:
            try:
                return await run(behavior, handler, request, context)
            except AbortError:
                raise
            except ProblemError as error:
                await self._abort(context, error.problem)
            except asyncio.CancelledError:
                if is_being_cancelled():
                    raise
                await self._abort(context, _INTERNAL)
            except NotImplementedError as error:
                # Generated servicers raise this for a method that is not implemented.
                is_missing = context.code() in _UNIMPLEMENTED
                if not is_missing:
                    logs.failure("a handler failed", error)
                await self._abort(context, UNKNOWN_METHOD if is_missing else _INTERNAL)
            except Exception as error:  # noqa: BLE001 its text must not leave the process
                logs.failure("a handler failed", error)
                await self._abort(context, _INTERNAL)

        return bounded

    async def _abort(self, context: Context, problem: Problem) -> NoReturn:
        call = current_call()
        karmo_code = problem.karmo_code or problem.definition.karmo_code
        call.note(reason=problem.definition.name, karmo_code=karmo_code)
        status = to_status(problem, request_id=call.request_id, public_url=self._public_url)
        grpc_status = rpc_status.to_status(status)
        trailing = (*grpc_status.trailing_metadata, *_pushback(status))
        await context.abort(grpc_status.code, grpc_status.details, trailing)


def _pushback(status: Status) -> Iterator[tuple[str, str]]:
    """Yield the metadata that tells gRPC libraries when they may retry (gRFC A6)."""
    retry = find_detail(status, RetryInfo)
    if retry is not None:
        yield "grpc-retry-pushback-ms", str(retry.retry_delay.seconds * 1000)
