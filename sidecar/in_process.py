"""A `grpc.aio.Channel` over handlers in this process: their calls without a socket.

Here belongs what a unary call shows to its two sides, as grpc.aio 1.85 has it over
a socket; tests/test_in_process.py runs the same cases over both. What the handlers
do, and what their messages are, does not belong here.

It differs from a socket in this alone:
* Messages pass by reference and no (de)serializer runs: neither side changes one.
* The handler inherits the context variables of the caller.
* A timeout of zero or less never reaches the handler.
* Where a handler would leave its caller waiting for ever, the call fails: UNKNOWN for
  a CancelledError of its own and for `abort` with OK, INTERNAL for text under a -bin key.
* Handlers must be async functions, and streaming methods are not served.
* `close` shows as SHUTDOWN from its beginning and waits for the handlers.
* A call that nobody holds any more runs to its end.
"""

import asyncio
import inspect
import re
import time
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from types import TracebackType
from typing import Any, NamedTuple, NoReturn, Self, TypeAlias, TypeVar, cast

import grpc
from grpc import StatusCode

from sidecar import logs

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")
_Received: TypeAlias = tuple[tuple[str, str | bytes], ...]
_Metadata: TypeAlias = grpc.aio.Metadata | Sequence[tuple[str, str | bytes]]
# Any: one channel carries the messages of every schema.
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
_Start: TypeAlias = "Callable[[str, Any, float | None, _Metadata | None], _Call[Any]]"
_Callback: TypeAlias = Callable[[Any], None]
_Find: TypeAlias = Callable[[grpc.HandlerCallDetails], Awaitable["_Handler | None"]]

# What a handler may set as its code: nothing, a StatusCode or its number.
_CODES: dict[object, StatusCode] = {None: StatusCode.OK}
_CODES |= {key: code for code in StatusCode for key in (code, code.value[0])}

# Header-Name and ASCII-Value of gRPC over HTTP/2:
# https://github.com/grpc/grpc/blob/v1.76.0/doc/PROTOCOL-HTTP2.md#requests
_KEY = re.compile(r"[0-9a-z_.-]+")
_TEXT = re.compile(r"[ -~]*")

_CANCELLED = (StatusCode.CANCELLED, "Locally cancelled by application!")
_EXPIRED = (StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")


class InProcessChannel(grpc.aio.Channel):
    """Calls the handlers that were added to it through `interceptors`, outermost first.

    `add_XServicer_to_server` takes it for a server, a stub takes it for a channel.
    """

    def __init__(self, interceptors: Sequence[grpc.aio.ServerInterceptor] = ()) -> None:
        self._registered: dict[str, _Handler] = {}
        self._generic: list[grpc.GenericRpcHandler] = []
        self._calls: dict[asyncio.Task[None], _Call[Any]] = {}
        self._closed = asyncio.Event()
        self._find: _Find = self._find_handler
        for interceptor in reversed(interceptors):
            self._find = partial(interceptor.intercept_service, self._find)

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Serve what `handlers` know, as `grpc.aio.Server` does."""
        self._generic.extend(handlers)

    def add_registered_method_handlers(
        self, service: str, handlers: Mapping[str, _Handler]
    ) -> None:
        """Serve the methods of `service` by their names; they come before generic handlers."""
        self._registered |= {f"/{service}/{name}": handler for name, handler in handlers.items()}

    def unary_unary(
        self,
        method: str,
        request_serializer: Callable[[_Request], bytes] | None = None,  # noqa: ARG002 - not needed
        response_deserializer: Callable[[bytes], _Response] | None = None,  # noqa: ARG002 - as above
        _registered_method: bool | None = False,
    ) -> grpc.aio.UnaryUnaryMultiCallable[_Request, _Response]:
        """Return what calls `method`, which is "/package.Service/Method"."""
        return _UnaryUnary(self._start, method)

    def unary_stream(self, method: str, *_: object, **__: object) -> NoReturn:
        """Raise NotImplementedError."""
        raise NotImplementedError(f"{method}: streaming methods cannot be called in-process")

    stream_unary = unary_stream
    stream_stream = unary_stream

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:  # noqa: ARG002 - is always connected
        """Return READY, and SHUTDOWN from the beginning of `close` on."""
        states = grpc.ChannelConnectivity
        return states.SHUTDOWN if self._closed.is_set() else states.READY

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Return once the state is another one. Raises UsageError when closed already."""
        self._check_open()
        if last_observed_state is grpc.ChannelConnectivity.READY:
            await self._closed.wait()

    async def channel_ready(self) -> None:
        """Return at once. Raises UsageError when closed already."""
        self._check_open()

    async def close(self, grace: float | None = None) -> None:
        """Refuse new calls, cancel those that run after `grace` seconds, wait for all handlers.

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
        self, method: str, request: object, timeout: float | None, metadata: _Metadata | None
    ) -> "_Call[Any]":
        self._check_open()
        details = _CallDetails(method=method, invocation_metadata=_receive(metadata))
        call: _Call[Any] = _Call(timeout)
        if not call.done():
            context = _ServicerContext(call, details)
            call.task = asyncio.create_task(context.serve(self._find, request))
            # The loop itself holds no more than a weak reference to a task.
            self._calls[call.task] = call
            call.task.add_done_callback(self._calls.pop)
        return call

    async def _find_handler(self, details: grpc.HandlerCallDetails) -> "_Handler | None":
        registered = self._registered.get(details.method)
        if registered is not None:
            return registered
        found = (handler.service(details) for handler in self._generic)
        return next((handler for handler in found if handler is not None), None)


class _UnaryUnary(grpc.aio.UnaryUnaryMultiCallable[_Request, _Response]):
    """Starts calls of one method.

    Raises UsageError on a closed channel and for credentials, and InternalError or
    TypeError for metadata that cannot be sent.
    """

    def __init__(self, start: _Start, method: str) -> None:
        self._start = start
        self._method = method

    def __call__(
        self,
        request: _Request,
        *,
        timeout: float | None = None,
        metadata: _Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,  # noqa: ARG002 - it is always ready
        compression: grpc.Compression | None = None,  # noqa: ARG002 - no bytes are sent
    ) -> "_Call[_Response]":
        if credentials is not None:
            raise grpc.aio.UsageError("Call credentials are only valid on secure channels")
        return self._start(self._method, request, timeout, metadata)


class _Call(grpc.aio.UnaryUnaryCall[Any, _Response]):
    """The caller's side of an RPC, which is over for the caller once its code is known."""

    def __init__(self, timeout: float | None) -> None:
        self.task: asyncio.Task[None] | None = None
        self.initial: _Received = ()
        self._loop = asyncio.get_running_loop()
        self._code: StatusCode | None = None
        self._details = ""
        self._trailing: _Received = ()
        self._response: _Response | None = None
        self._cancelled_here = False
        self._waiters: list[asyncio.Future[None]] = []
        self._callbacks: list[_Callback] = []
        # Not the clock of the loop, which uvloop stops while a callback runs.
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._timer: asyncio.TimerHandle | None = None
        if timeout is not None and timeout > 0:
            self._timer = self._loop.call_later(timeout, self._expire)
        elif timeout is not None:
            self._expire()

    def __await__(self) -> Generator[Any, None, _Response]:
        try:
            yield from self._end().__await__()
        except asyncio.CancelledError:
            self.cancel()
            raise
        if self._cancelled_here:
            raise asyncio.CancelledError
        if self._code is not StatusCode.OK:
            raise grpc.aio.AioRpcError(
                cast("StatusCode", self._code),
                grpc.aio.Metadata(*self.initial),
                grpc.aio.Metadata(*self._trailing),
                self._details,
            )
        return cast("_Response", self._response)

    def cancel(self) -> bool:
        if self.done():
            return False
        self._cancelled_here = True
        self.initial = ()
        self._leave(*_CANCELLED)
        return True

    def cancelled(self) -> bool:
        return self._code is StatusCode.CANCELLED

    def done(self) -> bool:
        return self._code is not None

    def time_remaining(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def add_done_callback(self, callback: _Callback) -> None:
        if self.done():
            callback(self)
        else:
            self._callbacks.append(callback)

    async def initial_metadata(self) -> grpc.aio.Metadata:
        await self._end()
        return grpc.aio.Metadata(*self.initial)

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        await self._end()
        return grpc.aio.Metadata(*self._trailing)

    async def code(self) -> StatusCode:
        await self._end()
        return cast("StatusCode", self._code)

    async def details(self) -> str:
        await self._end()
        return self._details

    async def wait_for_connection(self) -> None:
        await self

    def finish(
        self, code: StatusCode, details: str, trailing: _Received = (), response: Any = None
    ) -> None:
        """Take the outcome from the handler, unless the caller has gone."""
        if self.done():
            return
        if self.time_remaining() == 0:
            # A loop that was kept busy runs the timer too late.
            self._settle(*_EXPIRED)
        else:
            self._trailing = trailing
            self._response = response
            self._settle(code, details)

    def _expire(self) -> None:
        self._leave(*_EXPIRED)

    def _leave(self, code: StatusCode, details: str) -> None:
        self._settle(code, details)
        if self.task is not None:
            self.task.cancel()

    def _settle(self, code: StatusCode, details: str) -> None:
        self._code = code
        self._details = details if code is not StatusCode.OK else ""
        if self._timer is not None:
            self._timer.cancel()
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        _run_callbacks(self._callbacks, self)

    async def _end(self) -> None:
        if not self.done():
            # One for each who waits: who is cancelled while waiting cancels what it waits for.
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter


class _ServicerContext(grpc.aio.ServicerContext[Any, Any]):
    """The handler's side of an RPC.

    As in grpc.aio, `code` and `cancelled` tell what code the handler itself has set.
    That the caller has gone shows in the task alone: it is cancelled from outside,
    so `asyncio.current_task().cancelling()` is not 0.
    """

    def __init__(self, call: _Call[Any], details: "_CallDetails") -> None:
        self._call = call
        self._call_details = details
        self._code: StatusCode | None = None
        self._details = ""
        self._trailing: _Received = ()
        self._initial_sent = False
        self._done = False
        self._aborted = False
        self._callbacks: list[_Callback] = []

    async def serve(self, find: _Find, request: object) -> None:
        """Run interceptors and handler, and give the outcome to the caller."""
        try:
            handler = await find(self._call_details)
            if handler is None or handler.unary_unary is None:
                self._finish(StatusCode.UNIMPLEMENTED, "Method not found!")
            else:
                self._answer(await self._handle(handler.unary_unary, request))
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - it becomes a status
            self._fail(error)
        _run_callbacks(self._callbacks, self)

    async def abort(
        self, code: StatusCode, details: str = "", trailing_metadata: _Metadata = ()
    ) -> NoReturn:
        if self._aborted:
            raise grpc.aio.UsageError("Abort already called!")
        if not isinstance(trailing_metadata, tuple):
            raise TypeError("trailing_metadata must be a tuple")
        if _CODES.get(code) is StatusCode.OK:
            raise AssertionError("Expecting non-ok status code.")
        self.set_trailing_metadata(trailing_metadata or self._trailing)
        self._details = details or self._details
        self._code = code
        self._aborted = True
        self._check_caller()
        self._finish(self._status(), self._details)
        raise grpc.aio.AbortError("Locally aborted.")

    async def abort_with_status(self, status: grpc.Status) -> NoReturn:
        await self.abort(status.code, status.details, status.trailing_metadata)

    async def send_initial_metadata(self, initial_metadata: _Metadata) -> None:
        if self._aborted:
            raise grpc.aio.AbortError("Locally aborted.")
        if self._done:
            raise grpc.aio.UsageError("RPC already finished.")
        if self._initial_sent:
            raise grpc.aio.UsageError("Send initial metadata failed: already sent")
        received = self._send(initial_metadata)
        self._check_caller()
        self._call.initial = received
        self._initial_sent = True

    def set_trailing_metadata(self, trailing_metadata: _Metadata) -> None:
        self._trailing = tuple((key, value) for key, value in trailing_metadata)

    def trailing_metadata(self) -> grpc.aio.Metadata:
        return cast("grpc.aio.Metadata", self._trailing)  # The stubs err, as in the next.

    def invocation_metadata(self) -> grpc.aio.Metadata:
        return cast("grpc.aio.Metadata", self._call_details.invocation_metadata)

    def set_code(self, code: StatusCode) -> None:
        self._code = code

    def code(self) -> StatusCode:
        return cast("StatusCode", self._code)  # None until it is set, which the stubs deny.

    def set_details(self, details: str) -> None:
        self._details = details

    def details(self) -> str:
        return self._details

    def set_compression(self, compression: grpc.Compression) -> None:
        pass

    def disable_next_message_compression(self) -> None:
        pass

    def peer(self) -> str:
        return "in-process"

    def peer_identities(self) -> None:
        return None

    def peer_identity_key(self) -> None:
        return None

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        return {}

    def time_remaining(self) -> float:
        return cast("float", self._call.time_remaining())  # None without deadline, as above.

    def add_done_callback(self, callback: _Callback) -> None:
        self._callbacks.append(callback)

    def done(self) -> bool:
        return self._done

    def cancelled(self) -> bool:
        return self._status() is StatusCode.CANCELLED

    async def read(self) -> NoReturn:
        raise NotImplementedError("a unary handler has read its one message already")

    async def write(self, message: object) -> NoReturn:
        raise NotImplementedError("a unary handler returns its one message")

    async def _handle(self, behaviour: Callable[..., Any], request: object) -> object:
        response = behaviour(request, self)
        if not inspect.isawaitable(response):
            raise TypeError("the handler must be an async function")
        return await response

    def _answer(self, response: object) -> None:
        if response is None and self._status() is StatusCode.OK:
            raise TypeError("the handler returned no message")
        self._finish(self._status(), self._details, response)

    def _fail(self, error: BaseException) -> None:
        gone = isinstance(error, asyncio.CancelledError | _CallerGoneError) and self._call.done()
        if gone or (self._aborted and isinstance(error, grpc.aio.AbortError)):
            return
        if isinstance(error, grpc.aio.AbortError):
            error = AssertionError("Abort error has been replaced!")
        logs.failure("a handler failed without a guard", error)
        status = self._status()
        code = StatusCode.UNKNOWN if status is StatusCode.OK else status
        self._finish(code, f"Unexpected {type(error)}: {error}")

    def _status(self) -> StatusCode:
        return _CODES.get(self._code, StatusCode.UNKNOWN)

    def _check_caller(self) -> None:
        if self._call.done():
            raise _CallerGoneError("the RPC is over for its caller")

    def _finish(self, code: StatusCode, details: str, response: object = None) -> None:
        self._done = True
        self._call.finish(code, details, self._send(self._trailing), response)

    def _send(self, metadata: _Metadata) -> _Received:
        try:
            return _receive(metadata)
        except (TypeError, grpc.aio.InternalError):
            self._done = True
            self._call.finish(StatusCode.INTERNAL, "Invalid metadata")
            return ()


class _CallerGoneError(grpc.aio.InternalError):
    """The handler speaks, but the RPC is over for its caller."""


class _Metadatum(NamedTuple):
    key: str
    value: str | bytes


@dataclass(slots=True, kw_only=True)
class _CallDetails:
    """What interceptors see of an RPC; not frozen because `grpc.HandlerCallDetails` is not."""

    method: str
    invocation_metadata: _Received


def _receive(metadata: _Metadata | None) -> _Received:
    """Return `metadata` as the other side receives it: values of one key together, in order.

    Raises InternalError for characters that HTTP/2 does not carry, TypeError for
    a wrong type.
    """
    if not metadata:
        return ()
    received: dict[str, list[_Metadatum]] = {}
    for key, value in metadata:
        item = _Metadatum(key, _receive_value(key, value))
        received.setdefault(key, []).append(item)
    return tuple(chain.from_iterable(received.values()))


def _receive_value(key: str, value: str | bytes) -> str | bytes:
    legal = bool(_KEY.fullmatch(key))
    if not key.endswith("-bin"):
        value = value if isinstance(value, str) else value.decode("latin-1")
        legal = legal and bool(_TEXT.fullmatch(value))
    elif not isinstance(value, bytes):
        raise TypeError(f"metadata {key!r} must be bytes")
    if not legal:
        raise grpc.aio.InternalError(f"metadata {key!r} has characters that cannot be sent")
    return value


def _run_callbacks(callbacks: Iterable[_Callback], side: object) -> None:
    try:
        for callback in callbacks:
            callback(side)
    except Exception as error:  # noqa: BLE001 - a callback cannot fail the RPC
        logs.failure("a callback of a call failed", error)
