"""An interceptor that reads the request message of unary-request calls, within a time limit.

grpc.aio reads it before it calls a handler: without a time limit, outside of every other
limit, and without an answer to a caller that ends its call without a message.
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
    refuse_unknown,
    run,
)
from sidecar.problems import Problem, ProblemError

_MISSING = Problem(
    reason=pb.PROBLEM_REASON_INVALID_REQUEST, detail="The call must have a request message."
)
_STOPPING = Problem(reason=pb.PROBLEM_REASON_SERVICE_STOPPING)
# Seconds in which gRPC core reports a message that it has refused.
_REFUSAL_DELAY = 0.05
# grpc.aio calls a streaming handler without waiting for a message.
_UNKNOWN: Handler = grpc.stream_stream_rpc_method_handler(refuse_unknown)
_STREAMING: dict[bool, tuple[str, Callable[..., Handler]]] = {
    False: ("unary_unary", grpc.stream_unary_rpc_method_handler),
    True: ("unary_stream", grpc.stream_stream_rpc_method_handler),
}


@dataclass(slots=True, kw_only=True, eq=False)
class _Wait:
    """A call that waits for its message until `limit`, and fails with `problem` then."""

    limit: asyncio.Timeout
    problem: Problem

    def end(self, problem: Problem) -> None:
        """End the wait now, with `problem`."""
        if not self.limit.expired():
            self.problem = problem
            self.limit.reschedule(0)


class RequestMessage(grpc.aio.ServerInterceptor):
    """Waits `timeout` seconds for each message, from the start of its call.

    At most `capacity` calls wait. Beyond it the longest waiting call is refused: if the
    newest were, a caller that sends no messages could keep out all others.
    """

    def __init__(self, *, timeout: float, capacity: int) -> None:
        self._timeout = timeout
        self._capacity = capacity
        self._late = Problem(
            reason=pb.PROBLEM_REASON_REQUEST_TIMEOUT,
            detail=f"The request message must be complete in {timeout:g} s.",
        )
        self._crowded = Problem(
            reason=pb.PROBLEM_REASON_OVERLOADED,
            detail=f"There must not be more than {capacity} calls at once without their message.",
        )
        self._waits: dict[_Wait, None] = {}  # the longest waiting one first
        self._has_ended = False

    @property
    def waiting(self) -> int:
        """The number of calls whose message has not arrived."""
        return len(self._waits)

    def end(self) -> None:
        """Refuse every waiting call, and each later one, because the service stops."""
        self._has_ended = True
        for wait in self._waits:
            wait.end(_STOPPING)

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        """Return a handler that reads the message itself.

        A call of an unknown method is refused without waiting for its message.
        """
        handler = await continuation(handler_call_details)
        if handler is None:
            return _UNKNOWN
        if handler.request_streaming:
            return handler
        name, make = _STREAMING[bool(handler.response_streaming)]
        behavior: Behavior = getattr(handler, name)

        async def received(_requests: Any, context: Context) -> Any:
            return await run(behavior, handler, await self._receive(context), context)

        return make(received, None, handler.response_serializer)

    async def _receive(self, context: Context) -> Any:
        if self._has_ended:
            raise ProblemError(_STOPPING)
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
            # The same comes for a message that core refuses; then it cancels this call.
            await asyncio.sleep(_REFUSAL_DELAY)
            raise ProblemError(_MISSING)
        return message

    def _begin(self, wait: _Wait) -> None:
        self._waits[wait] = None
        if len(self._waits) > self._capacity:
            longest = next(iter(self._waits))
            del self._waits[longest]
            longest.end(self._crowded)
