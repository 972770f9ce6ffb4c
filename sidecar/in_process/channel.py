"""In-process channel, which is also the server of its handlers."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Generic, NoReturn, Self, TypeAlias, TypeVar

import grpc

from sidecar.in_process.call import Call
from sidecar.in_process.context import CallDetails, Find, Handler, ServicerContext
from sidecar.in_process.metadata import Metadata, receive
from sidecar.in_process.stream_call import StreamCall
from sidecar.in_process.stream_context import StreamContext
from sidecar.in_process.unary_call import UnaryCall

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")
_Started = TypeVar("_Started", bound=Call)
# Returns both sides of a new call.
_MakeSides: TypeAlias = Callable[[float | None, CallDetails], tuple[_Started, ServicerContext]]


class InProcessChannel(grpc.aio.Channel):
    """A channel to the handlers that were added to it.

    Pass it to `add_XServicer_to_server` as the server, and to a stub as the channel.
    Calls run through `interceptors`, outermost first.
    """

    def __init__(self, interceptors: Sequence[grpc.aio.ServerInterceptor] = ()) -> None:
        self._registered: dict[str, Handler] = {}
        self._generic: list[grpc.GenericRpcHandler] = []
        self._calls: dict[asyncio.Task[None], Call] = {}
        self._closed = asyncio.Event()
        self._find: Find = self._find_handler
        for interceptor in reversed(interceptors):
            self._find = partial(interceptor.intercept_service, self._find)

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Serve the methods of `handlers`, as `grpc.aio.Server` does."""
        self._generic.extend(handlers)

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Handler]) -> None:
        """Serve `handlers`, by method name of `service`. They precede generic handlers."""
        self._registered |= {f"/{service}/{name}": handler for name, handler in handlers.items()}

    def unary_unary(
        self,
        method: str,
        request_serializer: Callable[[_Request], bytes] | None = None,  # noqa: ARG002 - not needed
        response_deserializer: Callable[[bytes], _Response] | None = None,  # noqa: ARG002 - as above
        _registered_method: bool | None = False,
    ) -> grpc.aio.UnaryUnaryMultiCallable[_Request, _Response]:
        """Return a callable that starts calls of `method`, "/package.Service/Method"."""
        return _UnaryUnary(partial(self._start, _unary_sides, method))

    def unary_stream(
        self,
        method: str,
        request_serializer: Callable[[_Request], bytes] | None = None,  # noqa: ARG002 - not needed
        response_deserializer: Callable[[bytes], _Response] | None = None,  # noqa: ARG002 - as above
        _registered_method: bool | None = False,
    ) -> grpc.aio.UnaryStreamMultiCallable[_Request, _Response]:
        """Return a callable that starts calls of `method` with a stream of responses."""
        return _UnaryStream(partial(self._start, _stream_sides, method))

    def stream_unary(self, method: str, *_: object, **__: object) -> NoReturn:
        """Raise NotImplementedError."""
        raise NotImplementedError(f"{method}: a stream of requests cannot be sent in-process")

    stream_stream = stream_unary

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:  # noqa: ARG002 - is always connected
        """Return READY, or SHUTDOWN as soon as `close` has begun."""
        states = grpc.ChannelConnectivity
        return states.SHUTDOWN if self._closed.is_set() else states.READY

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Wait until the state is not `last_observed_state`. Raises UsageError if closed."""
        self._check_open()
        if last_observed_state is grpc.ChannelConnectivity.READY:
            await self._closed.wait()

    async def channel_ready(self) -> None:
        """Return at once. Raises UsageError if closed."""
        self._check_open()

    async def close(self, grace: float | None = None) -> None:
        """Refuse new calls, cancel running ones after `grace` seconds, await all handlers.

        Raises ValueError for a negative `grace`.
        """
        if grace and grace < 0:
            raise ValueError(f"grace must be non-negative, got {grace}.")
        self._closed.set()
        if grace and self._calls:
            await asyncio.wait(tuple(self._calls), timeout=grace)
        for call in tuple(self._calls.values()):
            call.cancel()
        if self._calls:
            await asyncio.wait(tuple(self._calls))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.close()

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise grpc.aio.UsageError("Channel is closed.")

    def _start(
        self,
        make_sides: _MakeSides[_Started],
        method: str,
        request: object,
        timeout: float | None,
        metadata: Metadata | None,
    ) -> _Started:
        self._check_open()
        details = CallDetails(method=method, invocation_metadata=receive(metadata))
        call, context = make_sides(timeout, details)
        if not call.done():
            call.task = asyncio.create_task(context.serve(self._find, request))
            # The event loop holds only weak references to tasks.
            self._calls[call.task] = call
            call.task.add_done_callback(self._calls.pop)
        return call

    async def _find_handler(self, details: grpc.HandlerCallDetails) -> "Handler | None":
        registered = self._registered.get(details.method)
        if registered is not None:
            return registered
        candidates = (handler.service(details) for handler in self._generic)
        return next((handler for handler in candidates if handler is not None), None)


def _unary_sides(
    timeout: float | None, details: CallDetails
) -> tuple[UnaryCall[Any], ServicerContext]:
    call: UnaryCall[Any] = UnaryCall(timeout)
    return call, ServicerContext(call, details)


def _stream_sides(
    timeout: float | None, details: CallDetails
) -> tuple[StreamCall[Any], StreamContext]:
    call: StreamCall[Any] = StreamCall(timeout)
    return call, StreamContext(call, details)


class _MultiCallable(Generic[_Request, _Started]):
    """Starts calls of one method.

    Calling it raises UsageError if the channel is closed or `credentials` are given, and
    InternalError or TypeError for metadata that cannot be sent.
    """

    def __init__(self, start: Callable[[object, float | None, Metadata | None], _Started]) -> None:
        self._start = start

    def __call__(
        self,
        request: _Request,
        *,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,  # noqa: ARG002 - it is always ready
        compression: grpc.Compression | None = None,  # noqa: ARG002 - no bytes are sent
    ) -> _Started:
        if credentials is not None:
            raise grpc.aio.UsageError("Call credentials are only valid on secure channels")
        return self._start(request, timeout, metadata)


class _UnaryUnary(
    _MultiCallable[_Request, UnaryCall[_Response]],
    grpc.aio.UnaryUnaryMultiCallable[_Request, _Response],
):
    """Starts calls with one response."""


class _UnaryStream(
    _MultiCallable[_Request, StreamCall[_Response]],
    grpc.aio.UnaryStreamMultiCallable[_Request, _Response],
):
    """Starts calls with a stream of responses."""
