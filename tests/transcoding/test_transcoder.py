"""The transcoder over both kinds of channel: requests that become calls, and all that do not."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from typing import Any

import grpc
import httpx2
import pytest
from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import status_pb2
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode
from grpc_status import rpc_status
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sidecar.transcoding.errors import RequestError, SchemaError
from sidecar.transcoding.status import HTTP_STATUS
from sidecar.transcoding.transcoder import Options, Transcoder
from tests.channels import in_process, over_a_socket
from tests.transcoding.asgi import GUARD, Exchange, Wire, in_chunks, with_body
from tests.transcoding.library import descriptor, method, post, service

LIBRARY = service(
    method("Open", post("/v1/shelves")),
    method("Look", HttpRule(get="/v1/shelves", body="*")),
    method("Absent", post("/v1/absent")),
    method("Unbound"),
)
Receipt = GetMessageClass(descriptor("Receipt", of=LIBRARY))
# Any: the messages are made at run time.
Context = grpc.aio.ServicerContext[Any, Any]
Behavior = Callable[[Any, Context], Awaitable[Message]]
Serve = Callable[..., Awaitable[Transcoder]]
FORM = "application/x-www-form-urlencoded"
SUPPORTED = f"{FORM}, application/json"


async def echo(request: Any, _context: Context) -> Message:
    """Answer with what was asked."""
    return Receipt(name=request.name, shelf_code=request.shelf_code, copies=1)


async def refuse(_request: Any, _context: Context) -> Message:
    """Be a handler that no request may reach."""
    raise AssertionError("the handler was called")


def render(_request: Request, error: RequestError | Status) -> Response:
    """Answer with all that an error tells."""
    if isinstance(error, Status):
        details = [packed.TypeName() for packed in error.details]
        told: dict[str, Any] = {"code": error.code, "message": error.message, "details": details}
        return JSONResponse(told, status_code=HTTP_STATUS[error.code])
    told = {
        "error": type(error).__name__,
        "faults": [[fault.detail, fault.pointer] for fault in error.faults],
    }
    return JSONResponse(told, status_code=error.status, headers=error.headers)


def handler_of(behavior: Behavior) -> grpc.GenericRpcHandler:
    """Return the handlers of a library of which every method but one is `behavior`."""
    shelf = GetMessageClass(descriptor("Shelf", of=LIBRARY))
    handler = grpc.unary_unary_rpc_method_handler(
        behavior,
        request_deserializer=shelf.FromString,
        response_serializer=Receipt.SerializeToString,
    )
    handlers = dict.fromkeys(("Open", "Look"), handler)
    return grpc.method_handlers_generic_handler(LIBRARY.full_name, handlers)


@pytest.fixture(params=[in_process, over_a_socket], ids=["in process", "socket"])
async def serve(request: pytest.FixtureRequest) -> AsyncIterator[Serve]:
    """Make transcoders over channels of one kind, which are closed after the test."""
    async with AsyncExitStack() as stack:

        async def make(behavior: Behavior = echo, **options: Any) -> Transcoder:
            channel = await stack.enter_async_context(request.param(handler_of(behavior)))
            chosen = Options(**options)
            return Transcoder([LIBRARY], channel, options=chosen, render_error=render)

        yield make


def told(**members: object) -> dict[str, object]:
    """Return a receipt as JSON."""
    empty = {"name": "", "shelfCode": "", "copies": "1", "pages": 0, "lent": False}
    rest = {"tags": [], "mood": "MOOD_UNSPECIFIED", "cover": ""}
    return empty | rest | members


# Calls that succeed

CALLS: Mapping[str, tuple[Exchange, dict[str, object]]] = {
    "JSON": (with_body(b'{"name":"a","shelfCode":"\xc3\xa9"}'), told(name="a", shelfCode="é")),
    "form": (with_body(b"name=a+b&shelfCode=%C3%A9", FORM), told(name="a b", shelfCode="é")),
    "other name": (with_body(b'{"shelf_code":"c"}'), told(shelfCode="c")),
    "in chunks": (in_chunks(b'{"na', b"", b'me":"a"', b"}"), told(name="a")),
    "in no chunks": (in_chunks(b""), told()),
    "empty object": (with_body(b"{}"), told()),
    "empty body": (with_body(b""), told()),
    "empty body of any type": (with_body(b"", "text/plain"), told()),
    "no body": (Exchange(), told()),
    "no body yet": (Exchange(chunks=()), told()),
    "escaped path": (with_body(b"name=a", FORM, path="/v1/shel%76es"), told(name="a")),
    "GET": (with_body(b"name=a", FORM, method="GET"), told(name="a")),
    "GET without a body": (Exchange(method="GET"), told()),
    "empty query": (with_body(b"name=a", FORM, query=b"&"), told(name="a")),
}


@pytest.mark.parametrize("name", CALLS)
async def test_call(serve: Serve, name: str) -> None:
    """A request becomes a call, and the response to the call its JSON."""
    exchange, expected = CALLS[name]
    answer = await exchange.run(await serve())
    assert (answer.status, json.loads(answer.body)) == (200, expected)
    assert answer.headers == {
        "content-type": "application/json",
        "content-length": str(len(answer.body)),
    }
    assert answer.scope["transcoding.route"] == "/v1/shelves"


async def test_head(serve: Serve) -> None:
    """HEAD is GET; that its content is not sent is the server's part."""
    exchange = Exchange(method="HEAD")
    answer = await exchange.run(await serve())
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")


async def test_calls_at_once(serve: Serve) -> None:
    """Many requests at the same time get each its own answer."""
    app = await serve()
    exchanges = [with_body(f"name={number}".encode(), FORM) for number in range(50)]
    answers = await asyncio.gather(*(exchange.run(app) for exchange in exchanges))
    assert [json.loads(answer.body)["name"] for answer in answers] == [*map(str, range(50))]


LOST: Mapping[str, tuple[str, dict[str, object], int]] = {
    "absent": ("/v1/shelves", {}, 200),
    "none": ("/v1/shelves", {"raw_path": None}, 200),
    "empty": ("/v1/shelves", {"raw_path": b""}, 200),
    "percent sign that was one before decoding": ("/v1/shel%76es", {}, 404),
}


@pytest.mark.parametrize(("path", "raw_path", "status"), LOST.values(), ids=LOST)
async def test_server_that_lost_the_raw_path(
    serve: Serve, path: str, raw_path: dict[str, object], status: int
) -> None:
    """ASGI leaves the raw path optional: without it the decoded one is taken."""
    wire = Wire(Exchange(path=path))
    del wire.scope["raw_path"]
    wire.scope |= raw_path
    await wire.serve(await serve())
    assert wire.answer.status == status


async def test_client_of_another_make(serve: Serve) -> None:
    """A client of another make reaches the transcoder as any ASGI application."""

    async def chunks() -> AsyncIterator[bytes]:
        yield b"name="
        yield b"a"

    transport = httpx2.ASGITransport(await serve())
    async with httpx2.AsyncClient(transport=transport, base_url="http://library.test") as client:
        headers = {"Content-Type": FORM}
        response = await client.post("/v1/shelves", content=chunks(), headers=headers)
    assert (response.status_code, response.json()) == (200, told(name="a"))


# Requests that become no call

TOO_LARGE = {"error": "ContentTooLargeError", "faults": []}
BAD_TIMEOUT = "grpc-timeout must be given once, as up to 8 digits and one of H M S m u n."


def malformed(*faults: tuple[str, str | None]) -> dict[str, object]:
    """Return what is told of a malformed request."""
    return {"error": "MalformedRequestError", "faults": [list(fault) for fault in faults]}


REFUSED: Mapping[str, tuple[Exchange, int, Mapping[str, str], Mapping[str, object]]] = {
    "path": (
        with_body(b"{}", path="/v1/shelves/"),
        404,
        {},
        {"error": "PathNotFoundError", "faults": []},
    ),
    "method without a rule": (
        with_body(b"{}", path="/library.v1.Library/Unbound"),
        404,
        {},
        {"error": "PathNotFoundError", "faults": []},
    ),
    "malformed path": (
        with_body(b"{}", path="/v1/%zz"),
        400,
        {},
        malformed(("The path must hold well-formed percent escapes of UTF-8 only.", None)),
    ),
    "method": (
        with_body(b"{}", method="PUT"),
        405,
        {"allow": "POST, GET, HEAD, OPTIONS"},
        {"error": "MethodNotAllowedError", "faults": []},
    ),
    "HEAD without GET": (
        Exchange(method="HEAD", path="/v1/absent"),
        405,
        {"allow": "POST, OPTIONS"},
        {"error": "MethodNotAllowedError", "faults": []},
    ),
    "media type": (
        with_body(b"{}", "text/plain"),
        415,
        {"accept": SUPPORTED},
        {"error": "UnsupportedMediaTypeError", "faults": []},
    ),
    "no media type": (
        Exchange(headers=[("Content-Length", "2")], chunks=(b"{}",)),
        415,
        {"accept": SUPPORTED},
        {"error": "UnsupportedMediaTypeError", "faults": []},
    ),
    "chunks of no media type": (
        Exchange(headers=[("Transfer-Encoding", "chunked")], chunks=(b"{}",)),
        415,
        {"accept": SUPPORTED},
        {"error": "UnsupportedMediaTypeError", "faults": []},
    ),
    "coding": (
        with_body(b"{}", headers=[("Content-Encoding", "gzip")]),
        415,
        {"accept-encoding": "identity"},
        {"error": "UnsupportedMediaTypeError", "faults": []},
    ),
    "no JSON": (
        with_body(b"NaN"),
        400,
        {},
        malformed(("The body is not JSON: NaN and Infinity are not JSON.", "")),
    ),
    "no object": (
        with_body(b"[]"),
        400,
        {},
        malformed(("The body must be a JSON object.", "")),
    ),
    "faults of the body": (
        with_body(b'{"name":1,"x":2}'),
        400,
        {},
        malformed(
            ("name must be a string.", "/name"),
            ("The body has a member that no field has.", ""),
        ),
    ),
    "fields in the query": (
        with_body(b"name=a", FORM, query=b"shelf_code=c&theme=d"),
        400,
        {},
        malformed(
            ("shelfCode must not be in the query; send it in the body.", None),
            ("theme must not be in the query; send it in the body.", None),
        ),
    ),
    "bytes in the query": (
        with_body(b"name=a", FORM, query=b"name\xff=%FF"),
        400,
        {},
        malformed(("The query has a parameter that no field has.", None)),
    ),
    "timeout": (
        with_body(b"{}", headers=[("grpc-timeout", "1s")]),
        400,
        {},
        malformed((BAD_TIMEOUT, None)),
    ),
    "metadata": (
        with_body(b"{}", headers=[("X-Passed", b"\xff")]),
        400,
        {},
        malformed(("The header x-passed must hold printable ASCII characters only.", None)),
    ),
    "over the limit": (with_body(b" " * 101), 413, {"connection": "close"}, TOO_LARGE),
    "chunks over the limit": (
        in_chunks(b" " * 60, b" " * 41),
        413,
        {"connection": "close"},
        TOO_LARGE,
    ),
    "a length that is too small": (
        Exchange(
            headers=[("Content-Type", FORM), ("Content-Length", "5")],
            chunks=(b"x" * 60, b"x" * 60),
        ),
        413,
        {"connection": "close"},
        TOO_LARGE,
    ),
    # Of several faults the first in this order wins.
    "path before method": (
        with_body(b"x", "text/plain", method="PUT", path="/x"),
        404,
        {},
        {"error": "PathNotFoundError", "faults": []},
    ),
    "method before media type": (
        with_body(b"x" * 101, "text/plain", method="PUT"),
        405,
        {"allow": "POST, GET, HEAD, OPTIONS"},
        {"error": "MethodNotAllowedError", "faults": []},
    ),
    "media type before size": (
        with_body(b"x" * 101, "text/plain"),
        415,
        {"accept": SUPPORTED},
        {"error": "UnsupportedMediaTypeError", "faults": []},
    ),
    "size before JSON": (
        with_body(b"x" * 101, query=b"name=a"),
        413,
        {"connection": "close"},
        TOO_LARGE,
    ),
    "JSON before query": (
        with_body(b"NaN", query=b"name=a"),
        400,
        {},
        malformed(("The body is not JSON: NaN and Infinity are not JSON.", "")),
    ),
    "media type before timeout": (
        with_body(b"x", "text/plain", headers=[("grpc-timeout", "x")]),
        415,
        {"accept": SUPPORTED},
        {"error": "UnsupportedMediaTypeError", "faults": []},
    ),
    "size before timeout": (
        with_body(b"x" * 101, headers=[("grpc-timeout", "x")]),
        413,
        {"connection": "close"},
        TOO_LARGE,
    ),
    "timeout before query": (
        with_body(b"{}", query=b"name=a", headers=[("grpc-timeout", "x")]),
        400,
        {},
        malformed(
            ("grpc-timeout must be given once, as up to 8 digits and one of H M S m u n.", None)
        ),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_refused(serve: Serve, name: str) -> None:
    """A request that is no call reaches no handler, and the renderer gets all that is wrong."""
    exchange, status, headers, body = REFUSED[name]
    app = await serve(refuse, metadata_headers=frozenset({"x-passed"}), max_body_bytes=100)
    answer = await exchange.run(app)
    assert (answer.status, json.loads(answer.body)) == (status, body)
    assert headers.items() <= answer.headers.items()
    found = status not in {404, 405} and "%" not in exchange.path
    assert answer.scope.get("transcoding.route") == ("/v1/shelves" if found else None)


IGNORED: Mapping[str, Exchange] = {
    "member": with_body(b'{"name":"a","x":{"name":"b"},"x":1}'),
    "form parameter": with_body(b"name=a&x=1&x=2&name[]=b", FORM),
    "query parameter": with_body(b"name=a", FORM, query=b"x=name&y=%zz&z"),
}


@pytest.mark.parametrize("name", IGNORED)
async def test_unknown_may_be_ignored(serve: Serve, name: str) -> None:
    """By the option unknown members and parameters are passed over, and refused without it."""
    answer = await IGNORED[name].run(await serve(ignore_unknown=True))
    assert (answer.status, json.loads(answer.body)) == (200, told(name="a"))
    assert (await IGNORED[name].run(await serve(refuse))).status == 400


async def test_a_field_in_the_query_is_never_ignored(serve: Serve) -> None:
    """The option does not let a field of the body into the query."""
    exchange = with_body(b"name=a", FORM, query=b"name=a")
    assert (await exchange.run(await serve(refuse, ignore_unknown=True))).status == 400


@pytest.mark.parametrize(
    ("path", "status", "allow"),
    [
        ("/v1/shelves", 204, "POST, GET, HEAD, OPTIONS"),
        ("/v1/absent", 204, "POST, OPTIONS"),
        ("/v1/shelves/", 404, None),
        ("/v1/%", 400, None),
    ],
)
async def test_options(serve: Serve, path: str, status: int, allow: str | None) -> None:
    """OPTIONS tells the methods of a path without a call."""
    answer = await Exchange(method="OPTIONS", path=path).run(await serve(refuse))
    assert (answer.status, answer.headers.get("allow")) == (status, allow)
    assert answer.body == b"" or status != 204


# The limit of the body


async def test_body_at_the_limit(serve: Serve) -> None:
    """A body as large as the limit is read, by length and in chunks."""
    app = await serve(max_body_bytes=10)
    for exchange in (
        with_body(b"name=12345", FORM),
        in_chunks(b"name=", b"12345", content_type=FORM),
    ):
        assert json.loads((await exchange.run(app)).body)["name"] == "12345"


@pytest.mark.parametrize(("size", "status"), [(16 * 1024, 200), (16 * 1024 + 1, 413)])
async def test_default_limit(serve: Serve, size: int, status: int) -> None:
    """Without another limit 16 KiB are read."""
    exchange = with_body(b"name=" + b"x" * (size - 5), FORM)
    assert (await exchange.run(await serve())).status == status


@pytest.mark.parametrize(
    ("exchange", "unread"),
    [(with_body(b"x" * 11, FORM), 1), (in_chunks(*[b"xxxx"] * 1000, content_type=FORM), 997)],
    ids=["by length", "in chunks"],
)
async def test_too_large_a_body_is_not_read(serve: Serve, exchange: Exchange, unread: int) -> None:
    """A length over the limit is refused at once, and chunks where they pass it."""
    wire = Wire(exchange)
    await wire.serve(await serve(refuse, max_body_bytes=10))
    assert (wire.answer.status, wire.unread) == (413, unread)


async def test_huge_length(serve: Serve) -> None:
    """A length of many digits is a length over the limit."""
    headers = [("Content-Type", FORM), ("Content-Length", "9" * 20)]
    assert (await Exchange(headers=headers).run(await serve(refuse))).status == 413


# Clients that go away


@pytest.mark.parametrize("chunks", [(), (b"name=a",)], ids=["before the body", "within it"])
async def test_client_leaves_while_it_sends(serve: Serve, chunks: tuple[bytes, ...]) -> None:
    """Who leaves before the body is complete gets no answer, and makes no call."""
    headers = [("Content-Type", FORM), ("Content-Length", "10")]
    wire = Wire(Exchange(headers=headers, chunks=chunks, is_complete=False))
    wire.disconnect()
    await wire.serve(await serve(refuse))
    assert wire.sent == []


class Waiting:
    """A handler that waits, and tells what becomes of it."""

    def __init__(self) -> None:
        self.called = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.freed = asyncio.Event()

    async def wait(self, request: Any, context: Context) -> Message:
        """Wait until `freed`."""
        self.called.set()
        try:
            await self.freed.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return await echo(request, context)


async def test_client_leaves_during_the_call(serve: Serve) -> None:
    """Who leaves while the call runs gets no answer, and the handler sees its cancellation."""
    handler, wire = Waiting(), Wire(with_body(b"name=a", FORM))
    task = asyncio.create_task(wire.serve(await serve(handler.wait)))
    async with asyncio.timeout(GUARD):
        await handler.called.wait()
        wire.disconnect()
        await task
        await handler.cancelled.wait()
    assert wire.sent == []


async def test_server_stops_the_request(serve: Serve) -> None:
    """A server that cancels the request cancels the call, and sees its own cancellation."""
    handler, wire = Waiting(), Wire(with_body(b"name=a", FORM))
    task = asyncio.create_task(wire.serve(await serve(handler.wait)))
    async with asyncio.timeout(GUARD):
        await handler.called.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await handler.cancelled.wait()
    assert wire.sent == []


async def test_slow_call(serve: Serve) -> None:
    """A client that waits gets its answer, and nobody listens to it any more."""
    handler, wire = Waiting(), Wire(with_body(b"name=a", FORM))
    task = asyncio.create_task(wire.serve(await serve(handler.wait)))
    async with asyncio.timeout(GUARD):
        await handler.called.wait()
        handler.freed.set()
        await task
        await wire.abandoned.wait()
    assert json.loads(wire.answer.body) == told(name="a")


# Deadlines


async def tell_time(_request: Any, context: Context) -> Message:
    """Tell the time that is left, if it is limited at all."""
    remaining: float | None = context.time_remaining()
    return Receipt(lent=remaining is not None, pages=int(remaining or 0))


@pytest.mark.parametrize(
    ("sent", "limited", "most", "least"),
    [
        (None, False, 0, 0),
        # Over a socket grpcio rounds a timeout up, by less than one percent.
        ("100S", True, 101, 50),
        ("2H", True, 7272, 7100),
        ("30M", True, 1818, 1700),
    ],
)
async def test_timeout(
    serve: Serve, sent: str | None, limited: bool, most: int, least: int
) -> None:
    """The client's timeout becomes the deadline of the call, and without one there is none."""
    headers = [] if sent is None else [("Grpc-Timeout", sent)]
    answer = await with_body(b"{}", headers=headers).run(await serve(tell_time))
    receipt = json.loads(answer.body)
    assert receipt["lent"] is limited
    assert least <= receipt["pages"] <= most


async def test_the_longest_timeout(serve: Serve) -> None:
    """The longest timeout that can be written does no harm."""
    exchange = with_body(b"name=a", FORM, headers=[("grpc-timeout", "99999999H")])
    assert (await exchange.run(await serve())).status == 200


@pytest.mark.parametrize("sent", ["0S", "1n", "50m"])
async def test_deadline_passes(serve: Serve, sent: str) -> None:
    """A call whose deadline passes ends with its status."""
    exchange = with_body(b"{}", headers=[("grpc-timeout", sent)])
    answer = await exchange.run(await serve(Waiting().wait))
    assert (answer.status, json.loads(answer.body)["code"]) == (504, 4)


@pytest.mark.parametrize("sent", ["0S", "1n", "50m"])
async def test_deadline_passes_before_the_request_is_complete(serve: Serve, sent: str) -> None:
    """A client that does not send its body by its own deadline is told so, and makes no call."""
    headers = [("Content-Type", FORM), ("Content-Length", "10"), ("grpc-timeout", sent)]
    exchange = Exchange(headers=headers, chunks=(b"name=a",), is_complete=False)
    answer = await exchange.run(await serve(refuse))
    assert (answer.status, json.loads(answer.body)) == (
        504,
        {"code": 4, "message": "", "details": []},
    )


# Metadata


async def tell_metadata(_request: Any, context: Context) -> Message:
    """Tell the metadata, less what gRPC itself adds."""
    received = [(key, value) for key, value in context.invocation_metadata() or ()]
    return Receipt(tags=[f"{key}={value!s}" for key, value in received if key != "user-agent"])


SENT_HEADERS = [
    ("Host", "library.test"),
    ("Authorization", "Basic YTpi"),
    ("X-Request-Id", "1"),
    ("Cookie", "secret"),
    ("Accept", "application/json"),
    ("X-Request-Id", "2 ~"),
    ("Grpc-Timeout", "100S"),
    ("Te", "trailers"),
]


@pytest.mark.parametrize(
    ("allowed", "received"),
    [
        ((), []),
        (("authorization",), ["authorization=Basic YTpi"]),
        (("x-request-id", "x-absent"), ["x-request-id=1", "x-request-id=2 ~"]),
    ],
)
async def test_metadata(serve: Serve, allowed: tuple[str, ...], received: list[str]) -> None:
    """Only headers that are named become metadata; without names none does."""
    app = await serve(tell_metadata, metadata_headers=frozenset(allowed))
    answer = await with_body(b"{}", headers=SENT_HEADERS).run(app)
    assert json.loads(answer.body)["tags"] == received


# Calls that fail


async def abort(_request: Any, context: Context) -> Message:
    """Fail with two details."""
    status = status_pb2.Status(code=9, message="not é now")
    status.details.add().Pack(ErrorInfo(reason="SHUT"))
    status.details.add().Pack(RetryInfo())
    await context.abort_with_status(rpc_status.to_status(status))
    raise AssertionError


def abort_with(code: StatusCode, message: str) -> Behavior:
    """Return a handler that fails with that code."""

    async def behavior(_request: Any, context: Context) -> Message:
        await context.abort(code, message)
        raise AssertionError

    return behavior


async def fail(_request: Any, _context: Context) -> Message:
    """Fail without a status."""
    raise ValueError("wrong")


FAILURES: Mapping[str, tuple[Behavior, int, dict[str, object]]] = {
    "details": (
        abort,
        400,
        {
            "code": 9,
            "message": "not é now",
            "details": ["google.rpc.ErrorInfo", "google.rpc.RetryInfo"],
        },
    ),
    "code": (
        abort_with(StatusCode.NOT_FOUND, "none such"),
        404,
        {"code": 5, "message": "none such", "details": []},
    ),
    "no message": (
        abort_with(StatusCode.UNAUTHENTICATED, ""),
        401,
        {"code": 16, "message": "", "details": []},
    ),
    "cancelled by the other side": (
        abort_with(StatusCode.CANCELLED, "no more"),
        499,
        {"code": 1, "message": "no more", "details": []},
    ),
    "exception": (
        fail,
        500,
        {"code": 2, "message": "Unexpected <class 'ValueError'>: wrong", "details": []},
    ),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_failed_call(serve: Serve, name: str) -> None:
    """The status of a failed call reaches the renderer with all its details."""
    behavior, status, body = FAILURES[name]
    answer = await with_body(b"{}").run(await serve(behavior))
    assert (answer.status, json.loads(answer.body)) == (status, body)


async def test_method_that_the_server_does_not_have(serve: Serve) -> None:
    """A method that is in the schema alone is told as such by the server."""
    answer = await with_body(b"{}", path="/v1/absent").run(await serve())
    assert (answer.status, json.loads(answer.body)["code"]) == (501, 12)


# Schemas

FIELDS = "only singular strings are supported yet"


@pytest.fixture
async def channel() -> AsyncIterator[grpc.aio.Channel]:
    """Give a channel that is not called."""
    async with in_process(handler_of(refuse)) as channel:
        yield channel


def faults_of(channel: grpc.aio.Channel, *services: ServiceDescriptor) -> Iterator[str]:
    """Return every reason why these services cannot be served."""
    with pytest.raises(SchemaError) as raised:
        Transcoder(services, channel, options=Options(), render_error=render)
    return iter(raised.value.faults)


async def test_every_fault_of_the_rules(channel: grpc.aio.Channel) -> None:
    """Rules that cannot be served are told all at once."""
    library = service(
        method("Open", post("/v1/{name}")), method("Shut", HttpRule(get="/v1/a", body="name"))
    )
    open_fault, shut_fault = faults_of(channel, library)
    assert open_fault.startswith("library.v1.Library.Open: post: '/v1/{name}': column 5")
    assert shut_fault.startswith("library.v1.Library.Shut: only rules")


async def test_every_fault_of_the_fields(channel: grpc.aio.Channel) -> None:
    """Methods whose messages cannot be bound are told all at once."""
    library = service(
        method("Count", post("/v1/a"), takes="Counted"),
        method("Open", post("/v1/b")),
        method("Tag", post("/v1/c"), takes="Tagged"),
    )
    assert [*faults_of(channel, library)] == [
        f"library.v1.Library.Count: library.v1.Counted.count: {FIELDS}",
        f"library.v1.Library.Tag: library.v1.Tagged.tags: {FIELDS}",
    ]


async def test_every_fault_of_the_routes(channel: grpc.aio.Channel) -> None:
    """Rules for the same requests are told all at once, those of two services as well."""
    one = service(method("Open", post("/v1/a")), method("Lend", post("/v1/a")))
    other = service(method("Shut", post("/v1/a")))
    assert [*faults_of(channel, one, other)] == [
        "library.v1.Library.Lend: POST /v1/a is served by another rule",
        "library.v1.Library.Shut: POST /v1/a is served by another rule",
    ]


async def test_every_fault_of_every_kind(channel: grpc.aio.Channel) -> None:
    """A schema that is wrong in several ways is told all of them, so that one start is enough."""
    library = service(
        method("Open", post("/v1/*")),
        method("Count", post("/v1/a"), takes="Counted"),
        method("Lend", post("/v1/b")),
        method("Shut", post("/v1/b")),
    )
    told = sorted(faults_of(channel, library))
    assert [fault.split(": ")[0].rpartition(".")[2] for fault in told] == ["Count", "Open", "Shut"]


async def test_fields_of_methods_without_a_rule_do_not_matter(channel: grpc.aio.Channel) -> None:
    """What is not served over HTTP may take any message."""
    library = service(method("Count", takes="Counted"), method("Open", post("/v1/b")))
    app = Transcoder([library], channel, options=Options(), render_error=render)
    assert (await Exchange(method="OPTIONS", path="/v1/b").run(app)).status == 204
