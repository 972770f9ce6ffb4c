"""The transcoder over both kinds of channel: requests that become calls, and all that do not."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import grpc
import httpx2
import pytest
from google.api.http_pb2 import CustomHttpPattern, HttpRule
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import status_pb2
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from grpc import StatusCode
from grpc_status import rpc_status
from starlette.responses import Response

from sidecar.transcoding import Options, SchemaError, Transcoder
from sidecar.transcoding.strict_json import JsonObject
from tests.channels import in_process
from tests.transcoding.asgi import Exchange, Wire, in_chunks, with_body
from tests.transcoding.library import descriptor, method, post, service
from tests.transcoding.serving import (
    FORM,
    LIBRARY,
    SUPPORTED,
    Behavior,
    Context,
    Receipt,
    Serve,
    echo,
    handler_of,
    refuse,
    render,
    told,
)

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
        "vary": "Accept",
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


async def test_json_is_not_kept_during_the_call(serve: Serve) -> None:
    """The JSON of a request, larger than its message, is freed before the service is called."""
    kept: list[JsonObject] = []

    async def look(_request: Any, _context: Context) -> Message:
        objects = (each for each in gc.get_objects() if type(each) is JsonObject)
        kept.extend(each for each in objects if ("name", "a name of this test") in each)
        return Receipt()

    answer = await with_body(b'{"name":"a name of this test"}').run(await serve(look))
    assert (answer.status, kept) == (200, [])


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

Refusal = tuple[int, Mapping[str, str], Mapping[str, object]]


def malformed(*violations: tuple[str, str | None]) -> dict[str, object]:
    """Return what is told of a malformed request."""
    return {
        "error": "MalformedRequestError",
        "faults": [list(violation) for violation in violations],
    }


def bad(*violations: tuple[str, str | None]) -> Refusal:
    """Return the refusal of a malformed request."""
    return 400, {}, malformed(*violations)


def because(status: int, error: str, **headers: str) -> Refusal:
    """Return a refusal that has no faults, but maybe `headers`, each of its name in Python."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, named, {"error": error, "faults": []}


NOT_FOUND = because(404, "PathNotFoundError")
NOT_ALLOWED = because(405, "MethodNotAllowedError", allow="GET, HEAD, POST, OPTIONS")
NO_TYPE = because(415, "UnsupportedMediaTypeError", accept=SUPPORTED)
TOO_LARGE = because(413, "ContentTooLargeError", connection="close")
NO_JSON = bad(("The body is not JSON: NaN and Infinity are not JSON.", ""))
BAD_TIMEOUT = bad(
    ("grpc-timeout must be given once, as up to 8 digits and one of H M S m u n.", None)
)
REFUSED: Mapping[str, tuple[Exchange, Refusal]] = {
    "path": (with_body(b"{}", path="/v1/shelves/"), NOT_FOUND),
    "method without a rule": (with_body(b"{}", path="/library.v1.Library/Unbound"), NOT_FOUND),
    "malformed path": (
        with_body(b"{}", path="/v1/%zz"),
        bad(("The path must be valid percent-encoded UTF-8 without NUL.", None)),
    ),
    "method": (with_body(b"{}", method="PUT"), NOT_ALLOWED),
    "HEAD without GET": (
        Exchange(method="HEAD", path="/v1/absent"),
        because(405, "MethodNotAllowedError", allow="POST, OPTIONS"),
    ),
    "media type": (with_body(b"{}", "text/plain"), NO_TYPE),
    "no media type": (Exchange(headers=[("Content-Length", "2")], chunks=(b"{}",)), NO_TYPE),
    "chunks of no media type": (
        Exchange(headers=[("Transfer-Encoding", "chunked")], chunks=(b"{}",)),
        NO_TYPE,
    ),
    "coding": (
        with_body(b"{}", headers=[("Content-Encoding", "gzip")]),
        because(415, "UnsupportedMediaTypeError", accept_encoding="identity"),
    ),
    "no JSON": (with_body(b"NaN"), NO_JSON),
    "no object": (with_body(b"[]"), bad(("The body must be a JSON object.", ""))),
    "faults of the body": (
        with_body(b'{"name":1,"x":2}'),
        bad(
            ("name must be a string.", "/name"),
            ("The body has a member that is not the name of a field.", "/x"),
        ),
    ),
    "fields in the query": (
        with_body(b"name=a", FORM, query=b"shelf_code=c&theme=d"),
        bad(
            ("shelfCode must not be in the query; send it in the body.", "shelfCode"),
            ("theme must not be in the query; send it in the body.", "theme"),
        ),
    ),
    "bytes in the query": (
        with_body(b"name=a", FORM, query=b"name\xff=%FF"),
        bad(("The query must be valid percent-encoded UTF-8.", None)),
    ),
    "timeout": (with_body(b"{}", headers=[("grpc-timeout", "1s")]), BAD_TIMEOUT),
    "metadata": (
        with_body(b"{}", headers=[("X-Passed", b"\xff")]),
        bad(("The header x-passed must hold printable ASCII characters only.", None)),
    ),
    "over the limit": (with_body(b" " * 101), TOO_LARGE),
    "chunks over the limit": (in_chunks(b" " * 60, b" " * 41), TOO_LARGE),
    "a length that is too small": (
        Exchange(
            headers=[("Content-Type", FORM), ("Content-Length", "5")],
            chunks=(b"x" * 60, b"x" * 60),
        ),
        TOO_LARGE,
    ),
    # Of several faults the first in this order wins.
    "path before method": (with_body(b"x", "text/plain", method="PUT", path="/x"), NOT_FOUND),
    "method before media type": (with_body(b"x" * 101, "text/plain", method="PUT"), NOT_ALLOWED),
    "media type before size": (with_body(b"x" * 101, "text/plain"), NO_TYPE),
    "size before JSON": (with_body(b"x" * 101, query=b"name=a"), TOO_LARGE),
    "JSON before query": (with_body(b"NaN", query=b"name=a"), NO_JSON),
    "media type before timeout": (
        with_body(b"x", "text/plain", headers=[("grpc-timeout", "x")]),
        NO_TYPE,
    ),
    "size before timeout": (with_body(b"x" * 101, headers=[("grpc-timeout", "x")]), TOO_LARGE),
    "timeout before query": (
        with_body(b"{}", query=b"name=a", headers=[("grpc-timeout", "x")]),
        BAD_TIMEOUT,
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_refused(serve: Serve, name: str) -> None:
    """A request that is no call reaches no handler, and the renderer gets all that is wrong."""
    exchange, (status, headers, body) = REFUSED[name]
    app = await serve(refuse, metadata_headers=frozenset({"x-passed"}), max_body_bytes=100)
    answer = await exchange.run(app)
    assert (answer.status, json.loads(answer.body)) == (status, body)
    assert headers.items() <= answer.headers.items()
    found = status != 404 and "%" not in exchange.path
    template = "/v1/absent" if exchange.method == "HEAD" else "/v1/shelves"
    assert answer.scope.get("transcoding.route") == (template if found else None)


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


@pytest.mark.parametrize(("name", "status"), [(LIBRARY.full_name, 200), ("library.v1.Other", 400)])
async def test_options_may_be_by_service(name: str, status: int) -> None:
    """Options by the name of a service are for that one; the others have the defaults."""
    by_service = {name: Options(ignore_unknown=True)}
    async with in_process(handler_of(echo, LIBRARY)) as channel:
        app = Transcoder([LIBRARY], channel, options=by_service, render_error=render)
        assert (await IGNORED["member"].run(app)).status == status


async def test_a_field_in_the_query_is_never_ignored(serve: Serve) -> None:
    """The option does not let a field of the body into the query."""
    exchange = with_body(b"name=a", FORM, query=b"name=a")
    assert (await exchange.run(await serve(refuse, ignore_unknown=True))).status == 400


@pytest.mark.parametrize(
    ("path", "status", "allow"),
    [
        ("/v1/shelves", 204, "GET, HEAD, POST, OPTIONS"),
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


# What the client accepts

ACCEPTED: Mapping[str, tuple[str, int, str]] = {
    "JSON": ("application/json", 200, "application/json"),
    "anything": ("*/*;q=0.1", 200, "application/json"),
    "a type based on JSON": ("text/html, application/vnd.x+json", 200, "application/vnd.x+json"),
    "no JSON": ("text/html, application/json;q=0", 406, "application/json"),
}


@pytest.mark.parametrize("name", ACCEPTED)
async def test_accept(serve: Serve, name: str) -> None:
    """A client is answered in a type that it accepts, or refused, unless that is ignored."""
    accept, status, content_type = ACCEPTED[name]
    exchange = with_body(b"{}", headers=[("Accept", accept)])
    answer = await exchange.run(await serve())
    assert (answer.status, answer.headers["content-type"]) == (status, content_type)
    if status == 200:
        assert answer.headers["vary"] == "Accept"
    ignored = await exchange.run(await serve(ignore_accept=True))
    assert (ignored.status, ignored.headers["content-type"]) == (200, "application/json")
    assert "vary" not in ignored.headers


async def test_media_type_before_what_is_accepted(serve: Serve) -> None:
    """Of a body that cannot be read and an answer that is not wanted the body is told."""
    exchange = with_body(b"{}", "text/plain", headers=[("Accept", "text/html")])
    assert (await exchange.run(await serve(refuse))).status == 415


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


async def answer_with_metadata(_request: Any, context: Context) -> Message:
    """Answer with metadata before and after the message."""
    await context.send_initial_metadata((("x-cost", "5"), ("x-hidden", "1"), ("x-odd", "a")))
    context.set_trailing_metadata((("x-cost", "6"), ("x-sum-bin", b"\0\xff")))
    return Receipt()


async def fail_with_metadata(_request: Any, context: Context) -> Message:
    """Fail with metadata before and after."""
    await context.send_initial_metadata((("x-cost", "5"), ("x-hidden", "1")))
    await context.abort(StatusCode.NOT_FOUND, "", (("x-cost", "6"), ("x-sum-bin", b"\0\xff")))
    raise AssertionError


@pytest.mark.parametrize("behavior", [answer_with_metadata, fail_with_metadata])
@pytest.mark.parametrize("allowed", [(), ("x-cost", "x-sum-bin")])
async def test_metadata_of_the_answer(
    serve: Serve, behavior: Behavior, allowed: tuple[str, ...]
) -> None:
    """Only metadata that is named becomes headers, be it initial or trailing, of any answer."""
    app = await serve(behavior, response_headers=frozenset(allowed))
    wire = Wire(with_body(b"{}"))
    await wire.serve(app)
    fields = [(name, value) for name, value in wire.sent[0]["headers"] if name.startswith(b"x-")]
    expected = [(b"x-cost", b"5"), (b"x-cost", b"6"), (b"x-sum-bin", b"AP8")]
    assert fields == (expected if allowed else [])


async def test_metadata_in_the_place_of_a_field() -> None:
    """A field that the answer has already is not given again by metadata."""

    async def behavior(_request: Any, context: Context) -> Message:
        status = status_pb2.Status(code=14)
        status.details.add().Pack(RetryInfo(retry_delay={"seconds": 5}))
        await context.send_initial_metadata((("retry-after", "9"),))
        await context.abort_with_status(rpc_status.to_status(status))
        raise AssertionError

    options = Options(response_headers=frozenset({"retry-after"}))
    async with in_process(handler_of(behavior, LIBRARY)) as channel:
        wire = Wire(with_body(b"{}"))
        await wire.serve(Transcoder([LIBRARY], channel, options=options))
    fields = [value for name, value in wire.sent[0]["headers"] if name == b"retry-after"]
    assert (wire.answer.status, fields) == (503, [b"5"])


async def test_a_service_adds_to_vary(serve: Serve) -> None:
    """What an answer depends on may be more than the transcoder knows."""

    async def behavior(_request: Any, context: Context) -> Message:
        context.set_trailing_metadata((("vary", "accept-language"),))
        return Receipt()

    wire = Wire(with_body(b"{}"))
    await wire.serve(await serve(behavior, response_headers=frozenset({"vary"})))
    varies = [value for name, value in wire.sent[0]["headers"] if name == b"vary"]
    assert varies == [b"Accept", b"accept-language"]


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


# Rules of every kind

SHOP = service(
    method(
        "Take",
        HttpRule(
            get="/v1/{name=shelves/*}",
            response_body="name",
            additional_bindings=[
                HttpRule(custom=CustomHttpPattern(kind="TAKE", path="/v1/{name=shelves/*}:take")),
                HttpRule(custom=CustomHttpPattern(kind="*", path="/v1/any/{name}")),
            ],
        ),
        gives="Receipt",
    ),
    method("Move", HttpRule(patch="/v1/books/{name}:move", body="shelf"), takes="Book"),
    method("Watch", HttpRule(get="/v1/watch"), streams="server"),
    method("Feed", post("/v1/feed"), streams="client"),
)
SERVED: Mapping[str, tuple[Exchange, int, object]] = {
    "a part of the answer": (
        Exchange(method="GET", path="/v1/shelves/a%2Fb"),
        200,
        "shelves/a%2Fb",
    ),
    "a verb, and a method of one's own": (
        Exchange(method="TAKE", path="/v1/shelves/a:take"),
        200,
        told(name="shelves/a"),
    ),
    "any method": (Exchange(method="BREW", path="/v1/any/a%2Fb"), 200, told(name="a/b")),
    "OPTIONS is any method": (Exchange(method="OPTIONS", path="/v1/any/a"), 200, told(name="a")),
    "a colon that begins no verb": (
        Exchange(method="GET", path="/v1/shelves/a:take"),
        200,
        "shelves/a:take",
    ),
    "a field as the body": (
        with_body(b'{"shelfCode":"c"}', method="PATCH", path="/v1/books/b:move", query=b"title=t"),
        200,
        told(name="b", shelfCode="c"),
    ),
    "another method": (
        Exchange(method="DELETE", path="/v1/shelves/a:take"),
        405,
        {"error": "MethodNotAllowedError", "faults": []},
    ),
    "a stream of requests": (
        with_body(b"x", "text/plain", path="/v1/feed"),
        501,
        {"error": "NotServedError", "faults": []},
    ),
    "another method of such a path": (
        Exchange(method="GET", path="/v1/feed"),
        405,
        {"error": "MethodNotAllowedError", "faults": []},
    ),
    "faults of all parts": (
        with_body(b'{"x":1}', method="PATCH", path="/v1/books/b:move", query=b"mood=x&title=a"),
        400,
        malformed(
            ("mood in the query must be one of MOOD_UNSPECIFIED, MOOD_MERRY, MOOD_GLOOMY.", "mood"),
            ("The body has a member that is not the name of a field.", "/x"),
        ),
    ),
}


async def tell_all(request: Any, _context: Context) -> Message:
    """Tell the name, and the code of the shelf."""
    shelf = request if request.DESCRIPTOR.name == "Shelf" else request.shelf
    return ShopReceipt(name=request.name, shelf_code=shelf.shelf_code, copies=1)


ShopReceipt = GetMessageClass(descriptor("Receipt", of=SHOP))


@pytest.mark.parametrize("name", SERVED)
async def test_served(serve: Serve, name: str) -> None:
    """Rules of every kind are served, over every kind of channel."""
    exchange, status, expected = SERVED[name]
    answer = await exchange.run(await serve(tell_all, library=SHOP))
    assert (answer.status, json.loads(answer.body)) == (status, expected)


# google.api.HttpBody

FILES = service(
    method("Read", HttpRule(get="/v1/files/{name}"), gives="google.api.HttpBody"),
    method("Part", HttpRule(get="/v1/parts/{name}", response_body="content"), gives="Document"),
)
HttpBody = GetMessageClass(FILES.methods_by_name["Read"].output_type)


def content(content_type: str, data: bytes) -> Behavior:
    """Return a handler that answers with content of its own."""

    async def behavior(_request: Any, _context: Context) -> Message:
        return HttpBody(content_type=content_type, data=data)

    return behavior


@pytest.mark.parametrize(
    ("content_type", "data"),
    [("text/plain", b"\xe9"), ("image/png; x=1", b"\0"), ("", b"x"), ("text/csv", b"")],
)
async def test_content_of_its_own(serve: Serve, content_type: str, data: bytes) -> None:
    """An HttpBody is the answer as it is, and no charset is added to its media type."""
    app = await serve(content(content_type, data), library=FILES)
    exchange = Exchange(method="GET", path="/v1/files/a", headers=[("Accept", "text/html")])
    answer = await exchange.run(app)
    assert (answer.status, answer.body) == (200, data)
    assert answer.headers.get("content-type", "") == content_type
    assert "vary" not in answer.headers


async def test_a_part_with_content_of_its_own(serve: Serve) -> None:
    """An HttpBody may be a field of the answer."""
    document = GetMessageClass(FILES.methods_by_name["Part"].output_type)

    async def behavior(request: Any, _context: Context) -> Message:
        return document(name=request.name, content={"content_type": "text/x", "data": b"y"})

    exchange = Exchange(method="GET", path="/v1/parts/a")
    answer = await exchange.run(await serve(behavior, library=FILES))
    assert (answer.headers["content-type"], answer.body) == ("text/x", b"y")


async def test_content_of_a_type_that_is_none(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """A media type that could end its header field is not sent: the service is at fault."""
    app = await serve(content("text/plain\r\nx: canary", b""), library=FILES)
    answer = await Exchange(method="GET", path="/v1/files/canary").run(app)
    assert (answer.status, json.loads(answer.body)["code"]) == (500, 13)
    (record,) = caplog.records
    told = "the content_type of a google.api.HttpBody is not a media type"
    expected = f"a response at /v1/files/{{name}} cannot be sent: {told}"
    assert (record.levelname, record.getMessage()) == ("ERROR", expected)


# Without options


async def test_problem_documents_by_default(channel: grpc.aio.Channel) -> None:
    """Without a renderer what fails is told in a problem document with every fault."""
    exchange = with_body(b'{"name":1}', query=b"x=1")
    answer = await exchange.run(Transcoder([LIBRARY], channel))
    assert answer.headers["content-type"] == "application/problem+json"
    assert json.loads(answer.body) == {
        "title": "Bad Request",
        "status": 400,
        "detail": "x in the query must be the name of a field.",
        "errors": [
            {"detail": "x in the query must be the name of a field.", "parameter": "x"},
            {"detail": "name must be a string.", "pointer": "/name"},
        ],
    }


# Depth


DEEP = service(
    method("Value", post("/v1/values"), takes="Known", gives="Nothing"),
    method("List", HttpRule(post="/v1/lists", body="a_list"), takes="Known", gives="Nothing"),
    method("Struct", HttpRule(post="/v1/structs", body="a_struct"), takes="Known", gives="Nothing"),
    method("Tree", post("/v1/trees"), takes="Tree", gives="Nothing"),
    method("Left", HttpRule(post="/v1/lefts", body="left"), takes="Tree", gives="Nothing"),
    method("Maps", post("/v1/maps"), takes="Maps", gives="Nothing"),
)
# From a path to what is before, between and behind the levels, and how many levels are messages.
NESTED: Mapping[str, tuple[str, str, str]] = {
    "/v1/values": ('{"aValue":%s}', "[", "]"),
    "/v1/lists": ("%s", "[", "]"),
    "/v1/structs": ("%s", '{"a":', "}"),
    "/v1/trees": ("%s", '{"left":', "}"),
    "/v1/lefts": ("%s", '{"left":', "}"),
    "/v1/maps": ("%s", '{"maps":{"odd key":', "}}"),
}
INNERMOST: Mapping[str, Sequence[str]] = {
    "/v1/values": ["1", "{}", "[]"],
    "/v1/lists": ["[]"],
    "/v1/structs": ["{}"],
    "/v1/trees": ["{}", '{"leaf":1}', '{"leaf":[]}', '{"leaf":{"a":[]}}'],
    "/v1/lefts": ["{}", '{"leaf":1}', '{"leaf":[]}', '{"leaf":{"a":[]}}'],
    "/v1/maps": ["{}", '{"stringValues":{"odd key":"a"}}'],
}


async def tell_nothing(_request: Any, _context: Context) -> Message:
    """Answer with nothing."""
    return GetMessageClass(descriptor("Nothing", of=DEEP))()


@pytest.mark.parametrize(
    ("path", "inner"), [(path, inner) for path, some in INNERMOST.items() for inner in some]
)
async def test_whatever_is_read_can_be_read_again(serve: Serve, path: str, inner: str) -> None:
    """However deeply a body nests it is refused, or the service can read what is made of it."""
    app = await serve(tell_nothing, library=DEEP)
    around, opening, closing = NESTED[path]
    statuses = []
    for depth in range(20, 105):
        body = around % (opening * depth + inner + closing * depth)
        statuses.append((await with_body(body.encode(), path=path).run(app)).status)
    assert set(statuses) == {200, 400}
    assert sorted(statuses) == statuses


# Schemas


@pytest.fixture
async def channel() -> AsyncIterator[grpc.aio.Channel]:
    """Give a channel that is not called."""
    async with in_process(handler_of(refuse, LIBRARY)) as channel:
        yield channel


def faults_of(channel: grpc.aio.Channel, *services: ServiceDescriptor) -> list[str]:
    """Return every reason why these services cannot be served."""
    with pytest.raises(SchemaError) as raised:
        Transcoder(services, channel)
    return list(raised.value.violations)


async def test_every_fault_of_one_rule(channel: grpc.aio.Channel) -> None:
    """Of a rule with several faults each is told, and so are those of its bindings."""
    nested = HttpRule(
        custom=CustomHttpPattern(kind="A B", path="/v1/{"),
        additional_bindings=[
            HttpRule(
                get="/v1/{nope}/{nada}/{tags}",
                body="zip",
                response_body="zap",
                additional_bindings=[HttpRule(get="/v1/x")],
            )
        ],
    )
    library = service(method("Open", nested, takes="Book"))
    first = "library.v1.Library.Open: custom 'A B' '/v1/{'"
    second = "library.v1.Library.Open: additional_bindings[0].get '/v1/{nope}/{nada}/{tags}'"
    assert faults_of(channel, library) == [
        f"{first}: its kind must be an HTTP method, or '*' for all",
        f"{first}: column 6: a field name is expected here",
        f"{second}: column 6: library.v1.Book has no field 'nope'",
        f"{second}: column 13: library.v1.Book has no field 'nada'",
        f"{second}: column 20: library.v1.Book.tags is repeated, and a path gives one value",
        f"{second}: body: library.v1.Book has no field 'zip'",
        f"{second}: response_body: library.v1.Receipt has no field 'zap'",
        f"{second}: additional bindings cannot be nested",
    ]


async def test_long_chain_of_types(channel: grpc.aio.Channel) -> None:
    """Types may refer to each other in a chain of any length, as those of large schemas do."""
    file = FileDescriptorProto(name="chain.proto", package="chain.v1", syntax="proto3")
    for number in range(400):
        following = f".chain.v1.T{number + 1}" if number < 399 else ".chain.v1.T0"
        kind = FieldDescriptorProto.TYPE_MESSAGE
        made = file.message_type.add(name=f"T{number}")
        made.field.add(name="next", number=1, label=1, type=kind, type_name=following)
    does = method("Do", post("/v1/chain"), takes="chain.v1.T0", gives="chain.v1.T0")
    file.service.add(name="Chain", method=[does])
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    transcoder = Transcoder([pool.FindServiceByName("chain.v1.Chain")], channel)
    answer = await with_body(b'{"next":{"next":1}}', path="/v1/chain").run(transcoder)
    assert json.loads(answer.body)["errors"][0]["pointer"] == "/next/next"


async def test_every_fault_of_a_schema(channel: grpc.aio.Channel) -> None:
    """A schema that is wrong in several ways is told all of them, so that one start is enough."""
    library = service(
        method("Open", post("/v1/{name")),
        method("Shut", HttpRule(get="/v1/a", body="none")),
        method("Lend", post("/v1/b")),
        method("Find", HttpRule(get="/v1/{shelf.nome}"), takes="Book"),
        method("Wrap", post("/v1/{seconds}"), takes="google.protobuf.Timestamp"),
        method("List", HttpRule(get="/v1/b", additional_bindings=[post("/v1/b")])),
    )
    assert faults_of(channel, library) == [
        (
            "library.v1.Library.Open: post '/v1/{name': column 10: a variable ends with '}'"
            " and cannot contain another one"
        ),
        "library.v1.Library.Shut: get '/v1/a': body: library.v1.Shelf has no field 'none'",
        (
            "library.v1.Library.Find: get '/v1/{shelf.nome}': column 6: library.v1.Shelf"
            " has no field 'nome'"
        ),
        (
            "library.v1.Library.Wrap: post '/v1/{seconds}': column 6: the body already sets all of"
            " google.protobuf.Timestamp"
        ),
        (
            "library.v1.Library.List: additional_bindings[0].post '/v1/b': another rule serves"
            " the same requests: library.v1.Library.Lend: post '/v1/b'"
        ),
    ]


async def test_routes_of_two_services(channel: grpc.aio.Channel) -> None:
    """Rules for the same requests are an error also where they are of two services."""
    one, other = service(method("Open", post("/v1/a"))), service(method("Shut", post("/v1/a")))
    assert faults_of(channel, one, other) == [
        (
            "library.v1.Library.Shut: post '/v1/a': another rule serves the same requests:"
            " library.v1.Library.Open: post '/v1/a'"
        )
    ]


async def test_streams_of_requests_are_named(
    channel: grpc.aio.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning names the methods with a stream of requests, and the others are served."""
    Transcoder([SHOP], channel)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        (
            "WARNING",
            "methods with a stream of requests are not served over HTTP: library.v1.Library.Feed",
        )
    ]


KEPT = service(
    method("Get", HttpRule(get="/{name=**}")),
    method("Talk", HttpRule(get="/{name=*}:talk"), streams="client server"),
    method("Feed", HttpRule(get="/v1/feed"), streams="client"),
    method("Same", HttpRule(get="/v1/feed"), streams="client"),
    method("Take", HttpRule(get="/{name=**}"), streams="client"),
    method("Wrong", HttpRule(get="/v1/{"), streams="client"),
    method(
        "Odd",
        HttpRule(
            get="/v1/odd/{nope}", body="no", additional_bindings=[HttpRule(get="/v1/odd:more")]
        ),
        streams="client",
    ),
)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/a:talk", 501),
        ("/v1/feed", 501),
        ("/a", 200),
        ("/v1/{", 200),
        ("/v1/odd/a", 501),
        ("/v1/odd:more", 501),
    ],
)
async def test_a_route_that_cannot_be_served_is_kept(serve: Serve, path: str, status: int) -> None:
    """Its requests do not fall to a rule for more paths; a rule that can be served has its own."""
    answer = await Exchange(method="GET", path=path).run(await serve(tell_kept, library=KEPT))
    assert answer.status == status


async def tell_kept(request: Any, _context: Context) -> Message:
    """Answer with the name."""
    return GetMessageClass(descriptor("Receipt", of=KEPT))(name=request.name)


PARTLY = service(
    method("Get", HttpRule(get="/{name=**}")),
    method("Bad", HttpRule(get="/v1/bad/{nope}"), takes="Shelf"),
    method("Good", HttpRule(get="/v1/good", additional_bindings=[HttpRule(get="/v1/fine")])),
)
BAD, GOOD = "library.v1.Library.Bad", "library.v1.Library.Good"


async def test_methods_that_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """Methods that the options name are answered with 501 at each of their routes, with a warning.

    The others are served, though a rule of the named ones could not be.
    """
    async with in_process(handler_of(tell_partly, PARTLY)) as channel:
        app = Transcoder(
            [PARTLY],
            channel,
            options={PARTLY.full_name: Options(unserved_methods=frozenset({BAD, GOOD}))},
            render_error=lambda _request, error: Response(str(error), getattr(error, "status", 0)),
        )
        answers = {
            path: await Exchange(method="GET", path=path).run(app)
            for path in ("/v1/bad/a", "/v1/good", "/v1/fine", "/v1/other")
        }
    assert [answer.status for answer in answers.values()] == [501, 501, 501, 200]
    assert answers["/v1/good"].body == b"This method is not served over HTTP. Call it by gRPC."
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", f"{name} is not served over HTTP: the options leave it out")
        for name in (BAD, GOOD)
    ]


async def tell_partly(request: Any, _context: Context) -> Message:
    """Answer with the name."""
    return GetMessageClass(descriptor("Receipt", of=PARTLY))(name=request.name)


async def test_what_cannot_be_left_out(channel: grpc.aio.Channel) -> None:
    """Without the option nothing is served, nor if it names a method that does not exist."""
    (violation,) = faults_of(channel, PARTLY)
    assert violation.startswith(f"{BAD}: get '/v1/bad/{{nope}}': column 10: ")
    options = Options(unserved_methods=frozenset({BAD, "library.v1.Library.Godo"}))
    with pytest.raises(SchemaError) as raised:
        Transcoder([PARTLY], channel, options=options)
    assert raised.value.violations == (
        "library.v1.Library.Godo: unserved_methods names it, but no service has this method",
    )
