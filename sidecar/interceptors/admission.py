"""Admission control: limits of calls in flight and of streams, for both protocols together.

A call beyond a limit is refused at once. There is no queue: queued calls would often be
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

from sidecar.interceptors.handlers import Behavior, Context, Continuation, Handler, rewrap, run
from sidecar.problems import Problem, ProblemError

_CHECK_HEALTH = "/grpc.health.v1.Health/Check"
# The packages of the services that belong to gRPC itself: health and reflection.
_GRPC = "/grpc."
# Maximum number of their open streams on one connection: clients need few.
_MAX_STREAMS = 8
_STOPPING = Problem(reason=pb.PROBLEM_REASON_SERVICE_STOPPING)
_TOO_MANY_WATCHES = Problem(
    reason=pb.PROBLEM_REASON_OVERLOADED,
    detail=f"There must not be more than {_MAX_STREAMS} streams at once on a connection.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionCounts:
    """The calls in flight, the open streams, their limits; and the calls refused so far.

    `watches` are the streams of gRPC's own services, which have a limit for each connection.
    `refused` counts no streams.
    """

    in_flight: int
    limit: int
    streams: int
    streams_limit: int
    watches: int
    refused: int


class Admission(grpc.aio.ServerInterceptor):
    """Limits the calls in flight to `limit`, the open streams to `streams`, and can end both.

    `Health/Check` is always served and not counted. A stream may stay open for ever, so it does
    not count as a call in flight. Nor does a stream of gRPC's own services, such as a health
    watch, count as a stream: each connection may have `_MAX_STREAMS` of them.
    """

    def __init__(self, limit: int, *, streams: int) -> None:
        self._limit = limit
        self._streams_limit = streams
        self._too_many_streams = Problem(
            reason=pb.PROBLEM_REASON_OVERLOADED,
            detail=f"The service has {streams} open streams, its limit. Try again in a moment.",
        )
        self.overloaded = Problem(
            reason=pb.PROBLEM_REASON_OVERLOADED,
            detail=f"The service has {limit} calls in flight, its limit. Try again in a moment.",
        )
        self._calls = _Group()
        self._streams = _Group()
        self._watches = _Group()
        self._connections: Counter[str] = Counter()  # watches by connection
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
            streams_limit=self._streams_limit,
            watches=self._watches.size,
            refused=self._refused,
        )

    def is_full(self, begun: int = 0) -> bool:
        """Return whether one more call would be refused with `overloaded`.

        `begun` is the number of requests that a listener has begun. Some of them may be in
        flight already, or be open streams.
        """
        return max(self._calls.size, begun - self._streams.size) >= self._limit

    def end_streams(self) -> None:
        """End every open stream and watch, and refuse each later one, with SERVICE_STOPPING."""
        self._streams.end()
        self._watches.end()

    def end_calls(self) -> None:
        """End every call in flight, and refuse each later one, with SERVICE_STOPPING.

        A later one may have been received before: its handler has not begun yet.
        """
        self._calls.end()

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> "Handler | None":
        """Return the handler of the call, wrapped to enforce the limit for calls of its kind."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method == _CHECK_HEALTH:
            return handler
        if not handler.request_streaming and not handler.response_streaming:
            return rewrap(handler, self._count)
        return rewrap(handler, self._watch if method.startswith(_GRPC) else self._stream)

    def _count(self, behavior: Behavior, handler: Handler) -> Behavior:
        async def counted(request: Any, context: Context) -> Any:
            if self.is_full() and not self._calls.has_ended:
                self._refused += 1
                raise ProblemError(self.overloaded)
            with self._calls.joined():
                return await run(behavior, handler, request, context)

        return counted

    def _stream(self, behavior: Behavior, handler: Handler) -> Behavior:
        async def streamed(request: Any, context: Context) -> Any:
            if self._streams.size >= self._streams_limit and not self._streams.has_ended:
                raise ProblemError(self._too_many_streams)
            with self._streams.joined():
                return await run(behavior, handler, request, _whole_writes_of(context))

        return streamed

    def _watch(self, behavior: Behavior, handler: Handler) -> Behavior:
        async def watched(request: Any, context: Context) -> Any:
            with self._one_more(context.peer()), self._watches.joined():
                return await run(behavior, handler, request, _whole_writes_of(context))

        return watched

    @contextmanager
    def _one_more(self, connection: str) -> Iterator[None]:
        """Count a watch of `connection`. Raises ProblemError if it has too many."""
        if self._connections[connection] >= _MAX_STREAMS:
            raise ProblemError(_TOO_MANY_WATCHES)
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


def _whole_writes_of(context: Context) -> Context:
    """Return `context`, for the handler of a stream, with writes that are not interrupted."""
    return cast("Context", _UninterruptedWrites(context))  # it forwards every other name


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
