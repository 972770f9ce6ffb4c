"""Streams of responses through the transcoder, over both kinds of channel."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from grpc import StatusCode
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from sidecar.in_process import InProcessChannel
from sidecar.transcoding import Options, Transcoder
from sidecar.transcoding.streams.body_writer import MAX_HELD
from sidecar.transcoding.streams.response import KEEP_ALIVE
from tests.channels import Open, announcing, in_process, over_a_socket
from tests.transcoding.asgi import GUARD, Wire, with_body
from tests.transcoding.serving import Serve, handler_of, refuse, render, told
from tests.transcoding.streams.event_stream import read_events
from tests.transcoding.streams.scene import (
    ARRAY,
    EVENTS,
    FRAMINGS,
    LINES,
    STREAMS,
    Context,
    Document,
    HttpBody,
    Known,
    Receipt,
    Silent,
    SlowWire,
    Streaming,
    contents,
    get,
    has_sent,
    is_ended,
    names_in,
    receipts,
    settled,
)
from tests.virtual_time import VirtualLoop

OK: dict[str, object] = {"transcoding.messages": 2, "transcoding.code": "OK"}


def items_of(body: bytes, media_type: str) -> list[Any]:
    """Return the items in `body`, by its framing."""
    if media_type == ARRAY:
        return list(json.loads(body))
    if media_type == LINES:
        assert body.endswith(b"\n")
        return [json.loads(line) for line in body.splitlines()]
    return [json.loads(event.data) for event in read_events(body)]


def receipt(name: str) -> dict[str, object]:
    """Return a receipt as JSON."""
    return told(name=name, copies="0")


# Messages


@pytest.mark.parametrize("accept", FRAMINGS)
async def test_messages(serve: Serve, accept: str) -> None:
    """Each message is one item of the response, in the framing that the client accepts."""
    wire = Wire(get(accept=accept))
    await wire.serve(await serve(receipts("a", "é\u2028"), library=STREAMS))
    answer = wire.answer
    assert (answer.status, is_ended(wire)) == (200, True)
    assert items_of(answer.body, accept) == [receipt("a"), receipt("é\u2028")]
    assert answer.headers == {
        "content-type": accept,
        "vary": "Accept",
        "x-accel-buffering": "no",
    }
    assert answer.scope["transcoding.route"] == "/v1/watch/{name}"
    assert OK.items() <= answer.scope.items()


@pytest.mark.parametrize(
    ("accept", "body"), [(ARRAY, b"[]"), (LINES, b""), (EVENTS, b"")], ids=FRAMINGS
)
async def test_no_messages(serve: Serve, accept: str, body: bytes) -> None:
    """A stream without messages is an empty response of its media type."""
    wire = Wire(get(accept=accept))
    await wire.serve(await serve(receipts(), library=STREAMS))
    assert (wire.answer.status, wire.answer.body, is_ended(wire)) == (200, body, True)
    assert wire.answer.headers["content-type"] == accept
    assert wire.answer.headers["content-length"] == str(len(body))


async def test_ids_of_events(serve: Serve) -> None:
    """Events are numbered from 1; the problem of a failed stream has the type for it, and no id."""
    app = await serve(receipts("a", "b", fail=StatusCode.NOT_FOUND), library=STREAMS)
    answer = await get(accept=EVENTS).run(app)
    events = read_events(answer.body)
    assert [(event.type, event.id) for event in events] == [
        ("message", "1"),
        ("message", "2"),
        ("problem", "2"),
    ]


@pytest.mark.parametrize(
    ("sent", "first"),
    [("7", "8"), ("007", "8"), ("0", "1"), ("9" * 18, str(10**18)), ("", "1")],
)
@pytest.mark.parametrize("resumes", [True, False])
async def test_ids_go_on_for_a_service_that_does(
    serve: Serve, sent: str, first: str, resumes: bool
) -> None:
    """After Last-Event-ID the ids go on, if the service gets that field, and else begin again."""
    named = frozenset({"last-event-id"}) if resumes else frozenset()
    app = await serve(receipts("a"), library=STREAMS, metadata_headers=named)
    answer = await get(accept=EVENTS, last_event_id=sent).run(app)
    assert [event.id for event in read_events(answer.body)] == [first if resumes else "1"]


NO_ID = "Last-Event-ID must be given once, as up to 18 digits."


@pytest.mark.parametrize(
    "sent",
    [("9" * 19,), ("1" * 5000,), ("x",), ("-1",), ("\xb2",), ("7", "8"), ("7", "7"), ("", "")],
)
async def test_ids_that_are_not_ours(sent: Sequence[str]) -> None:
    """An id that no event had is refused before any call: events could not go on after it."""
    options = Options(metadata_headers=frozenset({"last-event-id"}))
    fields = [("Last-Event-ID", value) for value in sent]
    exchange = replace(get(), headers=[("Accept", EVENTS), *fields])
    async with in_process(handler_of(refuse, STREAMS)) as channel:
        transcoder = Transcoder([STREAMS], channel, options=options, render_error=render)
        answer = await exchange.run(transcoder)
    assert (answer.status, json.loads(answer.body)["faults"]) == (400, [[NO_ID, None]])


async def test_an_id_that_the_service_does_not_get(serve: Serve) -> None:
    """A field that the options do not name is ignored, whatever its value."""
    app = await serve(receipts("a"), library=STREAMS)
    answer = await get(accept=EVENTS, last_event_id="x").run(app)
    assert [event.id for event in read_events(answer.body)] == ["1"]


@pytest.mark.parametrize(("accept", "path"), [(ARRAY, "/v1/watch/a"), (EVENTS, "/v1/files/a")])
@pytest.mark.parametrize("sent", ["7", "x"])
async def test_ids_of_other_framings(serve: Serve, accept: str, path: str, sent: str) -> None:
    """Without numbers of ours an id is the service's own: it gets it as it is, to begin there."""

    async def tell(_request: Any, context: Context) -> AsyncIterator[Message]:
        told = dict(context.invocation_metadata() or ())["last-event-id"]
        yield HttpBody(data=str(told).encode()) if "files" in path else Receipt(name=str(told))

    app = await serve(tell, library=STREAMS, metadata_headers=frozenset({"last-event-id"}))
    answer = await get(path, accept, last_event_id=sent).run(app)
    assert answer.body.decode() == sent if "files" in path else names_in(answer.body) == [sent]


async def test_a_body_and_a_part(serve: Serve) -> None:
    """A stream may have a request body, and a field of each message as the item."""
    app = await serve(receipts("a", "b"), library=STREAMS)
    answer = await with_body(b'{"name":"x"}', path="/v1/search").run(app)
    assert names_in(answer.body) == ["a", "b"]
    assert (await with_body(b'{"x":1}', path="/v1/search").run(app)).status == 400
    answer = await get("/v1/names/a").run(app)
    assert json.loads(answer.body) == ["a", "b"]


async def test_streams_at_once(serve: Serve) -> None:
    """Many streams at the same time get each their own messages."""

    async def twice(request: Any, _context: Context) -> AsyncIterator[Message]:
        for _ in range(2):
            yield Receipt(name=request.name)

    app = await serve(twice, library=STREAMS)
    names = [str(number) for number in range(20)]
    answers = await asyncio.gather(*(get(f"/v1/watch/{name}").run(app) for name in names))
    assert [names_in(answer.body) for answer in answers] == [[name] * 2 for name in names]


async def test_head(serve: Serve) -> None:
    """HEAD has the header of GET, and does not wait for the end of the stream."""
    silent = Silent(1)
    exchange = get()
    wire = Wire(exchange)
    wire.scope["method"] = "HEAD"
    await wire.serve(await serve(silent.serve, library=STREAMS))
    assert (wire.answer.status, wire.answer.body, is_ended(wire)) == (200, b"", True)
    assert wire.answer.headers["content-type"] == ARRAY
    async with asyncio.timeout(GUARD):
        await silent.cancelled.wait()


# What the client accepts

ACCEPTED: Mapping[str, str] = {
    "": ARRAY,
    "*/*": ARRAY,
    "application/*": ARRAY,
    "text/*": EVENTS,
    "text/event-stream": EVENTS,
    "application/x-ndjson": LINES,
    "application/json, text/event-stream": ARRAY,
    "application/json, application/x-ndjson": ARRAY,
    "text/event-stream, */*": EVENTS,
    "application/x-ndjson, application/*, */*": LINES,
    "application/json;q=0.5, text/event-stream": EVENTS,
    "application/json;q=0.5, application/x-ndjson;q=0.6, text/event-stream;q=0.4": LINES,
    "application/vnd.x+json, text/event-stream;q=0.1": "application/vnd.x+json",
    "application/json;q=0, */*": LINES,
}


@pytest.mark.parametrize("accept", ACCEPTED, ids=repr)
async def test_accept(serve: Serve, accept: str) -> None:
    """The framing that the client weighs most is sent; an array if it does not care."""
    answer = await get(accept=accept).run(await serve(receipts("a"), library=STREAMS))
    assert (answer.status, answer.headers["content-type"]) == (200, ACCEPTED[accept])
    assert answer.headers["vary"] == "Accept"
    if ACCEPTED[accept].endswith("+json"):
        assert names_in(answer.body) == ["a"]


async def test_not_acceptable() -> None:
    """A client that accepts no framing is told which there are, before any call."""
    async with in_process(handler_of(refuse, STREAMS)) as channel:
        answer = await get(accept="text/html").run(Transcoder([STREAMS], channel))
    assert answer.status == 406
    assert json.loads(answer.body)["detail"] == (
        "Accept application/json or application/x-ndjson or text/event-stream; there is no other "
        "media type."
    )


async def test_accept_may_be_ignored(serve: Serve) -> None:
    """With the option every stream is an array, and does not vary."""
    app = await serve(receipts("a"), library=STREAMS, ignore_accept=True)
    answer = await get(accept=EVENTS).run(app)
    assert answer.headers == {"content-type": ARRAY, "x-accel-buffering": "no"}
    assert names_in(answer.body) == ["a"]


# Streams that fail


@pytest.mark.parametrize("accept", FRAMINGS)
async def test_failure_before_the_first_message(serve: Serve, accept: str) -> None:
    """A call that fails before its first message has an ordinary problem, with its status."""
    app = await serve(receipts(fail=StatusCode.NOT_FOUND), library=STREAMS)
    answer = await get(accept=accept).run(app)
    assert (answer.status, json.loads(answer.body)["code"]) == (404, 5)
    assert answer.headers["content-type"] == "application/json"  # that of the tests' renderer
    assert "transcoding.code" not in answer.scope


@pytest.mark.parametrize("accept", FRAMINGS)
async def test_failure_after_a_message(serve: Serve, accept: str) -> None:
    """A call that fails later has the problem as its last item, and the response ends after it."""
    wire = Wire(get(accept=accept))
    await wire.serve(await serve(receipts("a", fail=StatusCode.NOT_FOUND), library=STREAMS))
    problem = {"code": 5, "message": "none such", "details": []}
    assert (wire.answer.status, is_ended(wire)) == (200, True)
    assert items_of(wire.answer.body, accept) == [receipt("a"), problem]
    assert wire.scope["transcoding.messages"] == 1
    assert wire.scope["transcoding.code"] == "NOT_FOUND"


async def test_problem_documents_by_default() -> None:
    """Without a renderer the last item is a problem document."""
    async with in_process(handler_of(receipts("a", fail=StatusCode.ABORTED), STREAMS)) as served:
        answer = await get(accept=LINES).run(Transcoder([STREAMS], served))
    assert items_of(answer.body, LINES)[1] == {
        "title": "Conflict",
        "status": 409,
        "code": "ABORTED",
        "detail": "none such",
    }


async def test_a_message_too_large_for_the_channel() -> None:
    """A message beyond the limit of the channel is our fault, not a refusal of the service."""

    async def answer_much(_request: Any, _context: Context) -> AsyncIterator[Message]:
        yield Receipt(name="a")
        yield Receipt(name="a" * 5 * 1024 * 1024)  # gRPC's own limit is 4 MiB

    async with over_a_socket(handler_of(answer_much, STREAMS)) as served:
        answer = await get(accept=LINES).run(Transcoder([STREAMS], served, render_error=render))
    assert items_of(answer.body, LINES)[1] == {"code": 13, "message": "", "details": []}


async def know(_request: Any, _context: Context) -> AsyncIterator[Message]:
    """Yield a message, and one that JSON cannot hold."""
    yield Known(a_value={"bool_value": True})
    yield Known(a_value={"number_value": float("nan")})
    yield Known()


async def know_nothing(_request: Any, _context: Context) -> AsyncIterator[Message]:
    """Yield a message that JSON cannot hold."""
    yield Known(a_value={"number_value": float("nan")})


@pytest.mark.parametrize(("behavior", "status"), [(know, 200), (know_nothing, 500)])
async def test_a_message_that_json_cannot_hold(
    serve: Serve, behavior: Streaming, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """It fails the stream, in its place, and the log says why."""
    answer = await get("/v1/known/a").run(await serve(behavior, library=STREAMS))
    body = json.loads(answer.body)
    assert answer.status == status
    assert (body[-1] if status == 200 else body)["code"] == StatusCode.INTERNAL.value[0]
    assert len(body) == 2 or status == 500
    reason = "a google.protobuf.Value holds a number that JSON does not have"
    assert [record.getMessage() for record in caplog.records] == [
        f"a response at /v1/known/{{name}} cannot be sent: {reason}"
    ]


async def test_bytes_that_are_no_message() -> None:
    """A message that cannot be read fails the stream after those before it."""

    async def answer_bytes(_request: bytes, context: Any) -> None:
        await context.write(Receipt(name="a").SerializeToString())
        await context.write(b"\x0a\x7f")

    # Any: the stubs have only the handlers of synchronous servers.
    stream: Any = grpc.unary_stream_rpc_method_handler
    generic = grpc.method_handlers_generic_handler(
        STREAMS.full_name, {"Watch": stream(answer_bytes)}
    )
    async with over_a_socket(generic) as channel:
        transcoder = Transcoder([STREAMS], channel, render_error=render)
        answer = await get().run(transcoder)
    assert names_in(answer.body) == ["a", "13"]


class BuggyCall:
    """A call with a stream of one message, after which it raises what no caller expects."""

    def __init__(self) -> None:
        self._messages = [Receipt(name="a")]

    async def read(self) -> Message:
        """Return the message; raise after it."""
        if not self._messages:
            raise LookupError("canary")
        return self._messages.pop()

    def cancel(self) -> bool:
        """Say that it has ended."""
        return False


class BuggyStreams(InProcessChannel):
    """A channel whose streams are buggy calls."""

    def unary_stream(self, *_arguments: Any, **_options: Any) -> Any:
        """Return a callable that starts one."""
        return lambda *_arguments, **_options: BuggyCall()


@pytest.mark.parametrize("accept", FRAMINGS)
async def test_a_fault_of_ours_is_told_in_band(
    accept: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A stream that an unexpected error ends has INTERNAL as its last item, and as its code."""
    wire = Wire(get(accept=accept))
    await wire.serve(Transcoder([STREAMS], BuggyStreams(), render_error=render))
    problem = {"code": 13, "message": "", "details": []}
    assert items_of(wire.answer.body, accept) == [receipt("a"), problem]
    assert is_ended(wire)
    assert wire.scope["transcoding.code"] == "INTERNAL"
    assert [record.getMessage() for record in caplog.records] == [
        "a stream at /v1/watch/{name} failed"
    ]


async def test_a_server_that_tells_by_an_error_that_the_client_has_left(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """A server may raise OSError in `send`: it is no fault, and the call is cancelled."""
    silent, wire = Silent(1), Wire(get())

    async def send(message: Any) -> None:
        wire.sent.append(message)
        if message["type"] == "http.response.body":
            raise BrokenPipeError

    app = await serve(silent.serve, library=STREAMS)
    async with asyncio.timeout(GUARD):
        await app(wire.scope, wire._receive, send)
        await silent.cancelled.wait()
    assert (len(wire.sent), wire.scope["transcoding.code"]) == (2, "CANCELLED")
    assert caplog.records == []


RENDERED: Mapping[str, tuple[Response, object]] = {
    "pretty": (
        Response('{\n"a":\r\n1}', media_type="application/problem+json; charset=utf-8"),
        {"a": 1},
    ),
    "text": (PlainTextResponse('no\n"more"'), 'no\n"more"'),
    "no text": (Response(b"\xff", media_type="image/x"), "\ufffd"),
    "no media type": (Response(b"{}"), "{}"),
}


@pytest.mark.parametrize("name", RENDERED)
@pytest.mark.parametrize("accept", FRAMINGS)
async def test_whatever_is_rendered(name: str, accept: str) -> None:
    """The last item is the JSON that the renderer made; any other content is a string in JSON."""
    response, expected = RENDERED[name]

    def render_error(_request: Request, _error: object) -> Response:
        return response

    handler = handler_of(receipts("a", fail=StatusCode.ABORTED), STREAMS)
    async with in_process(handler) as channel:
        transcoder = Transcoder([STREAMS], channel, render_error=render_error)
        answer = await get(accept=accept).run(transcoder)
    assert items_of(answer.body, accept) == [receipt("a"), expected]


# Metadata


def with_metadata(handler: Streaming, arrived: asyncio.Event) -> Streaming:
    """Return `handler` with metadata before, which must have `arrived`, and after."""

    async def behavior(request: Any, context: Context) -> AsyncIterator[Message]:
        await context.send_initial_metadata((("x-cost", "5"), ("x-hidden", "1")))
        context.set_trailing_metadata((("x-cost", "6"), ("x-sum-bin", b"\0\xff")))
        await arrived.wait()
        async for message in handler(request, context):
            yield message

    return behavior


BOTH = [("x-cost", "5"), ("x-cost", "6"), ("x-sum-bin", "AP8")]
METADATA: Mapping[str, tuple[Streaming, list[tuple[str, str]]]] = {
    "messages": (receipts("a"), [("x-cost", "5")]),
    "none": (receipts(), BOTH),
    "failure at once": (receipts(fail=StatusCode.ABORTED), BOTH),
    "failure": (receipts("a", fail=StatusCode.ABORTED), [("x-cost", "5")]),
}


@pytest.mark.parametrize("name", METADATA)
@pytest.mark.parametrize("open_", [in_process, over_a_socket], ids=["in process", "socket"])
async def test_metadata(open_: Open, name: str) -> None:
    """Initial metadata becomes header fields; trailing metadata only where nothing went before."""
    handler, expected = METADATA[name]
    options = Options(response_headers=frozenset({"x-cost", "x-sum-bin"}))
    wire, arrived = Wire(get()), asyncio.Event()
    async with open_(handler_of(with_metadata(handler, arrived), STREAMS)) as channel:
        watched = announcing(channel, arrived)
        await wire.serve(Transcoder([STREAMS], watched, options=options, render_error=render))
    fields = [
        (field.decode(), value.decode())
        for field, value in wire.sent[0]["headers"]
        if field.startswith(b"x-") and field != b"x-accel-buffering"
    ]
    assert fields == expected
    assert wire.scope["transcoding.route"] == "/v1/watch/{name}"


# google.api.HttpBody


@pytest.mark.parametrize("accept", ["", "text/html", EVENTS])
async def test_content(serve: Serve, accept: str) -> None:
    """Content is sent as it is, with the media type of its first piece."""
    wire = Wire(get("/v1/files/a", accept))
    await wire.serve(await serve(contents(b"\xff1", b"", b"3"), library=STREAMS))
    assert (wire.answer.status, wire.answer.body, is_ended(wire)) == (200, b"\xff13", True)
    assert wire.answer.headers == {"content-type": "text/x"}
    assert (wire.scope["transcoding.messages"], wire.scope["transcoding.code"]) == (3, "OK")


async def test_no_content(serve: Serve) -> None:
    """A stream without content has neither content nor a media type."""
    answer = await get("/v1/files/a").run(await serve(contents(), library=STREAMS))
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers == {"content-length": "0"}


@pytest.mark.parametrize("count", [1, 2, 3])
async def test_content_that_fails(serve: Serve, count: int) -> None:
    """If it fails, the last piece is withheld and the response has no end."""
    wire = Wire(get("/v1/files/a"))
    pieces = [b"%d" % number for number in range(count)]
    app = await serve(contents(*pieces, fail=StatusCode.DATA_LOSS), library=STREAMS)
    await wire.serve(app)
    assert (wire.sent[0]["status"], is_ended(wire)) == (200, False)
    assert b"".join(part["body"] for part in wire.sent[1:]) == b"".join(pieces[:-1])
    assert wire.scope["transcoding.code"] == "DATA_LOSS"


async def test_middleware_around_content_that_fails(serve: Serve) -> None:
    """Starlette's BaseHTTPMiddleware ends a failed response like a good one, as the docs warn."""
    app = await serve(contents(b"1", b"2", fail=StatusCode.DATA_LOSS), library=STREAMS)

    async def pass_on(request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)

    wire = Wire(get("/v1/files/a"))
    await wire.serve(BaseHTTPMiddleware(app, pass_on))
    assert (wire.answer.body, is_ended(wire)) == (b"1", True)


async def test_content_that_fails_at_once(serve: Serve) -> None:
    """Before its first piece content fails as any call does."""
    app = await serve(contents(fail=StatusCode.DATA_LOSS), library=STREAMS)
    answer = await get("/v1/files/a").run(app)
    assert (answer.status, json.loads(answer.body)["code"]) == (500, 15)


async def test_content_of_no_media_type(serve: Serve) -> None:
    """A first piece whose media type could end its header field is the service's fault."""

    async def behavior(_request: Any, _context: Context) -> AsyncIterator[Message]:
        yield HttpBody(content_type="text/plain\r\nx: y")

    answer = await get("/v1/files/a").run(await serve(behavior, library=STREAMS))
    assert (answer.status, json.loads(answer.body)["code"]) == (500, 13)


async def test_only_the_first_media_type_matters(serve: Serve) -> None:
    """A later piece is sent whatever its media type is, because that is not used."""

    async def behavior(_request: Any, _context: Context) -> AsyncIterator[Message]:
        yield HttpBody(content_type="text/x", data=b"1")
        yield HttpBody(content_type="text/plain\r\nx: y", data=b"2")

    wire = Wire(get("/v1/files/a"))
    await wire.serve(await serve(behavior, library=STREAMS))
    assert wire.answer.headers == {"content-type": "text/x"}
    assert (wire.answer.body, is_ended(wire)) == (b"12", True)


async def test_a_part_that_is_content(serve: Serve) -> None:
    """Content may be a field of each message."""

    async def behavior(_request: Any, _context: Context) -> AsyncIterator[Message]:
        for data in (b"1", b"2"):
            yield Document(content={"content_type": "text/x", "data": data})

    answer = await get("/v1/parts/a").run(await serve(behavior, library=STREAMS))
    assert (answer.headers["content-type"], answer.body) == ("text/x", b"12")


# Slow clients, and clients that leave


async def test_a_message_is_sent_at_once(serve: Serve) -> None:
    """What a service has said reaches the client while the service still waits."""
    silent, wire = Silent(2), Wire(get(accept=LINES))
    task = asyncio.create_task(wire.serve(await serve(silent.serve, library=STREAMS)))
    async with asyncio.timeout(GUARD):
        await silent.waiting.wait()
        await has_sent(wire, 3)
        assert items_of(wire.answer.body, LINES) == [receipt("0"), receipt("1")]
        silent.freed.set()
        await task
        await wire.abandoned.wait()
    assert items_of(wire.answer.body, LINES)[2] == receipt("last")


@pytest.mark.parametrize("accept", FRAMINGS)
async def test_messages_that_are_ready_are_sent_together(accept: str) -> None:
    """A service in the same process that does not wait has several messages in a part."""
    names = [str(number) for number in range(500)]
    async with in_process(handler_of(receipts(*names), STREAMS)) as channel:
        wire = Wire(get(accept=accept))
        await wire.serve(Transcoder([STREAMS], channel))
    assert items_of(wire.answer.body, accept) == [receipt(name) for name in names]
    assert len(wire.sent) < len(names)


@pytest.mark.parametrize("path", ["/v1/watch/a", "/v1/files/a"])
async def test_a_slow_client_slows_the_service(path: str) -> None:
    """In process, a service is never more than three large messages ahead of its client.

    One is being sent, one is held by the channel, and content holds one back. Small messages are
    sent together: see test_body_writer.
    """
    large = "x" * MAX_HELD
    written = 0

    async def count(_request: Any, _context: Context) -> AsyncIterator[Message]:
        nonlocal written
        while True:
            yield HttpBody(data=large.encode()) if "files" in path else Receipt(name=large)
            written += 1

    async with in_process(handler_of(count, STREAMS)) as channel:
        wire = SlowWire(get(path))
        task = asyncio.create_task(wire.serve(Transcoder([STREAMS], channel)))
        for number in range(5):
            await settled()
            assert len(wire.sent) == number
            assert number - 1 <= written <= number + 2
            wire.reads.release()
        wire.disconnect()
        wire.reads.release()
        await task
    assert wire.scope["transcoding.code"] == "CANCELLED"


async def test_a_slow_client_of_small_messages_slows_the_service() -> None:
    """In process, a service is no more ahead of its client than what is sent together."""
    written = 0

    async def count(_request: Any, _context: Context) -> AsyncIterator[Message]:
        nonlocal written
        while True:
            yield HttpBody(data=b"x" * 1024)
            written += 1

    async with in_process(handler_of(count, STREAMS)) as channel:
        wire = SlowWire(get("/v1/files/a"))
        task = asyncio.create_task(wire.serve(Transcoder([STREAMS], channel)))
        wire.reads.release()  # the header
        await settled()
        assert len(wire.sent) == 1
        assert written <= MAX_HELD // 1024 + 2
        wire.disconnect()
        wire.reads.release()
        await task
    assert len(wire.sent) == 2


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("accept", FRAMINGS)
async def test_client_leaves(serve: Serve, accept: str, count: int) -> None:
    """A client that leaves a silent stream cancels its call, whatever it was sent before."""
    silent, wire = Silent(count), Wire(get(accept=accept))
    task = asyncio.create_task(wire.serve(await serve(silent.serve, library=STREAMS)))
    async with asyncio.timeout(GUARD):
        await silent.waiting.wait()
        await has_sent(wire, min(count, 1) + count)
        wire.disconnect()
        await task
        await silent.cancelled.wait()
    assert not wire.sent or not is_ended(wire)
    assert wire.scope.get("transcoding.code") == ("CANCELLED" if count else None)


@pytest.mark.parametrize("accept", FRAMINGS)
async def test_server_stops_the_request(serve: Serve, accept: str) -> None:
    """A server that cancels the request cancels the call, and the response has no end."""
    silent, wire = Silent(1), Wire(get(accept=accept))
    task = asyncio.create_task(wire.serve(await serve(silent.serve, library=STREAMS)))
    async with asyncio.timeout(GUARD):
        await silent.waiting.wait()
        await has_sent(wire, 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await silent.cancelled.wait()
    assert not is_ended(wire)
    assert wire.scope["transcoding.code"] == "CANCELLED"


@pytest.mark.parametrize("open_", [in_process, over_a_socket])
async def test_channel_is_closed_during_the_stream(open_: Open) -> None:
    """A stream that ends because its channel does is told as failed: its client is still there."""
    silent, wire = Silent(1), Wire(get())
    async with open_(handler_of(silent.serve, STREAMS)) as channel:
        transcoder = Transcoder([STREAMS], channel, render_error=render)
        task = asyncio.create_task(wire.serve(transcoder))
        async with asyncio.timeout(GUARD):
            await silent.waiting.wait()
            await has_sent(wire, 2)
            await channel.close()
            await task
    assert (names_in(wire.answer.body), is_ended(wire)) == (["0", "14"], True)


# Deadlines


@pytest.mark.timing("the service waits for ever, so the deadline passes whenever that is")
@pytest.mark.parametrize("accept", FRAMINGS)
async def test_deadline(serve: Serve, accept: str) -> None:
    """The deadline of the client is that of the whole stream, and its passing is told in band."""
    app = await serve(Silent(0).serve, library=STREAMS)
    answer = await get(accept=accept, grpc_timeout="50m").run(app)
    assert (answer.status, json.loads(answer.body)["code"]) == (504, 4)
    for timeout in ("100m", "1S", "10S"):
        app = await serve(Silent(1).serve, library=STREAMS)
        answer = await get(accept=accept, grpc_timeout=timeout).run(app)
        if answer.status == 200:
            break
    first, problem = items_of(answer.body, accept)
    assert (first, problem["code"]) == (receipt("0"), 4)


# Silence


async def serve_silence(silent: Silent, wire: Wire) -> None:
    """Serve the request of `wire` by the stream of `silent`."""
    async with in_process(handler_of(silent.serve, STREAMS)) as channel:
        app = Transcoder([STREAMS], channel)
        await app(wire.scope, wire._receive, wire._send)


def test_events_keep_a_silent_connection_alive() -> None:
    """Every 15 s of silence a comment is sent, which is no event; a message begins them anew."""
    with VirtualLoop() as loop:
        silent, wire = Silent(1), Wire(get(accept=EVENTS))
        task = loop.create_task(serve_silence(silent, wire))
        loop.advance(KEEP_ALIVE - 1)
        assert len(wire.sent) == 2
        loop.advance(1 + KEEP_ALIVE)
        assert [part["body"] for part in wire.sent[2:]] == [b": keep-alive\n\n"] * 2
        silent.freed.set()
        loop.advance(1)
        assert task.done()
    events = read_events(wire.answer.body)
    assert [(event.id, json.loads(event.data)["name"]) for event in events] == [
        ("1", "0"),
        ("2", "last"),
    ]


def test_an_event_stream_that_is_left_in_silence() -> None:
    """A client that leaves between two comments ends the stream, and nothing is left running."""
    with VirtualLoop() as loop:
        silent, wire = Silent(1), Wire(get(accept=EVENTS))
        task = loop.create_task(serve_silence(silent, wire))
        loop.advance(KEEP_ALIVE + 1)
        wire.disconnect()
        loop.advance(1)
        assert task.done()
        assert silent.cancelled.is_set()
        assert asyncio.all_tasks(loop) == set()


@pytest.mark.parametrize("accept", [ARRAY, LINES])
def test_only_events_break_the_silence(accept: str) -> None:
    """Between the items of an array and between lines nothing is sent."""
    with VirtualLoop() as loop:
        silent, wire = Silent(1), Wire(get(accept=accept))
        task = loop.create_task(serve_silence(silent, wire))
        loop.advance(10 * KEEP_ALIVE)
        assert len(wire.sent) == 2
        silent.freed.set()
        loop.advance(1)
        assert task.done()
