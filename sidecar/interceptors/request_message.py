"""The message of a call that sends one alone, which must come whole and in time.

grpc.aio waits for it before it calls a handler: for ever, outside of every limit, and
without a word to a caller that ends its call before it.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
from karmo.problem.v1 import problem_details_pb2 as pb

from sidecar.interceptors.handlers import (
    Behavior,
    Context,
    Continuation,
    Handler,
    finish,
    parse,
    refuse_unknown,
)
from sidecar.problems import Problem, ProblemError, explained

_MISSING = Problem(
    reason=pb.PROBLEM_REASON_INVALID_REQUEST, detail="The call must have a request message."
)
_STOPPING = explained(pb.PROBLEM_REASON_SERVICE_STOPPING)
_A_MOMENT = 0.05  # seconds
# Such a handler is called at once.
_UNKNOWN: Handler = grpc.stream_stream_rpc_method_handler(refuse_unknown)
_STREAMING: dict[bool, tuple[str, Callable[..., Handler]]] = {
    False: ("unary_unary", grpc.stream_unary_rpc_method_handler),
    True: ("unary_stream", grpc.stream_stream_rpc_method_handler),
}


@dataclass(slots=True, kw_only=True, eq=False)
class _Wait:
    """A call that waits until `limit`, and the problem that it has then."""

    limit: asyncio.Timeout
    problem: Problem

    def end(self, problem: Problem) -> None:
        """Let it wait no longer."""
        if not self.limit.expired():
            self.problem = problem
            self.limit.reschedule(0)


class RequestMessage(grpc.aio.ServerInterceptor):
    """Gives each message `timeout` seconds to come, counted from the head of its call.

    Of more than `most` calls that wait for theirs, the one that has waited longest is
    refused: to refuse the newest would let whoever sends none keep out all others.
    """

    def __init__(self, *, timeout: float, most: int) -> None:
        self._timeout = timeout
        self._most = most
        self._late = Problem(
            reason=pb.PROBLEM_REASON_REQUEST_TIMEOUT,
            detail=f"The request message must be complete in {timeout:g} s.",
        )
        self._crowded = Problem(
            reason=pb.PROBLEM_REASON_OVERLOADED,
            detail=f"There must not be more than {most} calls at once without their message.",
        )
        self._waits: dict[_Wait, None] = {}  # in the order of their beginning

    def end(self) -> None:
        """Refuse every call that waits, for the service stops."""
        for wait in self._waits:
            wait.end(_STOPPING)

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        """Return the handler of the call, which reads the message itself.

        What is not served is refused without one.
        """
        handler = await continuation(handler_call_details)
        if handler is None:
            return _UNKNOWN
        if handler.request_streaming:
            return handler
        name, make = _STREAMING[bool(handler.response_streaming)]
        behavior: Behavior = getattr(handler, name)

        async def received(_requests: Any, context: Context) -> Any:
            request = parse(await self._receive(context), handler)
            return await finish(behavior(request, context), context)

        return make(received, None, handler.response_serializer)

    async def _receive(self, context: Context) -> Any:
        wait = _Wait(limit=asyncio.timeout(self._timeout), problem=self._late)
        try:
            async with wait.limit:
                self._begin(wait)
                message = await context.read()
        except TimeoutError:
            raise ProblemError(wait.problem) from None
        finally:
            self._waits.pop(wait, None)
        if message is grpc.aio.EOF:
            # Also when gRPC has refused the message, which it tells by a cancellation.
            await asyncio.sleep(_A_MOMENT)
            raise ProblemError(_MISSING)
        return message

    def _begin(self, wait: _Wait) -> None:
        self._waits[wait] = None
        if len(self._waits) > self._most:
            longest = next(iter(self._waits))
            del self._waits[longest]
            longest.end(self._crowded)
