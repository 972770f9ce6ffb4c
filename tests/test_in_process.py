"""The in-process channel beside a real server and a real channel: the same cases over both.

A test that takes `open_channel` runs over each of them and must see no difference.
The rest, at the end of the file, is what the in-process channel does besides.
"""

import asyncio
import contextvars
import gc
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
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

Context = grpc.aio.ServicerContext[StringValue, StringValue]
# Any: what grpc's own stubs call the messages of a handler.
Behavior = Callable[[Any, Any], Any]
Call = grpc.aio.UnaryUnaryCall[StringValue, StringValue]
Method = grpc.aio.UnaryUnaryMultiCallable[StringValue, StringValue]
# Any: a server and the in-process channel have the two registering methods and no common base.
Register = Callable[[Any], None]
Open = Callable[..., Awaitable[grpc.aio.Channel]]
Pairs = tuple[tuple[str, str | bytes], ...]

PATH = "/test.Case/Call"
HI = StringValue(value="hi")
GONE = StringValue(value="too late")
CANCELLED = (StatusCode.CANCELLED, "Locally cancelled by application!")
EXPIRED = (StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")


# The two channels


async def open_in_process(
    stack: AsyncExitStack,
    register: Register,
    interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
) -> grpc.aio.Channel:
    """Return a channel to what `register` adds, without a socket."""
    channel = InProcessChannel(interceptors)
    register(channel)
    return await stack.enter_async_context(channel)


async def open_socket(
    stack: AsyncExitStack,
    register: Register,
    interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
) -> grpc.aio.Channel:
    """Return a channel to what `register` adds, through a server of grpc.aio."""
    server = grpc.aio.server(interceptors=interceptors)
    register(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    stack.push_async_callback(server.stop, None)
    return await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))


@pytest.fixture(params=[open_in_process, open_socket], ids=["in_process", "socket"])
async def open_channel(request: pytest.FixtureRequest) -> AsyncIterator[Open]:
    """Open channels of one kind, which are closed after the test; no test may hang."""
    async with AsyncExitStack() as stack, asyncio.timeout(30):
        yield partial(request.param, stack)


def serving(**behaviors: Behavior) -> Register:
    """Return what registers each behavior as the method /test.Case/<its name>."""
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
    """Return the method at `path`, which takes and gives a StringValue."""
    return channel.unary_unary(path, StringValue.SerializeToString, StringValue.FromString)


async def open_method(
    open_channel: Open, behavior: Behavior, *interceptors: grpc.aio.ServerInterceptor
) -> Method:
    """Return the one method of a new channel, which `behavior` serves."""
    return method_of(await open_channel(serving(Call=behavior), interceptors))


# What a caller sees


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """All that a caller can see of a call that is over."""

    code: StatusCode = StatusCode.OK
    details: str = ""
    value: str | None = None
    initial: Pairs = ()
    trailing: Pairs = ()


async def outcome_of(call: Call) -> Outcome:
    """Wait for `call` and return its outcome; its error must tell the same as the call."""
    value = error = None
    try:
        value = (await call).value
    except AioRpcError as raised:
        error = raised
    seen = Outcome(
        code=await call.code(),
        details=await call.details(),
        value=value,
        initial=tuple(await call.initial_metadata()),
        trailing=tuple(await call.trailing_metadata()),
    )
    if error is not None:
        assert (error.code(), error.details()) == (seen.code, seen.details)
        assert error.initial_metadata() == Metadata(*seen.initial)
        assert error.trailing_metadata() == Metadata(*seen.trailing)
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
    """Return a response that the code set before forbids."""
    context.set_code(StatusCode.NOT_FOUND)
    context.set_details("none such")
    context.set_trailing_metadata((("t", "1"),))
    return request


async def set_status_only(_request: StringValue, context: Context) -> None:
    """Return no response, which is right beside a code."""
    context.set_code(StatusCode.NOT_FOUND)


async def set_number(request: StringValue, context: Context) -> StringValue:
    """Set the number of a code, as google.rpc.Code has it."""
    context.set_code(cast("StatusCode", 5))
    context.set_details("é\n☃ %41")
    return request


async def set_nonsense(request: StringValue, context: Context) -> StringValue:
    """Set a code that there is not."""
    context.set_code(cast("StatusCode", 99))
    return request


async def set_cancelled(request: StringValue, context: Context) -> StringValue:
    """Set the code of a cancelled call."""
    context.set_code(StatusCode.CANCELLED)
    assert context.cancelled()
    return request


async def set_ok_details(request: StringValue, context: Context) -> StringValue:
    """Set details beside OK, which are not sent."""
    context.set_code(StatusCode.OK)
    context.set_details("fine")
    return request


async def set_compression(request: StringValue, context: Context) -> StringValue:
    """Ask for compression, and for none."""
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
    """Abort with everything."""
    await context.send_initial_metadata((("a", "1"),))
    context.set_details("lost")
    context.set_trailing_metadata((("lost", "1"),))
    await context.abort(StatusCode.ABORTED, "stop", (("t", "1"), ("t", "2")))


async def abort_after_setting(_request: StringValue, context: Context) -> StringValue:
    """Abort with what was set before."""
    context.set_details("set before")
    context.set_trailing_metadata((("t", "1"),))
    await context.abort(StatusCode.ABORTED)


async def abort_number(_request: StringValue, context: Context) -> StringValue:
    """Abort with the number of a code."""
    await context.abort(cast("StatusCode", 5), "by number")


async def abort_nonsense(_request: StringValue, context: Context) -> StringValue:
    """Abort with a code that there is not."""
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
    try:
        await context.abort(StatusCode.ABORTED, "first")
    finally:
        raise ValueError("second")


async def raise_foreign_abort(_request: StringValue, _context: Context) -> StringValue:
    """Raise an AbortError that no `abort` made."""
    raise grpc.aio.AbortError("mine")


async def abort_with_list(_request: StringValue, context: Context) -> StringValue:
    """Abort with metadata that grpc.aio refuses there, and only there."""
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
    """Value, code, details and metadata of both kinds reach the caller as the handler gave them."""
    method = await open_method(open_channel, behavior)
    assert await outcome_of(method(HI)) == OUTCOMES[behavior]


async def test_status_details(open_channel: Open) -> None:
    """The details of a rich status are read from the error and from the call."""
    status = status_pb2.Status(code=StatusCode.FAILED_PRECONDITION.value[0], message="not now")
    status.details.add().Pack(HI)

    async def abort_with_status(_request: StringValue, context: Context) -> None:
        await context.abort_with_status(rpc_status.to_status(status))

    call = (await open_method(open_channel, abort_with_status))(HI)
    with pytest.raises(AioRpcError) as raised:
        await call
    assert rpc_status.from_call(raised.value) == status
    assert await rpc_status.aio.from_call(call) == status


async def test_missing_response(open_channel: Open) -> None:
    """A handler that returns nothing fails with UNKNOWN instead of giving None to the caller."""

    async def forget(_request: StringValue, _context: Context) -> None:
        pass

    seen = await outcome_of((await open_method(open_channel, forget))(HI))
    assert seen.code is StatusCode.UNKNOWN
    assert seen.details.startswith("Unexpected <class 'TypeError'>: ")


async def test_call_is_awaited_again(open_channel: Open) -> None:
    """A call gives the same response, and the same error, each time that it is awaited."""
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
    """A callback gets the call when it is over, and at once when it is over already."""
    told: list[object] = []
    call = (await open_method(open_channel, echo))(HI)
    call.add_done_callback(told.append)
    assert not told
    await call
    assert told == [call]
    call.add_done_callback(told.append)
    assert told == [call, call]


# What a handler sees


async def test_context_at_start(open_channel: Open) -> None:
    """A fresh context tells that nothing is set, sent, over or limited."""
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
    """A context tells what has been set in it, and after `abort` what that has set."""
    seen: list[object] = []

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

    await (await open_method(open_channel, look))(HI).code()
    assert seen == [
        (StatusCode.NOT_FOUND, "set", (("t", "1"),)),
        (StatusCode.ABORTED, "aborted", (("t", "2"),)),
    ]


async def test_context_after_the_end(open_channel: Open) -> None:
    """A context that outlives its call refuses to send anything more."""
    kept: list[Context] = []
    over = asyncio.Event()

    async def keep(request: StringValue, context: Context) -> StringValue:
        kept.append(context)
        context.add_done_callback(lambda _: over.set())
        return request

    await (await open_method(open_channel, keep))(HI)
    await over.wait()
    assert kept[0].done()
    with pytest.raises(grpc.aio.UsageError, match="RPC already finished"):
        await kept[0].send_initial_metadata(())
    with pytest.raises(grpc.aio.BaseError):
        await kept[0].abort(StatusCode.ABORTED)


async def test_done_callbacks_of_context(open_channel: Open) -> None:
    """Callbacks get the context when the call is over; one that fails does not fail the call."""
    told: list[object] = []
    over = asyncio.Event()

    def note(context: Context) -> None:
        told.append((context.done(), context.code()))
        over.set()

    def raise_error(_context: Context) -> None:
        raise ValueError("no good")

    async def add(request: StringValue, context: Context) -> StringValue:
        context.add_done_callback(note)
        context.add_done_callback(raise_error)
        return request

    assert await (await open_method(open_channel, add))(HI) == HI
    await over.wait()
    assert told == [(True, None)]


async def invocation_metadata(
    open_channel: Open, metadata: Metadata | Sequence[tuple[str, str | bytes]] | None
) -> list[tuple[str, str | bytes]]:
    """Return what a handler sees of `metadata`, less what the core of gRPC adds itself."""
    seen: list[tuple[str, str | bytes]] = []

    async def look(request: StringValue, context: Context) -> StringValue:
        # The elements are pairs and have names, and the stubs know neither.
        elements: Any = context.invocation_metadata()
        assert isinstance(elements, tuple)
        seen.extend((item.key, item.value) for item in elements if item.key != "user-agent")
        assert tuple(seen) == tuple(item for item in elements if item[0] != "user-agent")
        return request

    await (await open_method(open_channel, look))(HI, metadata=metadata)
    return seen


SENT: Pairs = (("k", "1"), ("k-bin", b"\xff\x00"), ("k", "2"), ("l", b"text"), ("m", ""))


@pytest.mark.parametrize("made", [tuple, list, lambda pairs: Metadata(*pairs)])
async def test_invocation_metadata(open_channel: Open, made: Callable[[Pairs], Any]) -> None:
    """Metadata of every type reaches the handler, with the values of one key together."""
    seen = await invocation_metadata(open_channel, made(SENT))
    assert seen == [("k", "1"), ("k", "2"), ("k-bin", b"\xff\x00"), ("l", "text"), ("m", "")]


@pytest.mark.parametrize("empty", [None, (), Metadata()])
async def test_no_invocation_metadata(open_channel: Open, empty: Pairs | None) -> None:
    """A handler sees no metadata where none is sent."""
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
    """Credentials that only a secure channel may send are refused, not dropped."""
    credentials = grpc.access_token_call_credentials("token")
    method = await open_method(open_channel, echo)
    with pytest.raises(grpc.aio.UsageError, match="secure"):
        await method(HI, credentials=credentials)


async def test_options_of_the_transport(open_channel: Open) -> None:
    """Options that concern the transport alone change nothing."""
    method = await open_method(open_channel, echo)
    assert await method(HI, wait_for_ready=True, compression=grpc.Compression.Gzip) == HI


# A caller that goes away


@dataclass(slots=True)
class Waiting:
    """A handler that waits for ever, and what it saw when it was made to stop."""

    started: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    seen: list[object] = field(default_factory=list)

    async def __call__(self, _request: StringValue, context: Context) -> StringValue:
        context.add_done_callback(self.end)
        await context.send_initial_metadata((("a", "1"),))
        context.set_trailing_metadata((("lost", "1"),))
        self.started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return await self.stop(context)
        raise AssertionError

    async def stop(self, context: Context) -> StringValue:
        """Note what a cancelled handler sees, and let the cancellation pass."""
        task = asyncio.current_task()
        assert task is not None
        self.seen.append((task.cancelling(), context.cancelled(), context.done(), context.code()))
        raise asyncio.CancelledError

    def end(self, context: Context) -> None:
        """Note what is left of the call."""
        self.seen.append((context.done(), context.code()))
        self.over.set()
