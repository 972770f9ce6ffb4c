"""An application that does what ASGI forbids, or fails, over real sockets: what its client gets."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from contextvars import ContextVar
from typing import Any, cast

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from sidecar.http_server.asgi.request_cycle import STREAM
from sidecar.http_server.limits import Limits
from sidecar.http_server.listener import HttpListener
from sidecar.http_server.protocol import HttpProtocol
from sidecar.process import sockets
from sidecar.settings.types import Address
from tests.faults.conditions import eventually
from tests.faults.wire import reset
from tests.loops import on_each_loop, on_skipping_loop, on_uvloop
from tests.raw_http import next_answer
from tests.recorded import recorded
from tests.virtual_time import skip_until

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
Handler = Callable[[Receive, Send], Awaitable[None]]


@asynccontextmanager
async def serving(
    handler: Handler, *, linger: float = 0.01
) -> AsyncIterator[tuple[HttpListener, Address]]:
    """Serve each request by `handler`."""

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await handler(receive, send)

    async with serving_app(app, linger=linger) as served:
        yield served


@asynccontextmanager
async def serving_app(
    app: ASGIApp, *, linger: float = 0.01
) -> AsyncIterator[tuple[HttpListener, Address]]:
    """Serve each request by `app`, which has no lifespan."""

    async def lives(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for phase in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{phase}.complete"})
        else:
            await app(scope, receive, send)

    with closing(sockets.listen(Address("127.0.0.1", 0))) as bound:
        listener = HttpListener(lives, bound, grace=20.0, limits=Limits(linger=linger))
        await listener.start()
        try:
            yield listener, sockets.address_of(bound)
        finally:
            await listener.stop()


async def answer_to(handler: Handler, request: bytes = GET) -> bytes:
    """Return all that the client of `handler` gets for `request`, up to the end."""
    async with serving(handler) as (_, address):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        with closing(writer):
            writer.write(request)
            return await reader.read()


def start(*fields: tuple[bytes, bytes]) -> dict[str, Any]:
    """Return the start of a response."""
    return {"type": "http.response.start", "status": 200, "headers": fields}


def body(content: bytes, *, more: bool = False) -> dict[str, Any]:
    """Return a part of the content of a response."""
    return {"type": "http.response.body", "body": content, "more_body": more}


async def raises(_receive: Receive, _send: Send) -> None:
    """Fail at once."""
    raise LookupError("canary")


async def cancels_itself(_receive: Receive, _send: Send) -> None:
    """Wait for what something else has cancelled."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


async def returns(_receive: Receive, _send: Send) -> None:
    """Respond with nothing."""


async def raises_after_the_start(_receive: Receive, send: Send) -> None:
    """Fail before the content."""
    await send(start())
    raise LookupError("canary")


async def starts_twice(_receive: Receive, send: Send) -> None:
    """Begin a second time."""
    await send(start())
    await send(start())


async def begins_with_content(_receive: Receive, send: Send) -> None:
    """Send content before the start."""
    await send(body(b"canary"))


async def forges(_receive: Receive, send: Send) -> None:
    """Put a line end into a field."""
    await send(start((b"x-a", b"b\r\nx-canary: c")))


@pytest.mark.parametrize(
    "handler",
    [
        raises,
        cancels_itself,
        returns,
        raises_after_the_start,
        starts_twice,
        begins_with_content,
        forges,
    ],
)
@on_uvloop
async def test_a_failure_before_the_content(handler: Handler) -> None:
    """The client gets a 500 without content, the connection ends, and the log says why."""
    with recorded() as log:
        received = await answer_to(handler)
    assert received == (
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    assert "canary" not in log.text
    told = "returned without a response" if handler is returns else "failed"
    assert [entry["message"] for entry in log.entries] == [f"the application {told}"]


async def raises_later(_receive: Receive, send: Send) -> None:
    """Fail within the content."""
    await send(start())
    await send(body(b"abc", more=True))
    raise LookupError("canary")


async def returns_later(_receive: Receive, send: Send) -> None:
    """Leave the rest of the content out."""
    await send(start())
    await send(body(b"abc", more=True))


async def is_too_long(_receive: Receive, send: Send) -> None:
    """Send more than was announced."""
    await send(start((b"content-length", b"4")))
    await send(body(b"abc", more=True))
    await send(body(b"de"))


async def is_too_short(_receive: Receive, send: Send) -> None:
    """Send less than was announced."""
    await send(start((b"content-length", b"4")))
    await send(body(b"abc", more=True))
    await send(body(b""))


@pytest.mark.parametrize("handler", [raises_later, returns_later, is_too_long, is_too_short])
@on_uvloop
async def test_a_failure_within_the_content(handler: Handler) -> None:
    """The connection ends before the content, so that the client notices (RFC 9112 section 8)."""
    received = await answer_to(handler)
    head, _, content = received.partition(b"\r\n\r\n")
    is_sized = b"content-length: 4" in head
    assert content == (b"abc" if is_sized else b"3\r\nabc\r\n")


@on_uvloop
async def test_a_failure_within_the_content_of_http_1_0() -> None:
    """Where only the end of the connection ends the content, it is reset (RFC 9112 section 8)."""
    with pytest.raises(ConnectionResetError):
        await answer_to(raises_later, b"GET / HTTP/1.0\r\n\r\n")


@on_uvloop
async def test_a_head_does_not_wait_for_content() -> None:
    """The head of a stream that is silent at first comes at once."""
    has_head = asyncio.Event()

    async def waits(_receive: Receive, send: Send) -> None:
        await send(start())
        await has_head.wait()
        await send(body(b""))

    async with serving(waits) as (_, address):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        with closing(writer):
            writer.write(GET)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
            has_head.set()
            assert await reader.readexactly(5) == b"0\r\n\r\n"


@on_uvloop
async def test_nothing_comes_between_the_parts_of_a_response() -> None:
    """Once the response has begun, the body is read without `100 Continue`."""

    async def reads_late(receive: Receive, send: Send) -> None:
        await send(start((b"content-length", b"6")))
        await send(body(b"abc", more=True))
        assert (await receive())["body"] == b"x"
        await send(body(b"def"))

    async with serving(reads_late) as (_, address):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        with closing(writer):
            writer.write(GET[:-2] + b"Expect: 100-continue\r\nContent-Length: 1\r\n\r\n")
            await reader.readuntil(b"\r\n\r\nabc")
            writer.write(b"x")
            assert await reader.read() == b"def"


@on_uvloop
async def test_a_bad_start_can_be_replaced() -> None:
    """After a start that is none, a good one begins the response."""

    async def tries_again(_receive: Receive, send: Send) -> None:
        with pytest.raises(ValueError, match="HTTP does not allow"):
            await send(start((b"x-a", b"b\r\nc")))
        await send(start((b"content-length", b"3"), (b"connection", b"close")))
        with pytest.raises(ValueError, match="as long as"):
            await send(body(b"abcd"))
        await send(body(b"abc"))

    received = await answer_to(tries_again)
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert received.endswith(b"\r\n\r\nabc")


_kept: ContextVar[str] = ContextVar("kept", default="nothing")


@on_uvloop
async def test_requests_share_no_context() -> None:
    """What one request keeps in a context variable is not seen by the next, sent with it."""

    async def tells(_receive: Receive, send: Send) -> None:
        content = _kept.get().encode()
        _kept.set("canary")
        await send(start((b"content-length", b"%d" % len(content))))
        await send(body(content))

    async with serving(tells) as (_, address):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        with closing(writer):
            writer.write(GET * 2)
            assert [(await next_answer(reader)).body for _ in range(2)] == [b"nothing"] * 2


@on_uvloop
async def test_a_body_waits_in_the_network() -> None:
    """Of a body that the application does not read, no more is read than 64 KiB and a part."""
    goes_on = asyncio.Event()
    size = 8 * 2**20

    async def reads_late(receive: Receive, send: Send) -> None:
        await goes_on.wait()
        count, more = 0, True
        while more:
            message = await receive()
            count, more = count + len(message["body"]), message["more_body"]
        content = b"%d" % count
        await send(start((b"content-length", b"%d" % len(content))))
        await send(body(content))

    async with serving(reads_late) as (listener, address):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        with closing(writer):
            writer.write(GET[:-2] + b"Content-Length: %d\r\n\r\n" % size + bytes(size))
            await eventually(lambda: bool(listener._state.connections))
            (connection,) = listener._state.connections
            await eventually(lambda: not connection.transport._is_reading)
            goes_on.set()
            assert (await next_answer(reader)).body == b"%d" % size


@on_uvloop
async def test_content_after_the_end() -> None:
    """More content than there is to a response is a failure of the application alone."""

    async def goes_on(_receive: Receive, send: Send) -> None:
        await send(start((b"content-length", b"1"), (b"connection", b"close")))
        await send(body(b"a"))
        await send(body(b"b"))

    with recorded() as log:
        received = await answer_to(goes_on)
    assert received.endswith(b"\r\n\r\na")
    assert log.text.count("the application failed") == 1


@on_uvloop
async def test_a_body_that_is_bad_within_the_response() -> None:
    """The connection ends; what the application still sends is dropped without an error."""
    is_bad, ended = asyncio.Event(), asyncio.Event()

    async def waits(_receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(b"abc", more=True))
        await is_bad.wait()
        await send(body(b"def"))
        ended.set()

    with recorded() as log:
        async with serving(waits, linger=20.0) as (_, address):
            reader, writer = await asyncio.open_connection(address.host, address.port)
            with closing(writer):
                writer.write(GET[:-2] + b"Transfer-Encoding: chunked\r\n\r\n")
                await reader.readuntil(b"abc\r\n")
                writer.write(b"canary\r\n")
                assert await reader.read() == b""
                is_bad.set()
                await ended.wait()
    assert log.entries == []


@on_uvloop
async def test_a_client_that_is_gone() -> None:
    """The application hears of it, and what it still sends is dropped without an error."""
    begun, ended = asyncio.Event(), asyncio.Event()
    messages = []

    async def waits(receive: Receive, send: Send) -> None:
        messages.append(await receive())
        begun.set()
        messages.append(await receive())
        await send(start())
        await send(body(b"abc"))
        messages.append(await receive())
        ended.set()

    with recorded() as log:
        async with serving(waits) as (_, address):
            _, writer = await asyncio.open_connection(address.host, address.port)
            writer.write(GET)
            await begun.wait()
            reset(writer)
            await ended.wait()
    assert [message["type"] for message in messages] == [
        "http.request",
        "http.disconnect",
        "http.disconnect",
    ]
    assert log.entries == []


@on_each_loop
async def test_a_stream_that_is_expected_from_a_client_that_has_ended_its_side() -> None:
    """Its client has left, though it would get any other response."""
    begun, may_expect, left = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, _send: Send) -> None:
        assert (await receive())["type"] == "http.request"
        begun.set()
        await may_expect.wait()
        scope[STREAM]()
        assert (await receive())["type"] == "http.disconnect"
        left.set()

    async with serving_app(app) as (listener, address):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        with closing(writer):
            writer.write(GET)
            writer.write_eof()
            await begun.wait()
            (connection,) = listener._state.connections
            requests = cast("HttpProtocol", connection)._requests
            await eventually(lambda: requests.has_eof)
            may_expect.set()
            await left.wait()
            with suppress(ConnectionError):
                assert await reader.read() == b""


@on_skipping_loop
async def test_a_request_that_outlasts_the_grace() -> None:
    """Beyond the grace of `stop` a request is cancelled: its client gets a 500."""
    begun = asyncio.Event()

    async def waits(_receive: Receive, _send: Send) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with serving(waits) as (listener, address):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(GET)
        await begun.wait()
        stopping = asyncio.create_task(listener.stop())
        await skip_until(stopping.done)
        await stopping
        received = await next_answer(reader)
        writer.close()
    assert (received.status, received.headers["connection"]) == (500, "close")
