"""Handler's side of an in-process RPC."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias, cast

import grpc
from grpc import StatusCode

from sidecar import logs
from sidecar.in_process.call import Call, Callback, run_callbacks
from sidecar.in_process.metadata import Metadata, Received, receive

# Any: one channel carries the messages of every schema.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Find: TypeAlias = Callable[[grpc.HandlerCallDetails], Awaitable["Handler | None"]]

# The codes that a handler may set: none, a StatusCode, or its number.
_CODES: dict[object, StatusCode] = {None: StatusCode.OK}
_CODES |= {key: code for code in StatusCode for key in (code, code.value[0])}


@dataclass(slots=True, kw_only=True)
class CallDetails:
    """The call details for interceptors. Not frozen: `grpc.HandlerCallDetails` is not either."""

    method: str
    invocation_metadata: Received


class ServicerContext(grpc.aio.ServicerContext[Any, Any]):
    """Handler's side of an RPC.

    As in grpc.aio, `code` and `cancelled` reflect only the code that the handler has set.
    If the caller goes away, the handler's task is cancelled from outside. Only the task
    shows this: `asyncio.current_task().cancelling()` is not 0.
    """

    # The attribute of a handler with the behavior that this context is for.
    kind = "unary_unary"

    def __init__(self, call: Call, details: "CallDetails") -> None:
        self._call = call
        self._call_details = details
        self._code: StatusCode | None = None
        self._details = ""
        self._trailing: Received = ()
        self._initial_sent = False
        self._done = False
        self._aborted = False
        self._callbacks: list[Callback] = []

    async def serve(self, find: Find, request: object) -> None:
        """Run the interceptors and the handler, and pass the outcome to the caller."""
        try:
            behavior = getattr(await find(self._call_details), self.kind, None)
            if behavior is None:
                self._finish(StatusCode.UNIMPLEMENTED, "Method not found!")
            else:
                self._answer(await self._handle(behavior, request))
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - it becomes a status
            self._fail(error)
        run_callbacks(self._callbacks, self)

    async def abort(
        self, code: StatusCode, details: str = "", trailing_metadata: Metadata = ()
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

    async def send_initial_metadata(self, initial_metadata: Metadata) -> None:
        self._check_open()
        if self._initial_sent:
            raise grpc.aio.UsageError("Send initial metadata failed: already sent")
        received = self._send(initial_metadata)
        self._check_caller()
        self._begin(received)

    def set_trailing_metadata(self, trailing_metadata: Metadata) -> None:
        self._trailing = tuple((key, value) for key, value in trailing_metadata)

    def trailing_metadata(self) -> grpc.aio.Metadata:
        return cast("grpc.aio.Metadata", self._trailing)  # The stubs are wrong here and below.

    def invocation_metadata(self) -> grpc.aio.Metadata:
        return cast("grpc.aio.Metadata", self._call_details.invocation_metadata)

    def set_code(self, code: StatusCode) -> None:
        self._code = code

    def code(self) -> StatusCode:
        return cast("StatusCode", self._code)  # None until it is set, unlike in the stubs.

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
        return cast("float", self._call.time_remaining())  # None without a deadline, as above.

    def add_done_callback(self, callback: Callback) -> None:
        self._callbacks.append(callback)

    def done(self) -> bool:
        return self._done

    def cancelled(self) -> bool:
        return self._status() is StatusCode.CANCELLED

    async def read(self) -> Any:
        raise NotImplementedError("a unary handler has read its one message already")

    async def write(self, message: object) -> None:
        raise NotImplementedError("a unary handler returns its one message")

    async def _handle(self, behavior: Callable[..., Any], request: object) -> object:
        response = behavior(request, self)
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
        logs.failure("a handler failed outside the error boundary", error)
        status = self._status()
        code = StatusCode.UNKNOWN if status is StatusCode.OK else status
        self._finish(code, f"Unexpected {type(error)}: {error}")

    def _status(self) -> StatusCode:
        return _CODES.get(self._code, StatusCode.UNKNOWN)

    def _begin(self, initial: Received) -> None:
        self._call.begin(initial)
        self._initial_sent = True

    def _check_open(self) -> None:
        if self._aborted:
            raise grpc.aio.AbortError("Locally aborted.")
        if self._done:
            raise grpc.aio.UsageError("RPC already finished.")

    def _check_caller(self) -> None:
        if self._call.done():
            raise _CallerGoneError("the RPC has ended for its caller")

    def _finish(self, code: StatusCode, details: str, response: object = None) -> None:
        self._done = True
        self._call.finish(code, details, self._send(self._trailing), response)

    def _send(self, metadata: Metadata) -> Received:
        try:
            return receive(metadata)
        except (TypeError, grpc.aio.InternalError):
            self._done = True
            self._call.finish(StatusCode.INTERNAL, "Invalid metadata")
            return ()


class _CallerGoneError(grpc.aio.InternalError):
    """The handler sends something after the RPC has ended for its caller."""
