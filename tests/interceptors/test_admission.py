"""The limit of calls at once: around small handlers over both channels, and on a whole sidecar."""

import asyncio
import gc
import uuid
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, NoReturn

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc.error_details_pb2 import RetryInfo
from grpc import StatusCode
from grpc.aio import AioRpcError
from grpc_health.v1 import health, health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from karmo.auth.v1.token_service_pb2 import ExchangeTokenRequest
from karmo.auth.v1.token_service_pb2_grpc import TokenServiceStub
from karmo.problem.v1 import problem_details_pb2 as pb

from sidecar.api import SERVICES
from sidecar.interceptors.access_log import AccessLog
from sidecar.interceptors.admission import Admission
from sidecar.interceptors.error_boundary import ErrorBoundary
from sidecar.problems import CATALOGUE, Problem, ProblemError, Reason, find_detail
from tests.faults.conditions import eventually
from tests.in_process.test_channel import Open, method_of, open_in_process, open_socket, serving
from tests.interceptors.test_error_boundary import MESSAGES, PATH, kind_of, raw, register
from tests.recorded import recorded
from tests.upstream import Hold
from tests.ways import PUBLIC_URL, Deployment, Outcome, Sent, Way, open_deployment, outcome_of

# Any: what grpc's own stubs call the messages of a handler.
Behavior = Callable[[Any, Any], Any]

HI = StringValue(value="hi")
GUARD = 20  # seconds; nothing here takes nearly as long
MOST = 2
STREAMS = 3
OVERLOADED = pb.PROBLEM_REASON_OVERLOADED
STOPPING = pb.PROBLEM_REASON_SERVICE_STOPPING
FIELDS = {"grant_type": "client_credentials", "client_id": "partner", "client_secret": "secret"}


@pytest.fixture
def admission() -> Admission:
    """Give an admission of two calls and three streams."""
    return Admission(MOST, streams=STREAMS)


@pytest.fixture(params=[open_in_process, open_socket], ids=["in_process", "socket"])
async def open_channel(request: pytest.FixtureRequest, admission: Admission) -> AsyncIterator[Open]:
    """Open channels of one kind behind the guard and the admission."""
    async with AsyncExitStack() as stack:
        yield partial(request.param, stack, interceptors=(ErrorBoundary(PUBLIC_URL), admission))


class Waiting:
    """A handler that waits until it is released, and tells how often it was called and left."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.called = asyncio.Semaphore(0)
        self.left = asyncio.Semaphore(0)

    async def handle(self, request: StringValue, _context: object) -> StringValue:
        """Return the request, in the end."""
        self.called.release()
        try:
            await self.release.wait()
        finally:
            self.left.release()
        return request


async def times(semaphore: asyncio.Semaphore, count: int) -> None:
    """Wait until `semaphore` was released so many times."""
    async with asyncio.timeout(GUARD):
        for _ in range(count):
            await semaphore.acquire()


async def fill(method: Any, waiting: Waiting) -> list[Any]:
    """Return as many calls of `method` as there are places, which `waiting` handles."""
    calls = [method(HI) for _ in range(MOST)]
    await times(waiting.called, MOST)
    return calls


async def failure_of(call: Awaitable[object]) -> Outcome:
    """Return how `call` failed."""
    with pytest.raises(AioRpcError) as caught:
        await call
    return outcome_of(caught.value)


def assert_refused(outcome: Outcome, reason: Reason = OVERLOADED) -> None:
    """Assert that `outcome` is the problem `reason`, and that a retry makes sense."""
    entry = CATALOGUE[reason]
    assert outcome.code is StatusCode.UNAVAILABLE
    assert outcome.problem is not None
    assert outcome.problem["karmoCode"] == entry.karmo_code
    assert outcome.details is not None
    retry = find_detail(outcome.details, RetryInfo)
    assert retry is not None
    assert retry.retry_delay.seconds == entry.retry_after_seconds > 0


# The limit


async def test_one_call_too_many_is_refused_at_once(
    open_channel: Open, admission: Admission
) -> None:
    """With every place taken a call fails before its handler; each that ends makes room for one."""
    waiting = Waiting()
    method = method_of(await open_channel(serving(Call=waiting.handle)))
    calls = await fill(method, waiting)
    assert admission.in_flight == MOST
    outcome = await failure_of(method(HI))
    assert_refused(outcome)
    assert outcome.problem is not None
    assert outcome.problem["detail"] == (
        "The service has 2 calls in flight, its limit. Try again in a moment."
    )
    assert waiting.called.locked()  # no third call of the handler
    waiting.release.set()
    assert [(await call).value for call in calls] == ["hi"] * MOST
    assert (await method(HI)).value == "hi"
    assert admission.in_flight == 0


async def test_both_protocols_share_the_limit(admission: Admission) -> None:
    """A call over a socket and one in process take all of two places, from either protocol."""
    waiting = Waiting()
    interceptors = (ErrorBoundary(PUBLIC_URL), admission)
    async with AsyncExitStack() as stack:
        methods = [
            method_of(await opening(stack, serving(Call=waiting.handle), interceptors))
            for opening in (open_in_process, open_socket)
        ]
        calls = [method(HI) for method in methods]
        await times(waiting.called, MOST)
        for method in methods:
            assert_refused(await failure_of(method(HI)))
        waiting.release.set()
        assert {(await call).value for call in calls} == {"hi"}


async def fail_by_problem(_request: object, _context: object) -> NoReturn:
    """Refuse."""
    raise ProblemError(Problem(reason=pb.PROBLEM_REASON_CONFLICT))


async def fail_by_fault(_request: object, _context: object) -> NoReturn:
    """Have a fault."""
    raise ValueError


async def abort(_request: object, context: Any) -> None:
    """Abort in words of one's own."""
    await context.abort(StatusCode.NOT_FOUND, "own words")


async def be_cancelled(_request: object, _context: object) -> NoReturn:
    """Wait for what was cancelled from within."""
    raise asyncio.CancelledError


@pytest.mark.parametrize("behavior", [fail_by_problem, fail_by_fault, abort, be_cancelled])
async def test_a_call_that_fails_gives_its_place_back(
    open_channel: Open, admission: Admission, behavior: Behavior
) -> None:
    """However often handlers fail, no place is lost by it."""
    method = method_of(await open_channel(serving(Call=behavior)))
    codes = set()
    for _ in range(MOST + 1):
        codes.add((await failure_of(method(HI))).code)
        await eventually(lambda: admission.in_flight == 0)
    assert StatusCode.UNAVAILABLE not in codes


async def test_a_call_that_cannot_be_read_gives_its_place_back(
    open_channel: Open, admission: Admission
) -> None:
    """Bytes that are no message are refused as such, and take no place for longer."""
    channel = await open_channel(serving(Call=fail_by_fault))
    for _ in range(MOST + 1):
        assert (await failure_of(raw(channel)(b"\x0a\x01\xff"))).code is StatusCode.INVALID_ARGUMENT
    assert admission.in_flight == 0


@pytest.mark.timing("the deadline passes whether the call is slow or not")
async def test_a_caller_that_leaves_gives_its_place_back(
    open_channel: Open, admission: Admission
) -> None:
    """A call that its caller cancels, or whose deadline passes, is CANCELLED and no refusal."""
    waiting = Waiting()
    method = method_of(await open_channel(serving(Call=waiting.handle)))
    for _ in range(MOST + 1):
        call = method(HI)
        await times(waiting.called, 1)
        call.cancel()
        await times(waiting.left, 1)
        assert await call.code() is StatusCode.CANCELLED
    late = method(HI, timeout=0.1)
    assert await late.code() is StatusCode.DEADLINE_EXCEEDED
    await eventually(lambda: admission.in_flight == 0)
    waiting.release.set()
    assert (await method(HI)).value == "hi"


# What is not counted


async def test_the_health_is_told_whatever_happens(
    open_channel: Open, admission: Admission
) -> None:
    """With every place taken a check and a watch of the health are answered."""
    waiting = Waiting()

    def register_both(server: grpc.aio.Server) -> None:
        serving(Call=waiting.handle)(server)
        health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)

    channel = await open_channel(register_both)
    calls = await fill(method_of(channel), waiting)
    stub: Any = health_pb2_grpc.HealthStub(channel)  # it names the types of none of its methods
    watches = [stub.Watch(HealthCheckRequest()) for _ in range(MOST + 1)]
    for watch in watches:
        assert (await watch.read()).status == HealthCheckResponse.SERVING
    assert (await stub.Check(HealthCheckRequest())).status == HealthCheckResponse.SERVING
    assert_refused(await failure_of(method_of(channel)(HI)))
    assert admission.in_flight == MOST
    waiting.release.set()
    for call in calls:
        await call


async def test_what_is_not_served_takes_no_place(open_channel: Open, admission: Admission) -> None:
    """A method that there is not is refused as such, though no place is free."""
    waiting = Waiting()
    channel = await open_channel(serving(Call=waiting.handle))
    calls = await fill(method_of(channel), waiting)
    outcome = await failure_of(method_of(channel, "/test.Case/Other")(HI))
    assert outcome.code is StatusCode.UNIMPLEMENTED
    assert admission.in_flight == MOST
    waiting.release.set()
    for call in calls:
        await call


# The end


async def test_calls_that_run_are_ended_with_a_reason(
    open_channel: Open, admission: Admission
) -> None:
    """Who is ended by the drain hears that the service stops, and so does whoever calls then."""
    waiting = Waiting()
    method = method_of(await open_channel(serving(Call=waiting.handle)))
    calls = await fill(method, waiting)
    admission.end_streams()  # no call is one
    admission.end_calls()
    admission.end_calls()  # a second time ends nothing twice
    for call in calls:
        assert_refused(await failure_of(call), STOPPING)
    await times(waiting.left, MOST)
    assert admission.in_flight == 0
    assert_refused(await failure_of(method(HI)), STOPPING)
    assert waiting.called.locked()  # it has not reached the handler


async def test_a_call_beyond_the_limit_at_the_end_hears_of_the_end(
    open_channel: Open, admission: Admission
) -> None:
    """While ended calls still clean up, a new one is refused for the end, not for the limit."""
    cleaning, go = asyncio.Semaphore(0), asyncio.Event()

    async def clean_up(_request: object, _context: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaning.release()
            await go.wait()

    method = method_of(await open_channel(serving(Call=clean_up)))
    calls = [method(HI) for _ in range(MOST)]
    await eventually(admission.is_full)
    admission.end_calls()
    await times(cleaning, MOST)
    assert_refused(await failure_of(method(HI)), STOPPING)
    assert admission.counts.refused == 0
    go.set()
    for call in calls:
        assert_refused(await failure_of(call), STOPPING)


async def test_a_caller_that_leaves_is_not_taken_for_one_that_is_ended(
    open_channel: Open, admission: Admission
) -> None:
    """A call that its caller cancels just before the end is cancelled; the other one is ended."""
    waiting = Waiting()
    method = method_of(await open_channel(serving(Call=waiting.handle)))
    left, ended = method(HI), method(HI)
    await times(waiting.called, 2)
    left.cancel()
    await times(waiting.left, 1)
    admission.end_calls()
    assert_refused(await failure_of(ended), STOPPING)
    assert await left.code() is StatusCode.CANCELLED
    await eventually(lambda: admission.in_flight == 0)


async def test_a_call_that_is_ended_may_finish_what_it_holds(
    open_channel: Open, admission: Admission
) -> None:
    """A handler can await in its clean-up; to be ended again while it does harms nothing."""
    running, cleaning, go = asyncio.Event(), asyncio.Event(), asyncio.Event()
    cleaned = asyncio.Event()

    async def clean_up(_request: object, _context: object) -> None:
        try:
            running.set()
            await asyncio.Event().wait()
        finally:
            cleaning.set()
            await go.wait()
            cleaned.set()

    call = method_of(await open_channel(serving(Call=clean_up)))(HI)
    await running.wait()
    admission.end_calls()
    await cleaning.wait()
    admission.end_calls()
    go.set()
    assert_refused(await failure_of(call), STOPPING)
    assert cleaned.is_set()


async def test_a_call_that_is_ended_has_the_line_of_a_refusal(admission: Admission) -> None:
    """The log tells the code that the caller of an ended call saw, not that it was cancelled."""
    waiting = Waiting()
    interceptors = (AccessLog(SERVICES), ErrorBoundary(PUBLIC_URL), admission)
    async with AsyncExitStack() as stack:
        method = method_of(await open_socket(stack, serving(Call=waiting.handle), interceptors))
        identity = str(uuid.uuid4())
        with recorded() as log:
            call = method(HI, metadata=(("x-request-id", identity),))
            await times(waiting.called, 1)
            admission.end_calls()
            assert_refused(await failure_of(call), STOPPING)
            line = await log.access_line(identity)
    assert (line["code"], line["reason"]) == ("UNAVAILABLE", "SERVICE_STOPPING")


async def test_nothing_is_kept_of_a_call_that_is_ended(admission: Admission) -> None:
    """The task of an ended call, and whatever it refers to, is free when the call is over.

    In process, because a server of grpc.aio may hold the last task itself.
    """
    waiting = Waiting()
    tasks: list[weakref.ref[asyncio.Task[Any]]] = []

    async def handle(request: StringValue, context: object) -> StringValue:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(weakref.ref(task))
        return await waiting.handle(request, context)

    def is_free() -> bool:
        gc.collect()
        return tasks[0]() is None

    async with AsyncExitStack() as stack:
        interceptors = (ErrorBoundary(PUBLIC_URL), admission)
        channel = await open_in_process(stack, serving(Call=handle), interceptors)
        call = method_of(channel)(HI)
        await times(waiting.called, 1)
        admission.end_calls()
        assert_refused(await failure_of(call), STOPPING)
        del call
        await eventually(is_free)


async def open_stream_method(open_channel: Open, waiting: Waiting) -> Any:
    """Return a method whose stream gives its request back, and waits."""

    async def answer(request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        yield request
        await waiting.handle(request, context)

    handler = grpc.unary_stream_rpc_method_handler(answer, *MESSAGES)
    channel = await open_channel(register(handler))
    return channel.unary_stream(PATH, MESSAGES[1], MESSAGES[0])


async def test_streams_that_are_open_are_ended_with_a_reason(
    open_channel: Open, admission: Admission
) -> None:
    """Streams are not counted, and not ended with the calls; ended, they tell why."""
    waiting = Waiting()
    method = await open_stream_method(open_channel, waiting)
    streams = [method(HI) for _ in range(MOST + 1)]
    for stream in streams:
        assert (await stream.read()).value == "hi"
    await times(waiting.called, MOST + 1)
    assert admission.in_flight == 0
    admission.end_calls()
    admission.end_streams()
    for stream in streams:
        assert_refused(await failure_of(stream.read()), STOPPING)
    await times(waiting.left, MOST + 1)
    assert_refused(await failure_of(method(HI).read()), STOPPING)  # a later one


async def test_a_stream_whose_caller_leaves_is_cancelled(
    open_channel: Open, admission: Admission
) -> None:
    """The handler of a stream is cancelled with its caller, and then nothing is left to end."""
    waiting = Waiting()
    method = await open_stream_method(open_channel, waiting)
    stream = method(HI)
    await times(waiting.called, 1)
    stream.cancel()
    await times(waiting.left, 1)
    await eventually(lambda: not admission._connections)  # of whom none is remembered
    admission.end_streams()
    assert await stream.code() is StatusCode.CANCELLED


async def test_one_stream_too_many_is_refused_at_once(
    open_channel: Open, admission: Admission
) -> None:
    """Streams have places of their own: with all taken one more fails, and calls are served."""
    waiting = Waiting()
    method = await open_stream_method(open_channel, waiting)
    streams = [method(HI) for _ in range(STREAMS)]
    for stream in streams:
        assert (await stream.read()).value == "hi"
    outcome = await failure_of(method(HI).read())
    assert_refused(outcome)
    assert outcome.problem is not None
    assert outcome.problem["detail"] == (
        "The service has 3 open streams, its limit. Try again in a moment."
    )
    counts = admission.counts
    assert (counts.streams, counts.streams_limit, counts.watches) == (STREAMS, STREAMS, 0)
    assert (counts.in_flight, counts.refused) == (0, 0)
    # A listener has begun the requests of these streams, which are no calls.
    assert not admission.is_full(STREAMS + MOST - 1)
    assert admission.is_full(STREAMS + MOST)
    waiting.release.set()
    for stream in streams:
        assert await stream.read() is grpc.aio.EOF
    await eventually(lambda: admission.counts.streams == 0)
    assert (await method(HI).read()).value == "hi"


async def test_a_watch_takes_no_place_of_a_stream(open_channel: Open, admission: Admission) -> None:
    """Watches of the health have a limit for each connection, and are ended with the streams."""

    def register_health(server: grpc.aio.Server) -> None:
        health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)

    stub: Any = health_pb2_grpc.HealthStub(await open_channel(register_health))
    watches = [stub.Watch(HealthCheckRequest()) for _ in range(8)]
    for watch in watches:
        assert (await watch.read()).status == HealthCheckResponse.SERVING
    assert (admission.counts.streams, admission.counts.watches) == (0, 8)
    outcome = await failure_of(stub.Watch(HealthCheckRequest()).read())
    assert_refused(outcome)
    admission.end_streams()
    for watch in watches:
        assert_refused(await failure_of(watch.read()), STOPPING)
    await eventually(lambda: admission.counts.watches == 0)


async def test_a_stream_has_all_of_its_context(open_channel: Open) -> None:
    """What a stream asks its context for is what the caller has sent."""

    async def answer(_request: object, context: Any) -> AsyncIterator[StringValue]:
        told = dict(context.invocation_metadata())
        yield StringValue(value=told["x-told"])

    handler = grpc.unary_stream_rpc_method_handler(answer, *MESSAGES)
    channel = await open_channel(register(handler))
    method = getattr(channel, kind_of(handler))(PATH, MESSAGES[1], MESSAGES[0])
    stream = method(HI, metadata=(("x-told", "something"),))
    assert (await stream.read()).value == "something"


# A whole sidecar


@pytest.fixture
async def small() -> AsyncIterator[Deployment]:
    """Run a sidecar that lets two calls in at once."""
    async with open_deployment(max_in_flight=str(MOST)) as deployment:
        yield deployment


@pytest.mark.parametrize("fill", [("form", "grpc"), ("grpc", "grpc"), ("json", "json")])
async def test_a_full_sidecar_refuses_on_both_protocols(
    small: Deployment, fill: tuple[str, str]
) -> None:
    """Whoever has taken the places, one more gets 503 or UNAVAILABLE, and the upstream nothing."""
    hold = Hold()
    small.upstream.script = hold.script
    sent = Sent(fields=FIELDS)
    calls = [asyncio.create_task(_send(small.ways[name], sent)) for name in fill]
    await hold.wait_for(MOST)
    for name in ("form", "json"):
        outcome = await small.ways[name](sent)
        assert outcome.status == 503
        assert outcome.headers["retry-after"] == str(CATALOGUE[OVERLOADED].retry_after_seconds)
        assert outcome.problem is not None
        assert outcome.problem["karmoCode"] == CATALOGUE[OVERLOADED].karmo_code
    assert_refused(await small.ways["grpc"](sent))
    assert len(small.upstream.requests) == MOST
    hold.release.set()
    for call in calls:
        assert (await call).token is not None
    for name in ("form", "grpc"):
        assert (await small.ways[name](sent)).token is not None


async def _send(way: Way, sent: Sent) -> Outcome:
    return await way(sent)


async def test_a_full_sidecar_tells_retrying_clients_when_to(small: Deployment) -> None:
    """The pushback of gRPC (gRFC A6) is in the trailer, in milliseconds, as RetryInfo tells it."""
    hold = Hold()
    small.upstream.script = hold.script
    sent = Sent(fields=FIELDS)
    calls = [asyncio.create_task(_send(small.ways["grpc"], sent)) for _ in range(MOST)]
    await hold.wait_for(MOST)
    stub = TokenServiceStub(small.channels["grpc"])
    with pytest.raises(AioRpcError) as caught:
        await stub.ExchangeToken(ExchangeTokenRequest(**FIELDS), timeout=GUARD)
    seconds = CATALOGUE[OVERLOADED].retry_after_seconds
    pushback = dict(caught.value.trailing_metadata())["grpc-retry-pushback-ms"]
    assert pushback == str(seconds * 1000)
    hold.release.set()
    for call in calls:
        assert (await call).token is not None
