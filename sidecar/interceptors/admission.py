"""Admission control: a limit of calls in flight, for both protocols together.

A call beyond the limit is refused at once. There is no queue: queued calls would often be
answered only after their callers gave up.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

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
from sidecar.problems import Problem, ProblemError

_CHECK_HEALTH = "/grpc.health.v1.Health/Check"
# Maximum number of open streams of one connection: health watches and reflection need few.
_MAX_STREAMS = 8
_STOPPING = Problem(reason=pb.PROBLEM_REASON_SERVICE_STOPPING)
_TOO_MANY_STREAMS = Problem(
    reason=pb.PROBLEM_REASON_OVERLOADED,
    detail=f"There must not be more than {_MAX_STREAMS} streams at once on a connection.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionCounts:
    """The calls in flight, their limit, the open streams; and the calls refused so far."""

    in_flight: int
    limit: int
    streams: int
    refused: int


class Admission(grpc.aio.ServerInterceptor):
    """Limits the calls in flight to `limit`, and can end calls and streams.

    `Health/Check` is always served and not counted. A stream, such as a health watch, may stay
    open for ever. So it does not count as a call in flight; instead each connection may have
    `_MAX_STREAMS` of them.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.overloaded = Problem(
            reason=pb.PROBLEM_REASON_OVERLOADED,
            detail=f"The service has {limit} calls in flight, its limit. Try again in a moment.",
        )
        self._calls = _Group()
        self._streams = _Group()
        self._connections: Counter[str] = Counter()  # open streams by connection
        self._refused = 0

    @property
    def in_flight(self) -> int:
        """The number of calls in flight."""
        return self._calls.size

    @property
    def counts(self) -> AdmissionCounts:
        """The counts of now."""
        return AdmissionCounts(
            in_flight=self._calls.size,
            limit=self._limit,
            streams=self._streams.size,
            refused=self._refused,
        )

    def is_full(self, begun: int = 0) -> bool:
        """Return whether one more call would be refused with `overloaded`.

        `begun` is the number of requests that a listener has begun. Some of them may be in
        flight already.
        """
        return max(self._calls.size, begun) >= self._limit

    def end_streams(self) -> None:
        """End every open stream, and refuse each later one, with SERVICE_STOPPING."""
        self._streams.end()

    def end_calls(self) -> None:
        """End every call in flight, and refuse each later one, with SERVICE_STOPPING.

        A later one may have been received before: its handler has not begun yet.
        """
        self._calls.end()

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> "Handler | None":
        """Return the handler of the call, wrapped to enforce the limit of calls or of streams."""
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method == _CHECK_HEALTH:
            return handler
        is_stream = handler.request_streaming or handler.response_streaming
        return rewrap(handler, self._watch if is_stream else self._count)

    def _count(self, behavior: Behavior, handler: Handler) -> Behavior:
        async def counted(request: Any, context: Context) -> Any:
            if self.is_full() and not self._calls.has_ended:
                self._refused += 1
                raise ProblemError(self.overloaded)
            with self._calls.joined():
                return await behavior(parse(request, handler), context)

        return counted

    def _watch(self, behavior: Behavior, handler: Handler) -> Behavior:
        async def watched(request: Any, context: Context) -> Any:
            whole = cast("Context", _UninterruptedWrites(context))  # it forwards every other name
            with self._one_more(context.peer()), self._streams.joined():
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


class _Group:
    """The tasks of calls of one kind, which can be ended together."""

    def __init__(self) -> None:
        self.has_ended = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._cancelled: set[asyncio.Task[Any]] = set()

    @property
    def size(self) -> int:
        """The number of tasks."""
        return len(self._tasks)

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Keep the current task in the group. Raises ProblemError if the group has ended."""
        if self.has_ended:
            raise ProblemError(_STOPPING)
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._tasks.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if task not in self._cancelled:
                raise
            task.uncancel()
            raise ProblemError(_STOPPING) from None
        finally:
            self._tasks.discard(task)
            self._cancelled.discard(task)

    def end(self) -> None:
        """Cancel each task once, and let none join any more."""
        self.has_ended = True
        for task in self._tasks - self._cancelled:
            self._cancelled.add(task)
            task.cancel()


class _UninterruptedWrites:
    """The context of a stream, whose writes are not interrupted by a cancellation.

    If a write were interrupted, the status would follow during it. grpc.aio accepts no status
    during a write, so the caller would wait for ever.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def write(self, message: Any) -> None:
        """Write the whole `message`, even if the task is cancelled meanwhile."""
        writing = asyncio.ensure_future(self._context.write(message))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.gather(writing, return_exceptions=True)
            raise
