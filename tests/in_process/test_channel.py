"""Tests of the in-process channel, and of a channel to a real server with the same cases.

A test with `open_channel` runs over both channels and must see no difference. The tests at
the end of the file cover behaviour that only the in-process channel has.
"""

import asyncio
import contextvars
import gc
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc import status_pb2
from grpc import StatusCode
from grpc.aio import AioRpcError, Metadata
from grpc_status import rpc_status
from karmo.auth.v1.token_service_pb2 import ExchangeTokenRequest, ExchangeTokenResponse
from karmo.auth.v1.token_service_pb2_grpc import (
    TokenServiceServicer,
    TokenServiceStub,
    add_TokenServiceServicer_to_server,
)

from sidecar.in_process import InProcessChannel
from tests.servicers import RaisingServicer

Context = grpc.aio.ServicerContext[StringValue, StringValue]
# Any: the type of a handler's messages in grpc's own stubs.
Behavior = Callable[[Any, Any], Any]
Call = grpc.aio.UnaryUnaryCall[StringValue, StringValue]
Method = grpc.aio.UnaryUnaryMultiCallable[StringValue, StringValue]
# Any: a server and the in-process channel share two methods to register, but no base class.
Register = Callable[[Any], None]
Open = Callable[..., Awaitable[grpc.aio.Channel]]
Pairs = tuple[tuple[str, str | bytes], ...]

PATH = "/test.Case/Call"
HI = StringValue(value="hi")
GONE = StringValue(value="too late")


# The two channels


def guard_against_hanging(stack: AsyncExitStack) -> None:
    """Cancel the running test after 20 s, unless `stack` is closed before."""
    test = asyncio.current_task()
    assert test is not None
    stack.callback(asyncio.get_running_loop().call_later(20, test.cancel).cancel)


async def open_in_process(
    stack: AsyncExitStack,
    register: Register,
    interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
) -> grpc.aio.Channel:
    """Return a channel to the handlers that `register` adds, without a socket."""
    guard_against_hanging(stack)
    channel = InProcessChannel(interceptors)
    register(channel)
    return await stack.enter_async_context(channel)


async def open_socket(
    stack: AsyncExitStack,
    register: Register,
    interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
) -> grpc.aio.Channel:
    """Return a channel to the handlers that `register` adds, through a server of grpc.aio."""
    guard_against_hanging(stack)
    server = grpc.aio.server(interceptors=interceptors)
    register(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    stack.push_async_callback(server.stop, None)
    return await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))


@pytest.fixture(params=[open_in_process, open_socket], ids=["in_process", "socket"])
async def open_channel(request: pytest.FixtureRequest) -> AsyncIterator[Open]:
    """Yield a function that opens channels of one kind; they are closed after the test."""
    async with AsyncExitStack() as stack:
        yield partial(request.param, stack)


def serving(**behaviors: Behavior) -> Register:
    """Return a function that registers each behavior as the method /test.Case/<its name>."""
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            behavior,
            request_deserializer=StringValue.FromString,
            response_serializer=StringValue.SerializeToString,
        )
        for name, behavior in behaviors.items()
    }
    generic = grpc.method_handlers_generic_handler("test.Case", handlers)
    return lambda server: server.add_generic_rpc_handlers((generic,))


def method_of(channel: grpc.aio.Channel, path: str = PATH) -> Method:
    """Return the method at `path`, which takes and returns a StringValue."""
    return channel.unary_unary(path, StringValue.SerializeToString, StringValue.FromString)


async def open_method(
    open_channel: Open, behavior: Behavior, *interceptors: grpc.aio.ServerInterceptor
) -> Method:
    """Return the one method of a new channel, which `behavior` serves."""
    return method_of(await open_channel(serving(Call=behavior), interceptors))


# The caller's view


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Everything that a caller can see of a finished call."""

    code: StatusCode = StatusCode.OK
    details: str = ""
    value: str | None = None
    initial: Pairs = ()
    trailing: Pairs = ()


async def outcome_of(call: Call) -> Outcome:
    """Wait for `call` and return its outcome; its error must have the same values."""
    if await call.code() is StatusCode.OK:
        return replace(await outcome_without_value(call), value=(await call).value)
    with pytest.raises(AioRpcError) as raised:
        await call
    error, seen = raised.value, await outcome_without_value(call)
    assert (error.code(), error.details()) == (seen.code, seen.details)
    assert error.initial_metadata() == Metadata(*seen.initial)
    assert error.trailing_metadata() == Metadata(*seen.trailing)
    return seen


async def outcome_without_value(call: Call) -> Outcome:
    """Return the outcome of `call`, which has ended, without awaiting its response."""
    seen = Outcome(
        code=await call.code(),
        details=await call.details(),
        initial=tuple(await call.initial_metadata()),
        trailing=tuple(await call.trailing_metadata()),
    )
    assert call.done()
    assert call.cancelled() == (seen.code is StatusCode.CANCELLED)
    assert call.cancel() is False
    return seen


async def echo(request: StringValue, _context: Context) -> StringValue:
    """Return the request."""
    return request


async def send_metadata(request: StringValue, context: Context) -> StringValue:
    """Send metadata of every kind both ways."""
    await context.send_initial_metadata((("a", "1"), ("b-bin", b"\x00\xff"), ("a", "2")))
    context.set_trailing_metadata(
        (("t", "1"), ("u-bin", b""), ("t", "2"), ("empty", ""), ("v", b"text"), ("w", " a,b "))
    )
    return request


async def replace_metadata(request: StringValue, context: Context) -> StringValue:
    """Set trailing metadata twice, of both types."""
    context.set_trailing_metadata([("lost", "1")])
    context.set_trailing_metadata(Metadata(("a", "1"), ("b", "2"), ("a", "3")))
    return request


async def set_status(request: StringValue, context: Context) -> StringValue:
    """Return a response although the code is an error."""
    context.set_code(StatusCode.NOT_FOUND)
    context.set_details("none such")
    context.set_trailing_metadata((("t", "1"),))
    return request


async def set_status_only(_request: StringValue, context: Context) -> None:
    """Return no response, which is allowed after an error code."""
    context.set_code(StatusCode.NOT_FOUND)


async def set_number(request: StringValue, context: Context) -> StringValue:
    """Set a code by its number in google.rpc.Code."""
    context.set_code(cast("StatusCode", 5))
    context.set_details("é\n☃ %41")
    return request


async def set_nonsense(request: StringValue, context: Context) -> StringValue:
    """Set a code that does not exist."""
    context.set_code(cast("StatusCode", 99))
    return request


async def set_cancelled(request: StringValue, context: Context) -> StringValue:
    """Set the code of a cancelled call."""
    context.set_code(StatusCode.CANCELLED)
    assert context.cancelled()
    return request


async def set_ok_details(request: StringValue, context: Context) -> StringValue:
    """Set details with OK, which are not sent."""
    context.set_code(StatusCode.OK)
    context.set_details("fine")
    return request


async def set_compression(request: StringValue, context: Context) -> StringValue:
    """Set compression, and disable it for the next message."""
    context.set_compression(grpc.Compression.Gzip)
    context.disable_next_message_compression()
    return request


async def fail(_request: StringValue, _context: Context) -> StringValue:
    """Raise."""
    raise ValueError("no good")


async def fail_with_code(_request: StringValue, context: Context) -> StringValue:
    """Raise after a code and metadata have been set."""
    context.set_code(StatusCode.NOT_FOUND)
    context.set_details("lost")
    context.set_trailing_metadata((("t", "1"),))
    raise ValueError("no good")


async def fail_with_ok(_request: StringValue, context: Context) -> StringValue:
    """Raise after OK has been set."""
    context.set_code(StatusCode.OK)
    raise ValueError("no good")


async def abort(_request: StringValue, context: Context) -> StringValue:
    """Abort with a code, details and metadata."""
    await context.send_initial_metadata((("a", "1"),))
    context.set_details("lost")
    context.set_trailing_metadata((("lost", "1"),))
    await context.abort(StatusCode.ABORTED, "stop", (("t", "1"), ("t", "2")))


async def abort_after_setting(_request: StringValue, context: Context) -> StringValue:
    """Abort after details and metadata were set."""
    context.set_details("set before")
    context.set_trailing_metadata((("t", "1"),))
    await context.abort(StatusCode.ABORTED)


async def abort_number(_request: StringValue, context: Context) -> StringValue:
    """Abort with the number of a code."""
    await context.abort(cast("StatusCode", 5), "by number")


async def abort_nonsense(_request: StringValue, context: Context) -> StringValue:
    """Abort with a code that does not exist."""
    await context.abort(cast("StatusCode", "5"), "by text")


async def abort_twice(_request: StringValue, context: Context) -> StringValue:
    """Abort again after an abort."""
    with pytest.raises(grpc.aio.AbortError, match="Locally aborted"):
        await context.abort(StatusCode.ABORTED, "first")
    with pytest.raises(grpc.aio.UsageError, match="Abort already called"):
        await context.abort(StatusCode.INTERNAL, "second")
    await context.abort(StatusCode.INTERNAL, "third")


async def abort_and_return(request: StringValue, context: Context) -> StringValue:
    """Return after an abort."""
    with pytest.raises(grpc.aio.AbortError):
        await context.abort(StatusCode.ABORTED, "first")
    with pytest.raises(grpc.aio.AbortError):
        await context.send_initial_metadata((("late", "1"),))
    return request


async def abort_and_fail(_request: StringValue, context: Context) -> StringValue:
    """Raise something else after an abort."""
    with pytest.raises(grpc.aio.AbortError):
        await context.abort(StatusCode.ABORTED, "first")
    raise ValueError("second")


async def raise_foreign_abort(_request: StringValue, _context: Context) -> StringValue:
    """Raise an AbortError without a call of `abort`."""
    raise grpc.aio.AbortError("mine")


async def abort_with_list(_request: StringValue, context: Context) -> StringValue:
    """Abort with metadata in a list, which grpc.aio refuses only in `abort`."""
    with pytest.raises(TypeError, match="trailing_metadata"):
        await context.abort(StatusCode.ABORTED, "list", [("t", "1")])
    await context.abort(StatusCode.ABORTED, "tuple", (("t", "1"),))


async def send_initial_twice(request: StringValue, context: Context) -> StringValue:
    """Send initial metadata again."""
    await context.send_initial_metadata((("a", "1"),))
    with pytest.raises(grpc.aio.UsageError, match="already sent"):
        await context.send_initial_metadata((("a", "2"),))
    return request


async def send_bad_initial(request: StringValue, context: Context) -> StringValue:
    """Send initial metadata whose key has a capital letter."""
    with pytest.raises(grpc.aio.InternalError):
        await context.send_initial_metadata((("Abc", "1"),))
    return request


async def set_bad_key(request: StringValue, context: Context) -> StringValue:
    """Set trailing metadata whose key has a capital letter."""
    context.set_trailing_metadata((("Abc", "1"),))
    return request


async def set_bad_value(request: StringValue, context: Context) -> StringValue:
    """Set trailing metadata whose value is not ASCII."""
    context.set_trailing_metadata((("abc", "é"),))
    return request


UNEXPECTED = "Unexpected <class 'ValueError'>: no good"
FOREIGN = "Unexpected <class 'AssertionError'>: Abort error has been replaced!"
BAD = Outcome(code=StatusCode.INTERNAL, details="Invalid metadata")
T1: Pairs = (("t", "1"),)

OUTCOMES: dict[Behavior, Outcome] = {
    echo: Outcome(value="hi"),
    send_metadata: Outcome(
        value="hi",
        initial=(("a", "1"), ("a", "2"), ("b-bin", b"\x00\xff")),
        trailing=(
            ("t", "1"),
            ("t", "2"),
            ("u-bin", b""),
            ("empty", ""),
            ("v", "text"),
            ("w", " a,b "),
        ),
    ),
    replace_metadata: Outcome(value="hi", trailing=(("a", "1"), ("a", "3"), ("b", "2"))),
    set_status: Outcome(code=StatusCode.NOT_FOUND, details="none such", trailing=T1),
    set_status_only: Outcome(code=StatusCode.NOT_FOUND),
    set_number: Outcome(code=StatusCode.NOT_FOUND, details="é\n☃ %41"),
    set_nonsense: Outcome(code=StatusCode.UNKNOWN),
    set_cancelled: Outcome(code=StatusCode.CANCELLED),
    set_ok_details: Outcome(value="hi"),
    set_compression: Outcome(value="hi"),
    fail: Outcome(code=StatusCode.UNKNOWN, details=UNEXPECTED),
    fail_with_code: Outcome(code=StatusCode.NOT_FOUND, details=UNEXPECTED, trailing=T1),
    fail_with_ok: Outcome(code=StatusCode.UNKNOWN, details=UNEXPECTED),
    abort: Outcome(
        code=StatusCode.ABORTED,
        details="stop",
        initial=(("a", "1"),),
        trailing=(("t", "1"), ("t", "2")),
    ),
    abort_after_setting: Outcome(code=StatusCode.ABORTED, details="set before", trailing=T1),
    abort_number: Outcome(code=StatusCode.NOT_FOUND, details="by number"),
    abort_nonsense: Outcome(code=StatusCode.UNKNOWN, details="by text"),
    abort_twice: Outcome(code=StatusCode.ABORTED, details="first"),
    abort_and_return: Outcome(code=StatusCode.ABORTED, details="first"),
    abort_and_fail: Outcome(code=StatusCode.ABORTED, details="first"),
    raise_foreign_abort: Outcome(code=StatusCode.UNKNOWN, details=FOREIGN),
    abort_with_list: Outcome(code=StatusCode.ABORTED, details="tuple", trailing=T1),
    send_initial_twice: Outcome(value="hi", initial=(("a", "1"),)),
    send_bad_initial: BAD,
    set_bad_key: BAD,
    set_bad_value: BAD,
}


@pytest.mark.parametrize("behavior", OUTCOMES, ids=lambda behavior: behavior.__name__)
async def test_outcome(open_channel: Open, behavior: Behavior) -> None:
    """Value, code, details and metadata of both kinds reach the caller as the handler set them."""
    method = await open_method(open_channel, behavior)
    assert await outcome_of(method(HI)) == OUTCOMES[behavior]


async def test_status_details(open_channel: Open) -> None:
    """The details of a rich status can be read from the error and from the call."""
    status = status_pb2.Status(code=StatusCode.FAILED_PRECONDITION.value[0], message="not now")
    status.details.add().Pack(HI)

    async def abort_with_status(_request: StringValue, context: Context) -> None:
        await context.abort_with_status(rpc_status.to_status(status))

    call = (await open_method(open_channel, abort_with_status))(HI)
    with pytest.raises(AioRpcError) as raised:
        await call
    # Any: the stubs have only the errors of synchronous channels.
    assert rpc_status.from_call(cast("Any", raised.value)) == status
    assert await rpc_status.aio.from_call(call) == status


async def test_missing_response(open_channel: Open) -> None:
    """A handler that returns None fails with UNKNOWN."""

    async def forget(_request: StringValue, _context: Context) -> None:
        pass

    seen = await outcome_of((await open_method(open_channel, forget))(HI))
    assert seen.code is StatusCode.UNKNOWN
    assert seen.details.startswith("Unexpected <class 'TypeError'>: ")


async def test_call_is_awaited_again(open_channel: Open) -> None:
    """A call that is awaited again returns the same response, or raises the same error."""
    channel = await open_channel(serving(Call=echo, Fail=fail))
    call, failing = method_of(channel)(HI), method_of(channel, "/test.Case/Fail")(HI)
    assert [await call, await call] == [HI, HI]
    for _ in range(2):
        with pytest.raises(AioRpcError, match="no good"):
            await failing


async def test_wait_for_connection(open_channel: Open) -> None:
    """Waiting for the connection of a unary call waits for its outcome, and raises its error."""
    channel = await open_channel(serving(Call=echo, Fail=fail))
    call, failing = method_of(channel)(HI), method_of(channel, "/test.Case/Fail")(HI)
    await call.wait_for_connection()
    assert call.done()
    with pytest.raises(AioRpcError, match="no good"):
        await failing.wait_for_connection()


async def test_done_callbacks_of_call(open_channel: Open) -> None:
    """A callback gets the call when it ends, or at once if it has ended."""
    ended: list[object] = []
    call = (await open_method(open_channel, echo))(HI)
    call.add_done_callback(ended.append)
    assert not ended
    await call
    assert ended == [call]
    call.add_done_callback(ended.append)
    assert ended == [call, call]


# The handler's view


def when_done(context: Context, callback: Callable[[Context], None]) -> None:
    """Call `callback` at the end of the RPC."""
    # Any: the type exists only in the stubs.
    cast("Any", context).add_done_callback(callback)


async def test_context_at_start(open_channel: Open) -> None:
    """In a new context nothing is set or sent, and there is no deadline."""
    seen: list[object] = []

    async def look(request: StringValue, context: Context) -> StringValue:
        seen.extend((context.code(), context.details(), context.trailing_metadata()))
        seen.extend((context.cancelled(), context.done(), context.time_remaining()))
        seen.extend((context.peer_identities(), context.peer_identity_key()))
        assert context.peer()
        assert isinstance(context.auth_context(), dict)
        return request

    await (await open_method(open_channel, look))(HI)
    assert seen == [None, "", (), False, False, None, None, None]


async def test_context_remembers(open_channel: Open) -> None:
    """A context returns the values that were set, and after `abort` those of `abort`."""
    seen: list[object] = []
    # The caller may get the outcome before the handler goes on.
    over = asyncio.Event()

    async def look(_request: StringValue, context: Context) -> None:
        def note() -> None:
            seen.append((context.code(), context.details(), context.trailing_metadata()))

        context.set_code(StatusCode.NOT_FOUND)
        context.set_details("set")
        context.set_trailing_metadata([("t", "1")])
        note()
        with pytest.raises(grpc.aio.AbortError):
            await context.abort(StatusCode.ABORTED, "aborted", (("t", "2"),))
        note()
        assert context.done()
        over.set()

    await (await open_method(open_channel, look))(HI).code()
    await over.wait()
    assert seen == [
        (StatusCode.NOT_FOUND, "set", (("t", "1"),)),
        (StatusCode.ABORTED, "aborted", (("t", "2"),)),
    ]


async def test_context_after_the_end(open_channel: Open) -> None:
    """After the end of its call a context refuses to send anything."""
    kept: list[Context] = []
    over = asyncio.Event()

    async def keep(request: StringValue, context: Context) -> StringValue:
        kept.append(context)
        when_done(context, lambda _: over.set())
        return request

    await (await open_method(open_channel, keep))(HI)
    await over.wait()
    assert kept[0].done()
    with pytest.raises(grpc.aio.UsageError, match="RPC already finished"):
        await kept[0].send_initial_metadata(())
    with pytest.raises(grpc.aio.BaseError):
        await kept[0].abort(StatusCode.ABORTED)


async def test_done_callbacks_of_context(open_channel: Open) -> None:
    """Callbacks get the context when the call ends; one that fails does not fail the call."""
    states: list[object] = []
    over = asyncio.Event()

    def note(context: Context) -> None:
        states.append((context.done(), context.code()))
        over.set()

    def raise_error(_context: Context) -> None:
        raise ValueError("no good")

    async def add(request: StringValue, context: Context) -> StringValue:
        when_done(context, note)
        when_done(context, raise_error)
        return request

    assert await (await open_method(open_channel, add))(HI) == HI
    await over.wait()
    assert states == [(True, None)]


async def invocation_metadata(
    open_channel: Open, metadata: Metadata | Sequence[tuple[str, str | bytes]] | None
) -> list[tuple[str, str | bytes]]:
    """Return `metadata` as the handler sees it, without entries that gRPC core adds."""
    seen: list[tuple[str, str | bytes]] = []

    async def look(request: StringValue, context: Context) -> StringValue:
        # The elements are named pairs, unlike in the stubs.
        elements: Any = context.invocation_metadata()
        assert isinstance(elements, tuple)
        seen.extend((item.key, item.value) for item in elements if item.key != "user-agent")
        assert tuple(seen) == tuple(item for item in elements if item[0] != "user-agent")
        return request

    await (await open_method(open_channel, look))(HI, metadata=metadata)
    return seen


SENT: Pairs = (("k", "1"), ("k-bin", b"\xff\x00"), ("k", "2"), ("l", b"text"), ("m", ""))


@pytest.mark.parametrize("container", [tuple, list, lambda pairs: Metadata(*pairs)])
async def test_invocation_metadata(open_channel: Open, container: Callable[[Pairs], Any]) -> None:
    """Metadata of every type reaches the handler, with the values of one key together."""
    seen = await invocation_metadata(open_channel, container(SENT))
    assert seen == [("k", "1"), ("k", "2"), ("k-bin", b"\xff\x00"), ("l", "text"), ("m", "")]


@pytest.mark.parametrize("empty", [None, (), Metadata()])
async def test_no_invocation_metadata(open_channel: Open, empty: Pairs | None) -> None:
    """A handler sees no metadata if none is sent."""
    assert await invocation_metadata(open_channel, empty) == []


@pytest.mark.parametrize(
    ("key", "value", "error"),
    [
        ("Key", "1", grpc.aio.InternalError),
        ("a b", "1", grpc.aio.InternalError),
        (":path", "/", grpc.aio.InternalError),
        ("", "1", grpc.aio.InternalError),
        ("k", "é", grpc.aio.InternalError),
        ("k", b"\xe9", grpc.aio.InternalError),
        ("k", "a\r\nb: c", grpc.aio.InternalError),
        ("k-bin", "text", TypeError),
    ],
)
async def test_metadata_that_cannot_be_sent(
    open_channel: Open, key: str, value: str | bytes, error: type[Exception]
) -> None:
    """Metadata that HTTP/2 cannot carry is refused before any handler runs."""
    reached: list[object] = []

    async def reach(request: StringValue, _context: Context) -> StringValue:
        reached.append(request)
        return request

    method = await open_method(open_channel, reach)
    with pytest.raises(error):
        await method(HI, metadata=((key, value),))
    assert await method(HI) == HI
    assert len(reached) == 1


async def test_call_credentials_are_refused(open_channel: Open) -> None:
    """Call credentials, which need a secure channel, are refused and not dropped."""
    credentials = grpc.access_token_call_credentials("token")
    method = await open_method(open_channel, echo)
    with pytest.raises(grpc.aio.UsageError, match="secure"):
        await method(HI, credentials=credentials)


async def test_options_of_the_transport(open_channel: Open) -> None:
    """Options of the transport have no effect."""
    method = await open_method(open_channel, echo)
    assert await method(HI, wait_for_ready=True, compression=grpc.Compression.Gzip) == HI


# A caller that leaves


@dataclass(slots=True)
class Waiting:
    """A handler that waits for ever, and calls `stop` once it is cancelled."""

    stop: Callable[["Waiting", Context], Awaitable[StringValue]]
    started: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    seen: list[object] = field(default_factory=list)

    async def serve(self, _request: StringValue, context: Context) -> StringValue:
        """Send metadata, wait, and call `stop` when cancelled."""
        when_done(context, lambda _: self.over.set())
        await context.send_initial_metadata((("a", "1"),))
        context.set_trailing_metadata((("lost", "1"),))
        self.started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            assert task is not None
            self.seen.append((task.cancelling(), context.cancelled(), context.done()))
            return await self.stop(self, context)
        raise AssertionError


async def stop_at_once(_waiting: Waiting, _context: Context) -> StringValue:
    """Raise the cancellation again."""
    raise asyncio.CancelledError


async def stop_with_response(_waiting: Waiting, _context: Context) -> StringValue:
    """Return a response."""
    return GONE


async def stop_with_error(_waiting: Waiting, _context: Context) -> StringValue:
    """Raise something else."""
    raise ValueError("too late")


async def stop_with_metadata(waiting: Waiting, context: Context) -> StringValue:
    """Abort twice and send metadata after the caller has left."""
    with pytest.raises(grpc.aio.InternalError):
        await context.abort(StatusCode.INTERNAL, "too late")
    with pytest.raises(grpc.aio.UsageError, match="Abort already called"):
        await context.abort(StatusCode.INTERNAL, "too late")
    with pytest.raises(grpc.aio.AbortError):
        await context.send_initial_metadata((("late", "1"),))
    # Recorded last, because an assertion that fails in a handler does not fail the test.
    waiting.seen.append("refused")
    return GONE


async def stop_with_abort(_waiting: Waiting, context: Context) -> StringValue:
    """Abort, and let its error pass."""
    await context.abort(StatusCode.INTERNAL, "too late")


STOPS = [
    stop_at_once,
    stop_with_response,
    stop_with_error,
    stop_with_abort,
    stop_with_metadata,
]


async def leave_by_cancel(method: Method, started: asyncio.Event) -> Outcome:
    """Cancel the call; awaiting it raises CancelledError."""
    call = method(HI)
    await started.wait()
    assert call.cancel() is True
    with pytest.raises(asyncio.CancelledError):
        await call
    return await outcome_without_value(call)


async def leave_by_task(method: Method, started: asyncio.Event) -> Outcome:
    """Cancel the task that awaits the call."""
    call = method(HI)
    task = asyncio.create_task(respond(call))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return await outcome_without_value(call)


@pytest.mark.timing("where the deadline passes before the handler starts, a later one is tried")
async def leave_by_deadline(method: Method, started: asyncio.Event) -> Outcome:
    """Let the deadline pass."""
    for seconds in (0.05, 0.5, 5, 50):
        seen = await expiry_of(method(HI, timeout=seconds))
        if started.is_set() and seen.initial:
            return seen
    raise AssertionError("the handler never started")


async def expiry_of(call: Call) -> Outcome:
    """Return the outcome of `call`, whose deadline passes.

    Over a socket the text sometimes has a prefix of gRPC core, such as "Stream removed
    (Deadline Exceeded)".
    """
    seen = await outcome_of(call)
    assert "Deadline Exceeded" in seen.details
    return replace(seen, details="Deadline Exceeded")


LEAVES = [
    *((leave_by_cancel, stop) for stop in STOPS),
    *((leave_by_task, stop) for stop in STOPS[:2]),
    *((leave_by_deadline, stop) for stop in STOPS[:4]),
]
LEFT = Outcome(code=StatusCode.CANCELLED, details="Locally cancelled by application!")
EXPIRED = Outcome(code=StatusCode.DEADLINE_EXCEEDED, details="Deadline Exceeded")
EXPIRED_AFTER_METADATA = replace(EXPIRED, initial=(("a", "1"),))


async def respond(call: Call) -> StringValue:
    """Await `call`, which is not a coroutine and so cannot be a task itself."""
    return await call


@pytest.mark.parametrize(("leave", "stop"), LEAVES)
async def test_caller_that_goes_away(
    open_channel: Open,
    leave: Callable[[Method, asyncio.Event], Awaitable[Outcome]],
    stop: Callable[[Waiting, Context], Awaitable[StringValue]],
) -> None:
    """The handler is cancelled once, and its later actions do not reach the caller."""
    waiting = Waiting(stop=stop)
    outcome = await leave(await open_method(open_channel, waiting.serve), waiting.started)
    await waiting.over.wait()
    assert outcome == (EXPIRED_AFTER_METADATA if leave is leave_by_deadline else LEFT)
    # Only the cancelled task shows that the caller has left, not the context.
    assert waiting.seen[0] == (1, False, False)
    assert ("refused" in waiting.seen) is (stop is stop_with_metadata)


async def test_metadata_for_a_caller_that_has_gone(open_channel: Open) -> None:
    """Initial metadata after the caller has left is refused, and does not reach it."""
    started, over = asyncio.Event(), asyncio.Event()
    seen: list[object] = []

    async def send_late(_request: StringValue, context: Context) -> StringValue:
        when_done(context, lambda _: over.set())
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            with pytest.raises(grpc.aio.InternalError):
                await context.send_initial_metadata((("late", "1"),))
            seen.append("refused")
        return GONE

    call = (await open_method(open_channel, send_late))(HI)
    await started.wait()
    call.cancel()
    await over.wait()
    assert await outcome_without_value(call) == LEFT
    assert seen == ["refused"]


async def test_cancel_before_start(open_channel: Open) -> None:
    """A call that is cancelled before it starts never reaches its handler."""
    reached: list[object] = []

    async def reach(request: StringValue, _context: Context) -> StringValue:
        reached.append(request.value)
        return request

    method = await open_method(open_channel, reach)
    call = method(HI)
    assert (call.done(), call.cancelled()) == (False, False)
    assert call.cancel() is True
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await outcome_without_value(call) == LEFT
    await method(StringValue(value="next"))
    assert reached == ["next"]


async def test_cancel_reaches_all_who_wait(open_channel: Open) -> None:
    """Cancelling a call ends every wait; only a wait for the response raises CancelledError."""
    waiting = Waiting(stop=stop_at_once)
    call = (await open_method(open_channel, waiting.serve))(HI)
    first, second = asyncio.create_task(respond(call)), asyncio.create_task(respond(call))
    code = asyncio.create_task(call.code())
    await waiting.started.wait()
    first.cancel()
    seen = await asyncio.gather(first, second, code, return_exceptions=True)
    assert [type(result) for result in seen[:2]] == [asyncio.CancelledError] * 2
    assert seen[2] is StatusCode.CANCELLED


async def test_waiting_for_the_code_does_not_hold_the_call(open_channel: Open) -> None:
    """Cancelling a wait for the code does not cancel the call."""
    waiting = Waiting(stop=stop_at_once)
    call = (await open_method(open_channel, waiting.serve))(HI)
    code = asyncio.create_task(call.code())
    await waiting.started.wait()
    code.cancel()
    with pytest.raises(asyncio.CancelledError):
        await code
    assert not call.done()
    assert call.cancel()


async def test_deadline_is_seen_on_both_sides(open_channel: Open) -> None:
    """Caller and handler see the remaining time of the same deadline."""
    seen: list[float] = []

    async def look(request: StringValue, context: Context) -> StringValue:
        seen.append(context.time_remaining())
        return request

    call = (await open_method(open_channel, look))(HI, timeout=600)
    remaining = call.time_remaining()
    await call
    assert remaining is not None
    # A socket rounds the deadline up, and the system clock may be set meanwhile.
    assert 500 < remaining <= 600
    assert 500 < seen[0] < 700


async def test_no_deadline(open_channel: Open) -> None:
    """A call without a timeout has no remaining time."""
    call = (await open_method(open_channel, echo))(HI)
    assert call.time_remaining() is None
    await call


@pytest.mark.timing("the handler takes longer than the deadline, whenever it starts")
async def test_deadline_passes_while_the_loop_is_busy(open_channel: Open) -> None:
    """A response after the deadline does not reach the caller."""

    async def keep_busy(request: StringValue, context: Context) -> StringValue:
        # Slightly longer than the deadline, which a socket rounds up.
        end = time.monotonic() + context.time_remaining() + 0.1
        while time.monotonic() < end:
            pass
        return request

    call = (await open_method(open_channel, keep_busy))(HI, timeout=0.1)
    assert await expiry_of(call) == EXPIRED
    assert call.time_remaining() == 0


async def test_timeout_in_the_past(open_channel: Open) -> None:
    """A call without any time ends with DEADLINE_EXCEEDED and never reaches the handler."""
    reached: list[object] = []

    async def reach(request: StringValue, _context: Context) -> StringValue:
        reached.append(request.value)
        return request

    method = await open_method(open_channel, reach)
    assert await expiry_of(method(HI, timeout=-60)) == EXPIRED
    await method(StringValue(value="next"))
    assert reached == ["next"]


async def test_concurrent_calls(open_channel: Open) -> None:
    """Concurrent calls do not affect each other, whether they succeed or fail."""
    everybody = asyncio.Barrier(40)

    async def meet(request: StringValue, context: Context) -> StringValue:
        await everybody.wait()
        context.set_trailing_metadata((("number", request.value),))
        if int(request.value) % 2:
            await context.abort(StatusCode.ABORTED, request.value)
        return request

    method = await open_method(open_channel, meet)
    numbers = [str(number) for number in range(40)]
    seen = await asyncio.gather(*(outcome_of(method(StringValue(value=n))) for n in numbers))
    assert [outcome.trailing for outcome in seen] == [(("number", n),) for n in numbers]
    assert [outcome.value for outcome in seen[::2]] == numbers[::2]
    assert [outcome.details for outcome in seen[1::2]] == numbers[1::2]


async def test_abort_reaches_the_caller_at_once(open_channel: Open) -> None:
    """The caller gets the error of `abort` while the handler still runs."""
    go_on, over = asyncio.Event(), asyncio.Event()

    async def linger(_request: StringValue, context: Context) -> None:
        try:
            await context.abort(StatusCode.ABORTED, "stop")
        finally:
            await go_on.wait()
            over.set()

    seen = await outcome_of((await open_method(open_channel, linger))(HI))
    assert seen == Outcome(code=StatusCode.ABORTED, details="stop")
    assert not over.is_set()
    go_on.set()
    await over.wait()


async def test_nobody_awaits(open_channel: Open) -> None:
    """A failed call that is never awaited logs no "exception was never retrieved"."""
    complaints: list[object] = []
    over = asyncio.Event()
    asyncio.get_running_loop().set_exception_handler(lambda _, what: complaints.append(what))

    async def fail_unheard(_request: StringValue, context: Context) -> None:
        when_done(context, lambda _: over.set())
        raise ValueError

    method = await open_method(open_channel, fail_unheard)
    call: Call | None = method(HI)
    await over.wait()
    assert call is not None
    await call.code()
    call = None
    gc.collect()
    asyncio.get_running_loop().set_exception_handler(None)
    assert complaints == []


# Interceptors and registration


class Interceptor(grpc.aio.ServerInterceptor):
    """An interceptor that calls a plain function."""

    def __init__(self, intercept: Callable[[Any, Any], Awaitable[Any]]) -> None:
        self._intercept = intercept

    # Any: one interceptor serves methods of every type.
    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Call the function."""
        return await self._intercept(continuation, handler_call_details)


async def test_order_of_interceptors(open_channel: Open) -> None:
    """The first interceptor is the outermost, and each sees the method and its metadata."""
    seen: list[object] = []

    def tell(name: str) -> Interceptor:
        async def intercept(continuation: Any, details: Any) -> Any:
            assert isinstance(details, grpc.HandlerCallDetails)
            assert ("k", "1") in details.invocation_metadata
            seen.append((name, details.method))
            handler = await continuation(details)
            seen.append(name)
            return handler

        return Interceptor(intercept)

    method = await open_method(open_channel, echo, tell("outer"), tell("inner"))
    await method(HI, metadata=(("k", "1"),))
    assert seen == [("outer", PATH), ("inner", PATH), "inner", "outer"]


async def test_interceptor_that_wraps_a_handler(open_channel: Open) -> None:
    """The handler that an interceptor returns is called; it takes bytes or a message."""

    async def wrap(continuation: Any, details: Any) -> Any:
        handler = await continuation(details)

        async def shout(request: bytes | StringValue, context: Context) -> StringValue:
            parsed = StringValue.FromString(request) if isinstance(request, bytes) else request
            response: StringValue = await handler.unary_unary(parsed, context)
            return StringValue(value=response.value.upper())

        return grpc.unary_unary_rpc_method_handler(
            shout, response_serializer=handler.response_serializer
        )

    method = await open_method(open_channel, echo, Interceptor(wrap))
    assert await outcome_of(method(HI)) == Outcome(value="HI")


async def test_interceptor_that_fails(open_channel: Open) -> None:
    """An exception of an interceptor ends the call like one of the handler."""

    async def refuse(_continuation: Any, _details: Any) -> None:
        raise ValueError("no good")

    method = await open_method(open_channel, echo, Interceptor(refuse))
    assert await outcome_of(method(HI)) == OUTCOMES[fail]


NOT_FOUND = Outcome(code=StatusCode.UNIMPLEMENTED, details="Method not found!")


async def test_interceptor_that_hides_a_method(open_channel: Open) -> None:
    """If an interceptor returns no handler, the method is unknown."""

    async def hide(_continuation: Any, _details: Any) -> None:
        return None

    method = await open_method(open_channel, echo, Interceptor(hide))
    assert await outcome_of(method(HI)) == NOT_FOUND


@pytest.mark.parametrize("path", ["/test.Case/Other", "/other.Case/Call", "/test.Case", ""])
async def test_unknown_method(open_channel: Open, path: str) -> None:
    """A path without a handler is unknown, and interceptors see None."""
    handlers: list[object] = []

    async def note(continuation: Any, details: Any) -> Any:
        handlers.append(await continuation(details))
        return handlers[0]

    channel = await open_channel(serving(Call=echo), (Interceptor(note),))
    assert await outcome_of(method_of(channel, path)(HI)) == NOT_FOUND
    assert handlers == [None]


class TokenService(RaisingServicer):
    """A service as the generated code wants it."""

    async def ExchangeToken(  # noqa: N802 - named by the schema
        self, request: ExchangeTokenRequest, _context: object
    ) -> ExchangeTokenResponse:
        """Return the client id as the token."""
        return ExchangeTokenResponse(access_token=request.client_id)


@pytest.mark.parametrize("servicer", [TokenService(), cast("Any", TokenServiceServicer)()])
async def test_generated_code(open_channel: Open, servicer: TokenServiceServicer) -> None:
    """A generated stub reaches a generated servicer, also one without an implementation."""
    channel = await open_channel(partial(add_TokenServiceServicer_to_server, servicer))
    # Any: the generated stub is typed for synchronous channels, too.
    call: Any = TokenServiceStub(channel).ExchangeToken(ExchangeTokenRequest(client_id="me"))
    if isinstance(servicer, TokenService):
        assert (await call).access_token == "me"
    else:
        assert await call.code() is StatusCode.UNIMPLEMENTED
        assert "Method not implemented!" in await call.details()


async def test_registered_handlers_come_first(open_channel: Open) -> None:
    """A handler registered by name precedes a generic one of the same name."""

    def register(server: Any) -> None:
        serving(Call=fail, Other=fail)(server)
        handler = grpc.unary_unary_rpc_method_handler(
            echo, StringValue.FromString, StringValue.SerializeToString
        )
        server.add_registered_method_handlers("test.Case", {"Call": handler})

    channel = await open_channel(register)
    method = channel.unary_unary(
        PATH,
        StringValue.SerializeToString,
        StringValue.FromString,
        _registered_method=True,  # type: ignore[call-arg] # the argument is missing in the stubs
    )
    assert await method(HI) == HI
    assert await method_of(channel, "/test.Case/Other")(HI).code() is StatusCode.UNKNOWN


# The life of a channel


async def test_life_of_a_channel(open_channel: Open) -> None:
    """A channel is ready until it is closed; then it refuses every use."""
    channel = await open_channel(serving(Call=echo))
    method = method_of(channel)
    await channel.channel_ready()
    assert channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY
    await channel.wait_for_state_change(grpc.ChannelConnectivity.SHUTDOWN)
    with pytest.raises(ValueError, match="non-negative"):
        await channel.close(-1)
    async with channel as entered:
        assert entered is channel
        assert await method(HI) == HI
    assert channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN
    with pytest.raises(grpc.aio.UsageError, match="Channel is closed"):
        await method(HI)
    with pytest.raises(grpc.aio.UsageError, match="Channel is closed"):
        await channel.channel_ready()
    with pytest.raises(grpc.aio.UsageError, match="Channel is closed"):
        await channel.wait_for_state_change(grpc.ChannelConnectivity.READY)
    await channel.close()


@pytest.mark.parametrize("grace", [None, 0, 0.05])
async def test_close_cancels_what_runs(open_channel: Open, grace: float | None) -> None:
    """A call that outlives the grace period is cancelled on both sides."""
    waiting = Waiting(stop=stop_at_once)
    channel = await open_channel(serving(Call=waiting.serve))
    call = method_of(channel)(HI)
    await waiting.started.wait()
    await channel.close(grace)
    await waiting.over.wait()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await outcome_without_value(call) == LEFT


async def test_close_with_grace(open_channel: Open) -> None:
    """A call that ends within the grace period succeeds; no new one may start meanwhile."""
    started, go_on = asyncio.Event(), asyncio.Event()

    async def wait(request: StringValue, _context: Context) -> StringValue:
        started.set()
        await go_on.wait()
        return request

    channel = await open_channel(serving(Call=wait))
    method = method_of(channel)
    call = method(HI)
    await started.wait()
    closing = asyncio.create_task(channel.close(20))
    await asyncio.sleep(0)  # One turn of the loop, in which `close` begins.
    with pytest.raises(grpc.aio.UsageError, match="Channel is closed"):
        await method(HI)
    go_on.set()
    assert await call == HI
    await closing


# Only the in-process channel


@pytest.fixture
async def open_local() -> AsyncIterator[Open]:
    """Yield a function that opens in-process channels; they are closed after the test."""
    async with AsyncExitStack() as stack:
        yield partial(open_in_process, stack)


async def test_messages_pass_by_reference(open_local: Open) -> None:
    """Handler and caller get the same request and response objects."""
    method = await open_method(open_local, echo)
    assert await method(HI) is HI


async def test_handler_inherits_context_variables(open_local: Open) -> None:
    """The handler sees the caller's context variables at the time of the call."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    seen: list[str] = []

    async def look(request: StringValue, _context: Context) -> StringValue:
        seen.append(variable.get())
        variable.set("handler")
        return request

    method = await open_method(open_local, look)
    variable.set("caller")
    call = method(HI)
    variable.set("later")
    await call
    assert seen == ["caller"]
    assert variable.get() == "later"


async def test_peer(open_local: Open) -> None:
    """The peer is "in-process", and has no authenticated identity."""

    async def look(_request: StringValue, context: Context) -> StringValue:
        assert context.auth_context() == {}
        return StringValue(value=context.peer())

    assert (await (await open_method(open_local, look))(HI)).value == "in-process"


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
async def test_no_time_at_all(open_local: Open, seconds: float) -> None:
    """A call without any time has ended before it begins."""
    call = (await open_method(open_local, echo))(HI, timeout=seconds)
    assert call.done()
    assert await outcome_of(call) == EXPIRED


@pytest.mark.timing("the handler has its first turn before a timer of the same loop")
async def test_text_of_the_deadline(open_local: Open) -> None:
    """An expired deadline always has the usual text of grpc.aio."""
    waiting = Waiting(stop=stop_at_once)
    call = (await open_method(open_local, waiting.serve))(HI, timeout=1)
    assert await outcome_of(call) == EXPIRED_AFTER_METADATA


async def raise_cancelled(_request: StringValue, _context: Context) -> StringValue:
    """Raise CancelledError without a cancellation; over a socket the caller waits for ever."""
    raise asyncio.CancelledError


async def abort_with_ok(_request: StringValue, context: Context) -> StringValue:
    """Abort with OK; over a socket the caller waits for ever."""
    await context.abort(StatusCode.OK)


async def set_text_for_bytes(request: StringValue, context: Context) -> StringValue:
    """Send text under a key for bytes; over a socket the caller waits for ever."""
    context.set_trailing_metadata((("a-bin", "text"),))
    return request


async def read(_request: StringValue, context: Context) -> StringValue:
    """Read a message as a streaming handler does."""
    return await context.read()


async def write(request: StringValue, context: Context) -> StringValue:
    """Write a message as a streaming handler does; over a socket the caller waits for ever."""
    await context.write(request)
    return request


def return_at_once(request: StringValue, _context: object) -> StringValue:
    """Answer without `async`; over a socket this runs in a thread."""
    return request


FAULTS: dict[Behavior, tuple[StatusCode, str]] = {
    raise_cancelled: (StatusCode.UNKNOWN, "Unexpected <class 'asyncio.exceptions.CancelledError'>"),
    abort_with_ok: (StatusCode.UNKNOWN, "Expecting non-ok status code."),
    set_text_for_bytes: (StatusCode.INTERNAL, "Invalid metadata"),
    read: (StatusCode.UNKNOWN, "a unary handler has read its one message already"),
    write: (StatusCode.UNKNOWN, "a unary handler returns its one message"),
    return_at_once: (StatusCode.UNKNOWN, "the handler must be an async function"),
}


@pytest.mark.parametrize("behavior", FAULTS, ids=lambda behavior: behavior.__name__)
async def test_faults_of_handlers(open_local: Open, behavior: Behavior) -> None:
    """A fault of a handler that hangs or differs over a socket fails with its reason."""
    seen = await outcome_of((await open_method(open_local, behavior))(HI))
    code, details = FAULTS[behavior]
    assert seen.code is code
    assert details in seen.details


@pytest.mark.parametrize(
    ("behavior", "records"), [(echo, 0), (abort, 0), (abort_and_return, 0), (fail, 1)]
)
async def test_faults_are_logged(
    open_local: Open, caplog: pytest.LogCaptureFixture, behavior: Behavior, records: int
) -> None:
    """An exception outside of an error boundary is logged; a status of a handler is not."""
    await (await open_method(open_local, behavior))(HI).code()
    assert len(caplog.records) == records


@pytest.mark.parametrize("stop", [stop_at_once, stop_with_response, stop_with_abort])
async def test_a_caller_that_goes_away_is_no_fault(
    open_local: Open,
    caplog: pytest.LogCaptureFixture,
    stop: Callable[[Waiting, Context], Awaitable[StringValue]],
) -> None:
    """Nothing is logged when the caller leaves and the handler stops."""
    waiting = Waiting(stop=stop)
    method = await open_method(open_local, waiting.serve)
    assert await leave_by_cancel(method, waiting.started) == LEFT
    await waiting.over.wait()
    assert caplog.records == []


async def test_streams_of_requests_are_refused(open_local: Open) -> None:
    """Methods with a stream of requests cannot be called, and a method only as what it is."""

    async def stream(request: StringValue, _context: Context) -> AsyncIterator[StringValue]:
        yield request

    # Any: the stubs have only the streaming handlers of synchronous servers.
    handler: Any = grpc.unary_stream_rpc_method_handler(cast("Any", stream))
    generic = grpc.method_handlers_generic_handler("test.Case", {"Call": handler})
    channel = await open_local(lambda server: server.add_generic_rpc_handlers((generic,)))
    assert await outcome_of(method_of(channel)(HI)) == NOT_FOUND
    for open_stream in (channel.stream_unary, channel.stream_stream):
        with pytest.raises(NotImplementedError, match="a stream of requests cannot be sent"):
            open_stream(PATH)


async def test_callback_of_the_caller_that_fails(open_local: Open) -> None:
    """A callback that fails affects neither the call nor its handler."""

    def raise_error(_call: object) -> None:
        raise ValueError("no good")

    call = (await open_method(open_local, echo))(HI)
    call.add_done_callback(raise_error)
    assert await outcome_of(call) == Outcome(value="hi")


async def test_closing_wakes_who_watches(open_local: Open) -> None:
    """Closing the channel ends a wait for a state other than READY."""
    channel = await open_local(serving())
    ready = grpc.ChannelConnectivity.READY
    watching = asyncio.create_task(channel.wait_for_state_change(ready))
    await asyncio.sleep(0)  # One turn of the loop, in which the wait begins.
    assert not watching.done()
    await channel.close()
    await watching
    assert channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN


async def test_close_waits_for_handlers(open_local: Open) -> None:
    """When `close` returns no handler runs, even if its caller left earlier."""
    waiting = Waiting(stop=stop_slowly)
    channel = await open_local(serving(Call=waiting.serve))
    call = method_of(channel)(HI)
    await waiting.started.wait()
    call.cancel()
    await channel.close()
    assert waiting.over.is_set()


async def stop_slowly(_waiting: Waiting, _context: Context) -> StringValue:
    """Stop after some turns of the loop."""
    for _ in range(10):
        await asyncio.sleep(0)
    return GONE


@pytest.mark.parametrize("behavior", [echo, set_status, abort])
async def test_nothing_is_left_of_a_call(open_local: Open, behavior: Behavior) -> None:
    """A call that has ended leaves no task, and is freed without the garbage collector."""
    method = await open_method(open_local, behavior)
    tasks = asyncio.all_tasks()
    call = method(HI, timeout=600)
    await call.code()
    await asyncio.sleep(0)  # One turn of the loop, in which the task of the handler ends.
    assert asyncio.all_tasks() == tasks
    gone = weakref.ref(call)
    gc.disable()
    try:
        del call
        assert gone() is None
    finally:
        gc.enable()


async def test_an_abandoned_call_runs_to_its_end(open_local: Open) -> None:
    """A call that is no longer referenced is kept until its handler has finished."""
    started, go_on, over = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def wait(request: StringValue, _context: Context) -> StringValue:
        started.set()
        await go_on.wait()
        over.set()
        return request

    (await open_method(open_local, wait))(HI)
    await started.wait()
    gc.collect()
    go_on.set()
    await over.wait()
    assert over.is_set()
