"""Admission: how many calls there may be at once, by both protocols together.

One more is refused at once. It waits for nothing, since whoever waits in a queue
is answered when the caller has gone, and all are late.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias, cast

import grpc
from karmo.problem.v1 import problem_details_pb2 as pb

from sidecar.interceptors.handlers import (
    Behavior,
    Context,
    Continuation,
    Handler,
    finish,
    parse,
    rewrap,
)
from sidecar.problems import Problem, ProblemError, explained

_CHECK_HEALTH = "/grpc.health.v1.Health/Check"
# Of one connection, whose watches and questions of tools are few.
_MAX_STREAMS = 8
_STOPPING = explained(pb.PROBLEM_REASON_SERVICE_STOPPING)
_TOO_MANY_STREAMS = Problem(
    reason=pb.PROBLEM_REASON_OVERLOADED,
    detail=f"There must not be more than {_MAX_STREAMS} streams at once on a connection.",
)


class Admission(grpc.aio.ServerInterceptor):
    """Lets at most `most` calls run at once, and can end what runs.

    The health is told whatever happens. A stream, such as a watch of it, may stay open
    for ever: it is no call, and each connection may have a few.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.overloaded = Problem(
            reason=pb.PROBLEM_REASON_OVERLOADED,
            detail=f"The service is busy with {most} calls, the most at once. "
            "Try again after a moment.",
        )
        self._calls: _Tasks = set()
        self._streams: _Tasks = set()
        self._connections: Counter[str] = Counter()  # how many streams each has
        self._ended: _Tasks = set()

    @property
    def in_flight(self) -> int:
        """How many calls there are now."""
        return len(self._calls)

    def is_full(self, begun: int = 0) -> bool:
        """Return whether one more call is refused, as `overloaded`.

        `begun` calls may be on their way here, or be some of those that run.
        """
        return max(len(self._calls), begun) >= self._most

    def end_streams(self) -> None:
        """End every stream that is open, with the problem that the service stops."""
        self._end(self._streams)

    def end_calls(self) -> None:
        """End every call that runs, likewise."""
        self._end(self._calls)

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> "Handler | None":
        """Return the handler of the call, which is then known here."""
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method == _CHECK_HEALTH:
            return handler
        is_stream = handler.request_streaming or handler.response_streaming
        return rewrap(handler, self._watch if is_stream else self._count)

    def _count(self, behavior: Behavior, handler: Handler) -> Behavior:
        async def counted(request: Any, context: Context) -> Any:
            if self.is_full():
                raise ProblemError(self.overloaded)
            with self._known(self._calls):
                return await behavior(parse(request, handler), context)

        return counted

    def _watch(self, behavior: Behavior, handler: Handler) -> Behavior:
        async def watched(request: Any, context: Context) -> Any:
            whole = cast("Context", _UninterruptedWrites(context))  # it passes on all of its names
            with self._one_more(context.peer()), self._known(self._streams):
                return await finish(behavior(parse(request, handler), whole), whole)

        return watched

    @contextmanager
    def _one_more(self, connection: str) -> Iterator[None]:
        """Count a stream of `connection`. Raises ProblemError if it has too many."""
        if self._connections[connection] >= _MAX_STREAMS:
            raise ProblemError(_TOO_MANY_STREAMS)
        self._connections[connection] += 1
        try:
            yield
        finally:
            self._connections[connection] -= 1
            if not self._connections[connection]:
                del self._connections[connection]

    @contextmanager
    def _known(self, tasks: "_Tasks") -> Iterator[None]:
        """Keep the current task in `tasks`, and tell its caller if it is we who end it."""
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        tasks.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if task not in self._ended:
                raise
            task.uncancel()
            raise ProblemError(_STOPPING) from None
        finally:
            tasks.discard(task)
            self._ended.discard(task)

    def _end(self, tasks: "_Tasks") -> None:
        for task in tasks - self._ended:
            self._ended.add(task)
            task.cancel()


class _UninterruptedWrites:
    """The context of a stream, in which a write that was begun goes on to its end.

    grpc.aio takes no status while there is one, and the caller would wait for ever.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def write(self, message: Any) -> None:
        """Write `message`, also when the stream is being ended."""
        writing = asyncio.ensure_future(self._context.write(message))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.gather(writing, return_exceptions=True)
            raise


_Tasks: TypeAlias = set[asyncio.Task[Any]]
