"""The guard around small handlers, over a real server and in process."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, NoReturn

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RequestInfo, RetryInfo
from grpc import StatusCode
from grpc.aio import AioRpcError
from karmo.problem.v1 import problem_details_pb2 as pb

from sidecar.interceptors.error_boundary import ErrorBoundary
from sidecar.interceptors.handlers import Continuation, Handler, rewrap
from sidecar.problems import CATALOGUE, FieldError, Problem, ProblemError, Reason, find_detail
from tests.in_process.test_channel import (
    Open,
    Register,
    method_of,
    open_in_process,
    open_socket,
    serving,
)
from tests.recorded import recorded
from tests.ways import PUBLIC_URL, Outcome, outcome_of

# Any: what grpc's own stubs call the messages of a handler.
Behavior = Callable[[Any, Any], Any]
Fail = Callable[[Any], Awaitable[NoReturn]]

CANARY = "canary-7f3a"
HI = StringValue(value="hi")
PATH = "/test.Case/Call"
GUARD = ErrorBoundary(PUBLIC_URL)


@pytest.fixture(params=[open_in_process, open_socket], ids=["in_process", "socket"])
async def open_channel(request: pytest.FixtureRequest) -> AsyncIterator[Open]:
    """Open guarded channels of one kind, which are closed after the test."""
    async with AsyncExitStack() as stack:
        yield partial(request.param, stack, interceptors=(GUARD,))


@pytest.fixture
async def open_streams() -> AsyncIterator[Open]:
    """Open guarded channels that can stream."""
    async with AsyncExitStack() as stack:
        yield partial(open_socket, stack, interceptors=(GUARD,))


async def failure_of(call: Awaitable[object]) -> Outcome:
    """Return how `call` failed, of which nothing shows the canary."""
    with pytest.raises(AioRpcError) as caught:
        await call
    error = caught.value
    assert CANARY not in f"{error.details()}{error.trailing_metadata()}{error!r}"
    return outcome_of(error)


async def failure_by(open_channel: Open, behavior: Behavior) -> Outcome:
    """Return how a call fails that `behavior` handles."""
    return await failure_of(method_of(await open_channel(serving(Call=behavior)))(HI))


def raising(error: BaseException) -> Behavior:
    """Return a handler that raises `error`."""

    async def fail(_request: object, _context: object) -> NoReturn:
        raise error

    return fail


# Any: without serializers the stub of grpc knows no type of message.
def raw(channel: grpc.aio.Channel, kind: str = "unary_unary") -> Any:
    """Return the method /test.Case/Call, which takes and gives bytes as they stand."""
    return getattr(channel, kind)(PATH)


async def echo(request: StringValue, _context: object) -> StringValue:
    """Return the request."""
    return request


def assert_problem(outcome: Outcome, reason: Reason) -> None:
    """Assert that `outcome` is the problem of that reason, with all its details."""
    entry = CATALOGUE[reason]
    assert outcome.code is not None
    assert outcome.problem is not None
    assert outcome.details is not None
    assert outcome.code.value[0] == entry.grpc_code
    told = {name: outcome.problem[name] for name in ("type", "title", "status", "karmoCode")}
    assert told == {
        "type": f"{PUBLIC_URL}/problems/{entry.slug}",
        "title": entry.title,
        "status": entry.http_status,
        "karmoCode": entry.karmo_code,
    }
    info, request = (
        find_detail(outcome.details, ErrorInfo),
        find_detail(outcome.details, RequestInfo),
    )
    assert info is not None
    assert request is not None
    assert (info.reason, info.domain) == (entry.name, "karmo.auth.v1")
    assert outcome.problem["instance"] == f"urn:uuid:{uuid.UUID(request.request_id)}"


# Problems


@pytest.mark.parametrize("reason", CATALOGUE, ids=[entry.name for entry in CATALOGUE.values()])
async def test_a_problem_leaves_as_its_status(open_channel: Open, reason: Reason) -> None:
    """Every problem of the catalogue reaches the caller by code and details."""
    problem = Problem(reason=reason, detail="What happened.")
    outcome = await failure_by(open_channel, raising(ProblemError(problem)))
    assert_problem(outcome, reason)
    assert outcome.details is not None
    assert outcome.details.message == "What happened."
    retry = find_detail(outcome.details, RetryInfo)
    assert (retry.retry_delay.seconds if retry else 0) == CATALOGUE[reason].retry_after_seconds


@pytest.mark.parametrize("reason", CATALOGUE, ids=[entry.name for entry in CATALOGUE.values()])
async def test_clients_that_retry_are_pushed_back(open_channel: Open, reason: Reason) -> None:
    """What tells RetryInfo tells the trailer of gRFC A6 too, in milliseconds; nothing else does."""
    method = method_of(
        await open_channel(serving(Call=raising(ProblemError(Problem(reason=reason)))))
    )
    with pytest.raises(AioRpcError) as caught:
        await method(HI)
    told = [value for key, value in caught.value.trailing_metadata() if "pushback" in key]
    seconds = CATALOGUE[reason].retry_after_seconds
    assert told == ([str(seconds * 1000)] if seconds else [])
    assert ("grpc-retry-pushback-ms" in dict(caught.value.trailing_metadata())) == bool(seconds)


async def test_the_fields_at_fault_are_told_twice(open_channel: Open) -> None:
    """The faults of fields are in the problem, and as google.rpc.BadRequest."""
    errors = (FieldError(detail="Too long.", pointer="/a/b"),)
    problem = Problem(reason=pb.PROBLEM_REASON_INVALID_REQUEST, errors=errors)
    outcome = await failure_by(open_channel, raising(ProblemError(problem)))
    assert outcome.problem is not None
    assert outcome.details is not None
    assert outcome.problem["karmoErrors"] == [{"detail": "Too long.", "pointer": "/a/b"}]
    told = find_detail(outcome.details, BadRequest)
    assert told is not None
    (violation,) = told.field_violations
    assert (violation.field, violation.description) == ("a.b", "Too long.")


async def test_a_problem_in_text_that_cannot_be_sent_is_still_a_problem(open_channel: Open) -> None:
    """What an upstream wrote in half a character (a lone surrogate) makes no fault of its own."""
    errors = (FieldError(detail="half \ud83d", pointer="/a"),)
    problem = Problem(
        reason=pb.PROBLEM_REASON_UNPROCESSABLE_CONTENT, detail="half \ud83d", errors=errors
    )
    outcome = await failure_by(open_channel, raising(ProblemError(problem)))
    assert_problem(outcome, pb.PROBLEM_REASON_UNPROCESSABLE_CONTENT)


# Faults of ours


class UnprintableError(Exception):
    """An error that fails again when it is shown."""

    def __str__(self) -> str:
        raise ValueError(CANARY)

    __repr__ = __str__


FAULTS: Mapping[str, BaseException] = {
    "ValueError": ValueError(CANARY),
    "KeyError": KeyError(CANARY),
    "TimeoutError": TimeoutError(CANARY),
    "RecursionError": RecursionError(CANARY),
    "StopAsyncIteration": StopAsyncIteration(CANARY),
    "group": ExceptionGroup(CANARY, [ValueError(CANARY)]),
    "RpcError": grpc.RpcError(CANARY),
    "unprintable": UnprintableError(CANARY),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_a_fault_of_ours_leaves_without_its_text(
    open_channel: Open, fault: BaseException
) -> None:
    """A bug is INTERNAL to the caller; the log tells its type and place, and its text nobody."""
    with recorded() as log:
        outcome = await failure_by(open_channel, raising(fault))
    assert_problem(outcome, pb.PROBLEM_REASON_INTERNAL)
    (entry,) = (entry for entry in log.entries if entry["message"] == "a handler failed")
    assert entry["error"] == type(fault).__qualname__
    assert any("fail" in frame for frame in entry["frames"])
    assert CANARY not in log.text


async def test_a_chain_of_faults_leaves_without_its_texts(open_channel: Open) -> None:
    """The cause of a bug is logged by its type as well, and by no more."""

    async def fail(_request: object, _context: object) -> None:
        try:
            dict[str, object]()[CANARY]
        except KeyError as error:
            raise ValueError(CANARY) from error

    with recorded() as log:
        outcome = await failure_by(open_channel, fail)
    assert_problem(outcome, pb.PROBLEM_REASON_INTERNAL)
    (entry,) = (entry for entry in log.entries if entry["message"] == "a handler failed")
    assert entry["cause"]["error"] == "KeyError"
    assert CANARY not in log.text


# Requests that cannot be read


BAD_BYTES = {
    "invalid UTF-8": b"\x0a\x01\xff",
    "truncated varint": b"\x0a\xff",
    "truncated string": b"\x0a\x05" + CANARY[:2].encode(),
    "overlong varint": b"\x08" + b"\xff" * 11,
    "group without end": b"\x0b",
    "field number 0": b"\x00\x00",
    "text": CANARY.encode(),
}


@pytest.mark.parametrize("data", BAD_BYTES.values(), ids=BAD_BYTES)
async def test_unreadable_bytes_are_an_invalid_request(open_channel: Open, data: bytes) -> None:
    """Bytes that are no message are the caller's fault, and never reach the handler."""
    channel = await open_channel(serving(Call=raising(AssertionError("handled"))))
    outcome = await failure_of(raw(channel)(data))
    assert_problem(outcome, pb.PROBLEM_REASON_INVALID_REQUEST)


async def test_a_method_that_nobody_implements(open_channel: Open) -> None:
    """A generated servicer without its method is no fault of ours: UNIMPLEMENTED, no record."""

    def unimplemented(_request: object, context: grpc.aio.ServicerContext[Any, Any]) -> NoReturn:
        context.set_code(StatusCode.UNIMPLEMENTED)
        context.set_details(CANARY)
        raise NotImplementedError(CANARY)

    with recorded() as log:
        outcome = await failure_by(open_channel, unimplemented)
    assert outcome.code is StatusCode.UNIMPLEMENTED
    assert outcome.problem is not None
    assert outcome.problem["karmoCode"] == "40400001"
    assert not [entry for entry in log.entries if entry["level"] == "error"]


async def test_what_is_not_implemented_within_is_a_fault(open_channel: Open) -> None:
    """The same exception of something that a handler calls is a fault of ours."""
    with recorded() as log:
        outcome = await failure_by(open_channel, raising(NotImplementedError(CANARY)))
    assert outcome.code is StatusCode.INTERNAL
    assert [entry["error"] for entry in log.entries if entry["level"] == "error"] == [
        "NotImplementedError"
    ]


async def test_unknown_fields_are_passed_over(open_channel: Open) -> None:
    """A message of a newer schema is read as far as it is known."""
    channel = await open_channel(serving(Call=echo))
    data = HI.SerializeToString() + b"\x78\x01"
    response = await raw(channel)(data)
    # In process a response comes by reference; over a socket it comes as bytes here.
    told = response if isinstance(response, bytes) else response.SerializeToString()
    assert StringValue.FromString(told).value == "hi"


@pytest.mark.parametrize("path", ["/test.Case/Other", "/test.Other/Call", f"/{CANARY}/x", "/"])
async def test_what_is_not_served_says_so(open_channel: Open, path: str) -> None:
    """An unknown method or service is UNIMPLEMENTED, with details, and is not named back."""
    outcome = await failure_of(method_of(await open_channel(serving(Call=echo)), path)(HI))
    assert outcome.code is StatusCode.UNIMPLEMENTED
    assert_problem(outcome, pb.PROBLEM_REASON_NOT_FOUND)


# Cancellation


async def await_a_cancelled_task(_request: object, _context: object) -> None:
    """Wait for what was cancelled from within."""
    task = asyncio.create_task(asyncio.Event().wait())
    task.cancel()
    await task


@pytest.mark.parametrize(
    "behavior",
    [raising(asyncio.CancelledError(CANARY)), await_a_cancelled_task],
    ids=["raised", "awaited"],
)
async def test_a_cancellation_from_within_ends_the_call(
    open_channel: Open, behavior: Behavior
) -> None:
    """A handler that is cancelled by no caller is a fault, told at once and not waited out."""
    outcome = await failure_by(open_channel, behavior)
    assert_problem(outcome, pb.PROBLEM_REASON_INTERNAL)


class Outside(grpc.aio.ServerInterceptor):
    """Keeps what the first call raises through the guard."""

    def __init__(self) -> None:
        self.error = asyncio.get_running_loop().create_future()

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        """Return the handler, watched."""

        def watch(behavior: Behavior, _handler: Handler) -> Behavior:
            async def watched(request: object, context: object) -> Any:
                try:
                    return await behavior(request, context)
                except BaseException as error:
                    self.error.set_result(error)
                    raise

            return watched

        handler = await continuation(handler_call_details)
        assert handler is not None
        return rewrap(handler, watch)


async def test_the_cancellation_of_the_caller_is_let_through(open_channel: Open) -> None:
    """The handler of a caller that left is cancelled as such; it is no fault of anybody."""
    running, outside = asyncio.Event(), Outside()

    async def wait(_request: object, _context: object) -> None:
        running.set()
        await asyncio.Event().wait()

    channel = await open_channel(serving(Call=wait), interceptors=(outside, GUARD))
    with recorded() as log:
        call = method_of(channel)(HI)
        await running.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert isinstance(await outside.error, asyncio.CancelledError)
    assert await call.code() is StatusCode.CANCELLED
    assert "failed" not in log.text


@pytest.mark.parametrize(
    "error",
    [
        ProblemError(Problem(reason=pb.PROBLEM_REASON_UPSTREAM_TIMEOUT)),
        ValueError(CANARY),
        asyncio.CancelledError(CANARY),
    ],
    ids=["problem", "fault", "cancellation"],
)
async def test_what_a_handler_makes_of_a_cancellation_harms_nobody(
    open_channel: Open, error: BaseException
) -> None:
    """An error of a handler whose caller has left is told to nobody, and the next call works."""
    running, ended = asyncio.Event(), asyncio.Event()

    async def fail_late(_request: object, _context: object) -> NoReturn:
        try:
            running.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise error from None
        finally:
            ended.set()
        raise AssertionError("it waits for ever")

    channel = await open_channel(serving(Call=fail_late, Echo=echo))
    with recorded() as log:
        call = method_of(channel)(HI)
        await running.wait()
        call.cancel()
        await ended.wait()
        assert (await method_of(channel, "/test.Case/Echo")(HI)).value == "hi"
    assert await call.code() is StatusCode.CANCELLED
    assert CANARY not in log.text


# What is the handler's own


async def abort(_request: object, context: Any) -> None:
    """Abort in words of one's own."""
    await context.abort(StatusCode.NOT_FOUND, "own words", (("own", "trailer"),))


async def abort_and_fail(_request: object, context: Any) -> None:
    """Abort, and lose the exception that this is done by."""
    try:
        await context.abort(StatusCode.NOT_FOUND, "own words", (("own", "trailer"),))
    except grpc.aio.AbortError:
        raise ValueError(CANARY) from None


async def set_code(_request: object, context: Any) -> StringValue:
    """Set a code and return."""
    context.set_code(StatusCode.NOT_FOUND)
    context.set_details("own words")
    context.set_trailing_metadata((("own", "trailer"),))
    return HI


@pytest.mark.parametrize("behavior", [abort, abort_and_fail, set_code])
async def test_what_a_handler_says_itself_stays(open_channel: Open, behavior: Behavior) -> None:
    """A status that a handler gives by grpc's own means reaches the caller unchanged.

    It is no fault that the log would tell of, unless the handler goes on to fail.
    """
    over = asyncio.Event()

    async def behave(request: Any, context: Any) -> Any:
        try:
            return await behavior(request, context)
        finally:
            over.set()

    channel = await open_channel(serving(Call=behave))
    with recorded() as log:
        with pytest.raises(AioRpcError) as caught:
            await method_of(channel)(HI)
        # The caller may hear of an abort before the handler goes on.
        await over.wait()
    error = caught.value
    assert ("a handler failed" in log.text) == (behavior is abort_and_fail)
    assert CANARY not in log.text
    assert (error.code(), error.details()) == (StatusCode.NOT_FOUND, "own words")
    assert [tuple(pair) for pair in error.trailing_metadata()] == [("own", "trailer")]


# Streams


async def fail_by_problem(_context: Any) -> NoReturn:
    """Raise a problem."""
    raise ProblemError(Problem(reason=pb.PROBLEM_REASON_CONFLICT))


async def fail_by_fault(_context: Any) -> NoReturn:
    """Raise an error of ours."""
    raise ValueError(CANARY)


async def fail_by_cancellation(_context: Any) -> NoReturn:
    """Be cancelled from within."""
    raise asyncio.CancelledError(CANARY)


FAILURES: Mapping[str, tuple[Fail, Reason]] = {
    "problem": (fail_by_problem, pb.PROBLEM_REASON_CONFLICT),
    "fault": (fail_by_fault, pb.PROBLEM_REASON_INTERNAL),
    "cancellation": (fail_by_cancellation, pb.PROBLEM_REASON_INTERNAL),
}


def by_generator(fail: Fail) -> Handler:
    """Return a handler that yields its responses."""

    async def answer(request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        yield request
        if request.value != "hi":
            await fail(context)

    return grpc.unary_stream_rpc_method_handler(answer, *MESSAGES)


def by_write(fail: Fail) -> Handler:
    """Return a handler that writes its responses to the context."""

    async def answer(request: StringValue, context: Any) -> None:
        await context.write(request)
        if request.value != "hi":
            await fail(context)

    return grpc.unary_stream_rpc_method_handler(answer, *MESSAGES)


def by_collecting(fail: Fail) -> Handler:
    """Return a handler that reads all requests, then answers the last."""

    async def answer(requests: AsyncIterator[StringValue], context: Any) -> StringValue:
        *_, last = [request async for request in requests]
        if last.value != "hi":
            await fail(context)
        return last

    return grpc.stream_unary_rpc_method_handler(answer, *MESSAGES)


def by_generator_of_each(fail: Fail) -> Handler:
    """Return a handler that yields a response to each request."""

    async def answer(requests: AsyncIterator[StringValue], context: Any) -> Any:
        async for request in requests:
            yield request
            if request.value != "hi":
                await fail(context)

    return grpc.stream_stream_rpc_method_handler(answer, *MESSAGES)


def by_write_of_each(fail: Fail) -> Handler:
    """Return a handler that reads each request from the context, and writes a response to it."""

    async def answer(_requests: AsyncIterator[StringValue], context: Any) -> None:
        while (request := await context.read()) is not grpc.aio.EOF:
            await context.write(request)
            if request.value != "hi":
                await fail(context)

    return grpc.stream_stream_rpc_method_handler(answer, *MESSAGES)


MESSAGES = (StringValue.FromString, StringValue.SerializeToString)
STREAMS = (by_generator, by_write, by_collecting, by_generator_of_each, by_write_of_each)


def register(handler: Handler) -> Register:
    """Return what registers `handler` as /test.Case/Call."""
    generic = grpc.method_handlers_generic_handler("test.Case", {"Call": handler})
    return lambda server: server.add_generic_rpc_handlers((generic,))


def kind_of(handler: Handler) -> str:
    """Return the name of what calls such a method."""
    words = {False: "unary", True: "stream"}
    return f"{words[handler.request_streaming]}_{words[handler.response_streaming]}"


async def called(channel: grpc.aio.Channel, handler: Handler, *values: str) -> list[str]:
    """Call `handler`, send `values`, and return the values that come back."""
    method = getattr(channel, kind_of(handler))(PATH, MESSAGES[1], MESSAGES[0])
    requests = [StringValue(value=value) for value in values]
    call = method(iter(requests) if handler.request_streaming else requests[0])
    if handler.response_streaming:
        return [response.value async for response in call]
    return [(await call).value]


@pytest.mark.parametrize("make", STREAMS)
async def test_streams_work_behind_the_guard(
    open_streams: Open, make: Callable[[Fail], Handler]
) -> None:
    """A stream that does not fail is what it is without the guard."""
    handler = make(fail_by_fault)
    channel = await open_streams(register(handler))
    assert await called(channel, handler, "hi") == ["hi"]


@pytest.mark.parametrize(("fail", "reason"), FAILURES.values(), ids=FAILURES)
@pytest.mark.parametrize("make", STREAMS)
async def test_streams_fail_as_other_calls_do(
    open_streams: Open,
    make: Callable[[Fail], Handler],
    fail: Fail,
    reason: Reason,
) -> None:
    """Whatever a handler streams, its failure leaves as a problem without text of ours."""
    handler = make(fail)
    channel = await open_streams(register(handler))
    assert_problem(await failure_of(called(channel, handler, "no")), reason)


@pytest.mark.parametrize("make", [by_generator, by_write, by_generator_of_each, by_write_of_each])
async def test_what_was_streamed_before_a_failure_arrives(
    open_streams: Open, make: Callable[[Fail], Handler]
) -> None:
    """The responses before a failure are not lost."""
    handler = make(fail_by_problem)
    channel = await open_streams(register(handler))
    method = getattr(channel, kind_of(handler))(PATH, MESSAGES[1], MESSAGES[0])
    no = StringValue(value="no")
    call = method(iter([no]) if handler.request_streaming else no)
    assert (await call.read()).value == "no"
    assert_problem(await failure_of(call.read()), pb.PROBLEM_REASON_CONFLICT)


@pytest.mark.parametrize("make", STREAMS)
async def test_unreadable_bytes_in_a_stream_are_an_invalid_request(
    open_streams: Open, make: Callable[[Fail], Handler]
) -> None:
    """Bytes that are no message are the caller's fault in a stream as well."""
    handler = make(fail_by_fault)
    channel = await open_streams(register(handler))
    name = kind_of(handler)
    bad = BAD_BYTES["truncated string"]
    call = raw(channel, name)(iter([bad]) if handler.request_streaming else bad)
    outcome = await failure_of(call.read() if handler.response_streaming else call)
    assert_problem(outcome, pb.PROBLEM_REASON_INVALID_REQUEST)


async def test_a_caller_that_leaves_a_stream_ends_its_handler(open_streams: Open) -> None:
    """The handler of a stream is cancelled with its caller, in the middle of a response."""
    ended = asyncio.Event()

    async def answer(request: StringValue, _context: object) -> AsyncIterator[StringValue]:
        try:
            yield request
            await asyncio.Event().wait()
        finally:
            ended.set()

    handler = grpc.unary_stream_rpc_method_handler(answer, *MESSAGES)
    channel = await open_streams(register(handler))
    call = channel.unary_stream(PATH, MESSAGES[1], MESSAGES[0])(HI)
    with recorded() as log:
        await call.read()
        call.cancel()
        await ended.wait()
    assert "failed" not in log.text
