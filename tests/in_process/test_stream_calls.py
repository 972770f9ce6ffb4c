"""Streams of responses through the in-process channel, and through a socket with the same cases.

A test with `open_channel` runs over both channels and must see no difference. The tests at the
end of the file cover behaviour that only the in-process channel has.
"""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc import status_pb2
from grpc import StatusCode
from grpc.aio import EOF, AioRpcError, Metadata, UsageError
from grpc_status import rpc_status

from sidecar.in_process import InProcessChannel
from tests.in_process.test_channel import (
    BAD,
    EXPIRED,
    FOREIGN,
    HI,
    LEFT,
    NOT_FOUND,
    PATH,
    T1,
    UNEXPECTED,
    Behavior,
    Interceptor,
    Open,
    Outcome,
    Register,
    open_in_process,
    open_socket,
    serving,
    when_done,
)

Context = grpc.aio.ServicerContext[StringValue, StringValue]
Call = grpc.aio.UnaryStreamCall[StringValue, StringValue]
Method = grpc.aio.UnaryStreamMultiCallable[StringValue, StringValue]
A, B = StringValue(value="a"), StringValue(value="b")


@pytest.fixture(params=[open_in_process, open_socket], ids=["in_process", "socket"])
async def open_channel(request: pytest.FixtureRequest) -> AsyncIterator[Open]:
    """Yield a function that opens channels of one kind; they are closed after the test."""
    async with AsyncExitStack() as stack:
        yield partial(request.param, stack)


@pytest.fixture
async def open_local() -> AsyncIterator[Open]:
    """Yield a function that opens in-process channels; they are closed after the test."""
    async with AsyncExitStack() as stack:
        yield partial(open_in_process, stack)


def streaming(behavior: Behavior) -> Register:
    """Return a function that registers `behavior` as the method of PATH, with a stream."""
    handler = grpc.unary_stream_rpc_method_handler(
        cast("Any", behavior),  # the stubs have only the handlers of synchronous servers
        request_deserializer=StringValue.FromString,
        response_serializer=StringValue.SerializeToString,
    )
    generic = grpc.method_handlers_generic_handler("test.Case", {"Call": handler})
    return lambda server: server.add_generic_rpc_handlers((generic,))


def method_of(channel: grpc.aio.Channel, path: str = PATH) -> Method:
    """Return the method at `path`, which has a stream of StringValue."""
    return channel.unary_stream(path, StringValue.SerializeToString, StringValue.FromString)


async def open_method(
    open_channel: Open, behavior: Behavior, *interceptors: grpc.aio.ServerInterceptor
) -> Method:
    """Return the one method of a new channel, which `behavior` serves."""
    return method_of(await open_channel(streaming(behavior), interceptors))


# The caller's view


async def read_all(call: Call) -> tuple[list[str], Exception | None]:
    """Return the messages that `read` returns, and the error after them, which stays the same."""
    values: list[str] = []
    try:
        while (message := await call.read()) is not EOF:
            values.append(cast("StringValue", message).value)
    except AioRpcError as error:
        with pytest.raises(AioRpcError):
            await call.read()
        return values, error
    assert await call.read() is EOF
    return values, None


async def iterate(call: Call) -> tuple[list[str], Exception | None]:
    """Return the messages of an iteration, and the error that ends it."""
    messages: list[StringValue] = []
    error: AioRpcError | None = None
    try:
        async for message in call:
            messages += [message]
    except AioRpcError as raised:
        error = raised
    return [message.value for message in messages], error


Read = Callable[[Call], Awaitable[tuple[list[str], Exception | None]]]


async def outcome_of(call: Call, error: Exception | None) -> Outcome:
    """Return how `call` has ended; its `error` must have the same values."""
    seen = Outcome(
        code=await call.code(),
        details=await call.details(),
        initial=tuple(await call.initial_metadata()),
        trailing=tuple(await call.trailing_metadata()),
    )
    assert call.done()
    assert call.cancelled() == (seen.code is StatusCode.CANCELLED)
    assert call.cancel() is False
    assert (error is None) == (seen.code is StatusCode.OK)
    if isinstance(error, AioRpcError):
        assert (error.code(), error.details()) == (seen.code, seen.details)
        assert error.initial_metadata() == Metadata(*seen.initial)
        assert error.trailing_metadata() == Metadata(*seen.trailing)
    return seen


async def two(_request: StringValue, _context: Context) -> AsyncIterator[StringValue]:
    """Yield two messages."""
    yield A
    yield B


async def write_two(_request: StringValue, context: Context) -> StringValue:
    """Write two messages; what a handler with a stream returns is not sent."""
    await context.write(A)
    await context.write(B)
    return HI


async def none(_request: StringValue, _context: Context) -> AsyncIterator[StringValue]:
    """Yield nothing."""
    for message in list[StringValue]():
        yield message


async def send_metadata(_request: StringValue, context: Context) -> AsyncIterator[StringValue]:
    """Send metadata before and after a message."""
    await context.send_initial_metadata((("a", "1"), ("b-bin", b"\x00\xff"), ("a", "2")))
    yield A
    context.set_trailing_metadata((("t", "1"),))


async def set_status(_request: StringValue, context: Context) -> AsyncIterator[StringValue]:
    """Set an error after a message."""
    yield A
    context.set_code(StatusCode.NOT_FOUND)
    context.set_details("none such")
    context.set_trailing_metadata((("t", "1"),))


async def set_ok_details(_request: StringValue, context: Context) -> AsyncIterator[StringValue]:
    """Set details with OK, which are not sent."""
    context.set_details("fine")
    yield A


async def fail(_request: StringValue, _context: Context) -> AsyncIterator[StringValue]:
    """Raise after a message."""
    yield A
    raise ValueError("no good")


async def fail_at_once(_request: StringValue, context: Context) -> None:
    """Raise before any message."""
    context.set_trailing_metadata((("t", "1"),))
    raise ValueError("no good")


async def abort(_request: StringValue, context: Context) -> AsyncIterator[StringValue]:
    """Abort after two messages."""
    yield A
    yield B
    await context.abort(StatusCode.ABORTED, "stop", (("t", "1"),))


async def abort_at_once(_request: StringValue, context: Context) -> AsyncIterator[StringValue]:
    """Abort before any message."""
    await cast("Any", context).abort(StatusCode.ABORTED, "stop", (("t", "1"),))
    yield A


async def abort_as_cancelled(_request: StringValue, context: Context) -> AsyncIterator[StringValue]:
    """Tell the caller that the server cancels the call."""
    yield A
    await context.abort(StatusCode.CANCELLED, "no more")


async def abort_and_yield(_request: StringValue, context: Context) -> AsyncIterator[StringValue]:
    """Yield after an abort."""
    with pytest.raises(grpc.aio.AbortError):
        await context.abort(StatusCode.ABORTED, "stop", (("t", "1"),))
    yield A


async def abort_and_write(_request: StringValue, context: Context) -> None:
    """Write after an abort, which raises its error again."""
    with pytest.raises(grpc.aio.AbortError):
        await context.abort(StatusCode.ABORTED, "stop", (("t", "1"),))
    await context.write(A)


async def raise_foreign_abort(_request: StringValue, context: Context) -> None:
    """Raise an AbortError without a call of `abort`."""
    await context.write(A)
    raise grpc.aio.AbortError("mine")


async def send_late(_request: StringValue, context: Context) -> AsyncIterator[StringValue]:
    """Send initial metadata after a message, which is refused."""
    yield A
    with pytest.raises(UsageError, match="already sent"):
        await context.send_initial_metadata((("a", "1"),))


async def set_bad_key(_request: StringValue, context: Context) -> AsyncIterator[StringValue]:
    """Set trailing metadata whose key has a capital letter."""
    yield A
    context.set_trailing_metadata((("Abc", "1"),))


async def read_more(_request: StringValue, context: Context) -> AsyncIterator[StringValue]:
    """Read from the caller, which has sent its one message."""
    yield StringValue(value=repr(await context.read()))


STOPPED = Outcome(code=StatusCode.ABORTED, details="stop", trailing=T1)
FAILED = Outcome(code=StatusCode.UNKNOWN, details=UNEXPECTED)
OUTCOMES: dict[Behavior, tuple[list[str], Outcome]] = {
    two: (["a", "b"], Outcome()),
    write_two: (["a", "b"], Outcome()),
    none: ([], Outcome()),
    send_metadata: (
        ["a"],
        Outcome(initial=(("a", "1"), ("a", "2"), ("b-bin", b"\x00\xff")), trailing=T1),
    ),
    set_status: (
        ["a"],
        Outcome(code=StatusCode.NOT_FOUND, details="none such", trailing=T1),
    ),
    set_ok_details: (["a"], Outcome()),
    fail: (["a"], FAILED),
    fail_at_once: ([], Outcome(code=StatusCode.UNKNOWN, details=UNEXPECTED, trailing=T1)),
    abort: (["a", "b"], STOPPED),
    abort_at_once: ([], STOPPED),
    abort_as_cancelled: (["a"], Outcome(code=StatusCode.CANCELLED, details="no more")),
    abort_and_yield: ([], STOPPED),
    abort_and_write: ([], STOPPED),
    raise_foreign_abort: (["a"], Outcome(code=StatusCode.UNKNOWN, details=FOREIGN)),
    send_late: (["a"], Outcome()),
    set_bad_key: (["a"], BAD),
    read_more: (["<grpc.aio.EOF>"], Outcome()),
}


@pytest.mark.parametrize("read", [read_all, iterate])
@pytest.mark.parametrize("behavior", OUTCOMES, ids=lambda behavior: behavior.__name__)
async def test_outcome(open_channel: Open, behavior: Behavior, read: Read) -> None:
    """The caller gets each message in order, and then the status and metadata of the handler."""
    call = (await open_method(open_channel, behavior))(HI)
    values, error = await read(call)
    assert (values, await outcome_of(call, error)) == OUTCOMES[behavior]


async def test_status_details(open_channel: Open) -> None:
    """The details of a rich status after a message can be read from the error."""
    status = status_pb2.Status(code=StatusCode.FAILED_PRECONDITION.value[0], message="not now")
    status.details.add().Pack(HI)

    async def abort_with_status(_request: StringValue, context: Context) -> None:
        await context.write(A)
        await context.abort_with_status(rpc_status.to_status(status))

    _, error = await read_all((await open_method(open_channel, abort_with_status))(HI))
    # Any: the stubs have only the errors of synchronous channels.
    assert rpc_status.from_call(cast("Any", error)) == status


async def test_message_that_is_none(open_channel: Open) -> None:
    """A handler that yields None fails with UNKNOWN."""

    async def forget(_request: StringValue, _context: Context) -> AsyncIterator[None]:
        yield None

    values, error = await read_all((await open_method(open_channel, forget))(HI))
    assert (values, cast("AioRpcError", error).code()) == ([], StatusCode.UNKNOWN)
    assert (cast("AioRpcError", error).details() or "").startswith(
        "Unexpected <class 'TypeError'>: "
    )


async def test_unknown_method(open_channel: Open) -> None:
    """A stream of a path without a handler is unknown."""
    call = method_of(await open_channel(streaming(two)), "/test.Case/Other")(HI)
    values, error = await read_all(call)
    assert (values, await outcome_of(call, error)) == ([], NOT_FOUND)


async def test_the_two_ways_to_read_do_not_mix(open_channel: Open) -> None:
    """A stream is either read or iterated; a second iterator is the first one."""
    method = await open_method(open_channel, two)
    call = method(HI)
    await call.read()
    with pytest.raises(UsageError, match="may not be mixed"):
        call.__aiter__()
    call = method(HI)
    messages = call.__aiter__()
    assert await anext(messages) == A
    with pytest.raises(UsageError, match="may not be mixed"):
        await call.read()
    assert call.__aiter__() is messages
    assert [message async for message in call] == [B]
    assert [message async for message in call] == []


async def test_initial_metadata_precedes_messages(open_channel: Open) -> None:
    """The initial metadata of a stream is there before its first message and its status."""
    go_on = asyncio.Event()

    async def wait(_request: StringValue, context: Context) -> AsyncIterator[StringValue]:
        await context.send_initial_metadata((("a", "1"),))
        await go_on.wait()
        yield A

    call = (await open_method(open_channel, wait))(HI)
    assert await call.initial_metadata() == Metadata(("a", "1"))
    assert not call.done()
    go_on.set()
    assert await read_all(call) == (["a"], None)


async def test_a_message_is_there_before_the_next(open_channel: Open) -> None:
    """A message and empty metadata reach the reader while the handler still waits."""
    go_on = asyncio.Event()

    async def wait(_request: StringValue, _context: Context) -> AsyncIterator[StringValue]:
        yield A
        await go_on.wait()
        yield B

    call = (await open_method(open_channel, wait))(HI)
    assert await call.read() == A
    assert await call.initial_metadata() == Metadata()
    assert not call.done()
    go_on.set()
    assert await call.read() == B
    assert await call.read() is EOF


async def test_the_status_waits_for_the_messages(open_channel: Open) -> None:
    """A status that the handler has sent is not told before the messages are read."""
    over = asyncio.Event()

    async def write(_request: StringValue, context: Context) -> None:
        when_done(context, lambda _: over.set())
        await context.write(A)
        await context.abort(StatusCode.ABORTED, "stop", (("t", "1"),))

    call = (await open_method(open_channel, write))(HI)
    await over.wait()
    assert not call.done()
    values, error = await read_all(call)
    assert (values, await outcome_of(call, error)) == (["a"], STOPPED)


async def test_wait_for_connection(open_channel: Open) -> None:
    """Waiting for the connection of a stream waits for its metadata, and not for its messages."""
    go_on = asyncio.Event()

    async def wait(_request: StringValue, context: Context) -> AsyncIterator[StringValue]:
        await context.send_initial_metadata(())
        await go_on.wait()
        yield A

    call = (await open_method(open_channel, wait))(HI)
    await call.wait_for_connection()
    assert not call.done()
    go_on.set()
    assert await read_all(call) == (["a"], None)
    await call.wait_for_connection()


async def test_interceptor_that_wraps_a_handler(open_channel: Open) -> None:
    """The handler that an interceptor returns is called; here it is an async function."""

    async def wrap(continuation: Any, details: Any) -> Any:
        handler = await continuation(details)

        async def shout(request: Any, context: Context) -> None:
            async for message in handler.unary_stream(request, context):
                await context.write(StringValue(value=message.value.upper()))

        return grpc.unary_stream_rpc_method_handler(
            cast("Any", shout),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    method = await open_method(open_channel, two, Interceptor(wrap))
    assert await iterate(method(HI)) == (["A", "B"], None)


async def test_after_the_end(open_channel: Open) -> None:
    """After the end of its call a context refuses to send or read anything."""
    kept: list[Context] = []
    over = asyncio.Event()

    async def keep(_request: StringValue, context: Context) -> AsyncIterator[StringValue]:
        kept.append(context)
        when_done(context, lambda _: over.set())
        yield A

    await read_all((await open_method(open_channel, keep))(HI))
    await over.wait()
    for late in (kept[0].write(A), kept[0].send_initial_metadata(()), kept[0].read()):
        with pytest.raises(UsageError, match="RPC already finished"):
            await late


# Back pressure

SIZE = 1024 * 1024
LARGE = StringValue(value="x" * SIZE)
# Megabytes that a socket and its buffers may hold, on either side.
WINDOWS = 64


@dataclass(slots=True)
class Endless:
    """A handler that writes large messages without end, and counts them."""

    written: int = 0
    over: asyncio.Event = field(default_factory=asyncio.Event)
    error: BaseException | None = None

    async def serve(self, _request: StringValue, context: Context) -> None:
        """Write until the call ends."""
        when_done(context, lambda _: self.over.set())
        try:
            while True:
                await context.write(LARGE)
                self.written += 1
        except BaseException as error:
            self.error = error
            raise


async def test_a_slow_reader_slows_the_handler(open_channel: Open) -> None:
    """A handler whose reader does not read is a bounded number of messages ahead."""
    endless = Endless()
    call = (await open_method(open_channel, endless.serve))(HI)
    for count in range(1, 5):
        assert await call.read() == LARGE
        for _ in range(4 * WINDOWS):
            await asyncio.sleep(0)  # A turn of the loop, in which the handler could write.
        assert endless.written <= count + WINDOWS
    call.cancel()
    await endless.over.wait()


async def leave_by_cancel(call: Call) -> None:
    """Cancel the call, which its reader then sees."""
    assert call.cancel() is True
    for _ in range(2):
        with pytest.raises(asyncio.CancelledError):
            await call.read()


async def leave_by_iteration(call: Call) -> None:
    """Cancel the call, and iterate."""
    assert call.cancel() is True
    with pytest.raises(asyncio.CancelledError):
        await anext(call.__aiter__())


async def leave_by_task(call: Call) -> None:
    """Cancel the task that reads."""

    async def read_on() -> None:
        while await call.read() is not EOF:
            pass

    task = asyncio.create_task(read_on())
    await asyncio.sleep(0)  # One turn of the loop, in which the task begins to read.
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("leave", [leave_by_cancel, leave_by_iteration, leave_by_task])
async def test_a_reader_that_leaves(
    open_channel: Open, leave: Callable[[Call], Awaitable[None]]
) -> None:
    """The handler of a stream is stopped in its write as soon as its reader leaves."""
    endless = Endless()
    call = (await open_method(open_channel, endless.serve))(HI)
    await call.initial_metadata()
    await leave(call)
    await endless.over.wait()
    assert isinstance(endless.error, asyncio.CancelledError | grpc.aio.InternalError)
    assert await outcome_of(call, AssertionError()) == LEFT


async def test_a_reader_that_leaves_a_silent_stream(open_channel: Open) -> None:
    """The handler of a stream that has nothing to say is cancelled with its reader."""
    started, over = asyncio.Event(), asyncio.Event()

    async def wait(_request: StringValue, context: Context) -> AsyncIterator[StringValue]:
        when_done(context, lambda _: over.set())
        yield A
        try:
            started.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            with pytest.raises(grpc.aio.InternalError):
                await context.write(B)
            raise

    call = (await open_method(open_channel, wait))(HI)
    assert await call.read() == A
    await started.wait()
    call.cancel()
    await over.wait()
    assert await outcome_of(call, AssertionError()) == LEFT


async def test_cancel_before_start(open_channel: Open) -> None:
    """A stream that is cancelled before it starts never reaches its handler."""
    call = (await open_method(open_channel, two))(HI)
    assert call.cancel() is True
    with pytest.raises(asyncio.CancelledError):
        await call.read()
    assert await outcome_of(call, AssertionError()) == LEFT


@pytest.mark.timing("where the deadline passes before the handler starts, a later one is tried")
async def test_deadline(open_channel: Open) -> None:
    """A stream ends with its deadline, also if its reader has messages to read."""
    for seconds in (0.05, 0.5, 5, 50):
        endless = Endless()
        call = (await open_method(open_channel, endless.serve))(HI, timeout=seconds)
        remaining = call.time_remaining()
        assert remaining is not None
        assert remaining <= seconds
        with suppress(AioRpcError):
            await call.read()
        await call.code()
        if not endless.written:
            continue
        await endless.over.wait()
        with pytest.raises(AioRpcError, match="Deadline Exceeded"):
            await call.read()
        assert await call.code() is StatusCode.DEADLINE_EXCEEDED
        return
    raise AssertionError("the handler never started")


async def test_close_cancels_streams(open_channel: Open) -> None:
    """A stream that outlives the grace period of its channel is cancelled on both sides."""
    endless = Endless()
    channel = await open_channel(streaming(endless.serve))
    call = method_of(channel)(HI)
    await call.read()
    await channel.close()
    await endless.over.wait()
    with pytest.raises(asyncio.CancelledError):
        await call.read()
    assert await call.code() is StatusCode.CANCELLED


async def test_concurrent_streams(open_channel: Open) -> None:
    """Concurrent streams do not affect each other."""
    everybody = asyncio.Barrier(20)

    async def meet(request: StringValue, _context: Context) -> AsyncIterator[StringValue]:
        yield request
        await everybody.wait()
        yield request

    method = await open_method(open_channel, meet)
    names = [str(number) for number in range(20)]
    seen = await asyncio.gather(*(iterate(method(StringValue(value=name))) for name in names))
    assert seen == [([name] * 2, None) for name in names]


# Only the in-process channel


async def test_one_message_is_held(open_local: Open) -> None:
    """The handler is at most one message ahead of its reader, and waits in the write after it."""
    endless = Endless()
    call = (await open_method(open_local, endless.serve))(HI)
    for count in range(1, 5):
        assert await call.read() is LARGE
        for _ in range(100):
            await asyncio.sleep(0)  # A turn of the loop, in which the handler could write.
        assert endless.written == count + 1
    call.cancel()
    await endless.over.wait()
    assert isinstance(endless.error, asyncio.CancelledError)


async def test_a_write_that_survives_its_cancellation(open_local: Open) -> None:
    """A write that is shielded from the cancellation of its handler fails when the caller left."""
    failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    async def shield(_request: StringValue, context: Context) -> None:
        await context.write(A)
        writing = asyncio.ensure_future(context.write(B))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            (error,) = await asyncio.gather(writing, return_exceptions=True)
            failed.set_result(cast("BaseException", error))
            raise

    call = (await open_method(open_local, shield))(HI)
    assert await call.initial_metadata() == Metadata()
    call.cancel()
    assert isinstance(await failed, grpc.aio.InternalError)


async def test_a_generator_is_closed_with_its_call(open_local: Open) -> None:
    """The clean-up of a generator has run when the handler of a cancelled call has ended."""
    order: list[str] = []
    over = asyncio.Event()

    async def clean_up(_request: StringValue, context: Context) -> AsyncIterator[StringValue]:
        def end(_context: object) -> None:
            order.append("ended")
            over.set()

        when_done(context, end)
        try:
            while True:
                yield A
        finally:
            order.append("cleaned up")

    call = (await open_method(open_local, clean_up))(HI)
    await call.read()
    call.cancel()
    await over.wait()
    assert order == ["cleaned up", "ended"]


async def test_a_handler_that_is_not_async(open_local: Open) -> None:
    """A handler that is a plain function fails with its reason; over a socket it has a thread."""

    def return_at_once(_request: StringValue, _context: object) -> list[StringValue]:
        return [A]

    call = (await open_method(open_local, return_at_once))(HI)
    _, error = await read_all(call)
    seen = await outcome_of(call, error)
    assert "the handler must be an async function or generator" in seen.details


async def test_a_unary_method_is_not_a_stream(open_local: Open) -> None:
    """A method with one response cannot be called as one with a stream."""

    async def echo(request: StringValue, _context: Context) -> StringValue:
        return request

    call = method_of(await open_local(serving(Call=echo)))(HI)
    _, error = await read_all(call)
    assert await outcome_of(call, error) == NOT_FOUND


async def test_no_time_at_all(open_local: Open) -> None:
    """A stream without any time has ended before it begins."""
    call = (await open_method(open_local, two))(HI, timeout=0)
    assert call.done()
    with pytest.raises(AioRpcError):
        await call.wait_for_connection()
    _, error = await read_all(call)
    assert await outcome_of(call, error) == EXPIRED


async def test_call_credentials_are_refused(open_local: Open) -> None:
    """Call credentials are refused for streams too."""
    credentials = grpc.access_token_call_credentials("token")
    with pytest.raises(UsageError, match="secure"):
        (await open_method(open_local, two))(HI, credentials=credentials)


async def test_an_abandoned_stream_waits_for_the_channel() -> None:
    """A stream that nobody reads and nobody cancels ends with its channel."""
    endless = Endless()
    channel = InProcessChannel()
    streaming(endless.serve)(channel)
    call: Call | None = method_of(channel)(HI)
    assert call is not None
    await call.read()
    call = None
    gc.collect()
    assert not endless.over.is_set()
    await channel.close()
    assert endless.over.is_set()
