"""The REST application: its access lines, its problems from any peer, its headers, its pages."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, MutableMapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from typing import Any

import grpc
import httpx2
import pytest
from google.api.http_pb2 import HttpRule
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.descriptor import ServiceDescriptor
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode
from karmo.auth.v1.token_service_pb2 import ExchangeTokenRequest, ExchangeTokenResponse
from karmo.auth.v1.token_service_pb2_grpc import (
    add_TokenServiceServicer_to_server,
)
from karmo.problem.v1.problem_details_pb2 import ProblemDetails

from sidecar.api import SERVICES
from sidecar.http_server.listener import HttpListener
from sidecar.in_process import InProcessChannel
from sidecar.problems import CATALOGUE
from sidecar.process import sockets
from sidecar.rest import app as rest_app
from sidecar.settings.types import Address
from sidecar.transcoding import Options
from tests.channels import BuggyChannel
from tests.raw_http import FORM, Received, answer_to, request
from tests.raw_http import sent as sent_to
from tests.recorded import Line, recorded
from tests.servicers import RaisingServicer
from tests.transcoding.library import method, service
from tests.transcoding.serving import Receipt, handler_of
from tests.ways import PUBLIC_URL, Deployment

# The longest that anything here may take before the test fails, in seconds.
GUARD = 20
TOKEN = "/v1/oauth/token"
JSON = "application/json"
PROBLEM_JSON = "application/problem+json"
BODY = b"grant_type=client_credentials&client_id=partner&client_secret=secret"
FIELDS = {"grant_type": "client_credentials", "client_id": "partner", "client_secret": "secret"}


@asynccontextmanager
async def client_of(
    channel: grpc.aio.Channel, services: Mapping[ServiceDescriptor, Options] = SERVICES
) -> AsyncIterator[httpx2.AsyncClient]:
    """Give a client of the REST application that serves `services` over `channel`, in process."""
    app = rest_app.build(services, channel, public_url=PUBLIC_URL)
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://sidecar.test") as client:
        yield client


# Access lines


def line_of(**said: object) -> Line:
    """Return what the line of a REST request must say, besides what is measured."""
    return {"protocol": "rest", "method": "POST", "route": "unmatched", **said}


NOT_FOUND = {"status": 404, "karmo_code": "40400001", "reason": "NOT_FOUND"}
NOT_ALLOWED = {"karmo_code": "40500001", "reason": "METHOD_NOT_ALLOWED"}
LINES: Mapping[str, tuple[bytes, Line]] = {
    "good": (
        request(body=BODY),
        line_of(route=TOKEN, status=200, upstream_status=200),
    ),
    "refused": (
        request(body=b"grant_type=canary"),
        line_of(route=TOKEN, status=400, karmo_code="40010002", reason="UNSUPPORTED_GRANT_TYPE"),
    ),
    "unreadable": (
        request(body=b"%canary"),
        line_of(route=TOKEN, status=400, karmo_code="40010001", reason="INVALID_REQUEST"),
    ),
    "query": (
        request(target=f"{TOKEN}?client_secret=canary&canary=1", body=BODY),
        line_of(route=TOKEN, status=400, karmo_code="40010001", reason="INVALID_REQUEST"),
    ),
    "unknown query": (
        request(target=f"{TOKEN}?canary=canary", body=BODY),
        line_of(route=TOKEN, status=200, upstream_status=200),
    ),
    "unknown path": (request(target="/canary/canary?canary"), line_of(**NOT_FOUND)),
    "trailing slash": (request(target=f"{TOKEN}/"), line_of(**NOT_FOUND)),
    "malformed path": (
        request(target="/v1/%canary"),
        line_of(status=400, karmo_code="40010001", reason="INVALID_REQUEST"),
    ),
    "wrong method": (
        request("GET", f"{TOKEN}?canary"),
        line_of(method="GET", route=TOKEN, status=405, **NOT_ALLOWED),
    ),
    "unknown method": (
        request("CANARY"),
        line_of(method="other", route=TOKEN, status=405, **NOT_ALLOWED),
    ),
    "wrong method of a page": (
        request("POST", "/problems/canary"),
        line_of(route="/problems/{slug}", status=405, **NOT_ALLOWED),
    ),
    "options": (request("OPTIONS"), line_of(method="OPTIONS", route=TOKEN, status=204)),
    "page": (
        request("GET", "/problems/not-found?canary"),
        line_of(method="GET", route="/problems/{slug}", status=200),
    ),
    "unknown page": (
        request("GET", "/problems/canary"),
        line_of(method="GET", route="/problems/{slug}", **NOT_FOUND),
    ),
}


@pytest.mark.parametrize(("data", "said"), LINES.values(), ids=LINES)
async def test_each_request_has_one_line(
    deployment: Deployment, request_id: str, data: bytes, said: Line
) -> None:
    """One line tells the request, by nothing that the client wrote, and none is for gRPC."""
    data = data.replace(b"\r\n", f"\r\nX-Request-Id: {request_id}\r\n".encode(), 1)
    with recorded() as log:
        received = await answer_to(deployment.addresses.rest, data)
        line = await log.access_line(request_id)
        await answer_to(deployment.addresses.rest, request())
        assert len(log.find(request_id)) == 1
    assert received.headers["x-request-id"] == request_id
    measured = {"time", "level", "logger", "message", "request_id", "duration_ms", "upstream_ms"}
    by_chance = {"peer", "connect_ms", "upstream_reused", "client"}
    assert ("client" in line) is ("upstream_status" in said)  # the others name none
    assert {name: line[name] for name in line if name not in measured | by_chance} == said
    assert line["peer"].startswith("127.0.0.1:")
    assert measured - {"upstream_ms"} <= line.keys()
    assert ("upstream_ms" in line) == ("upstream_status" in line)
    assert "canary" not in log.text.lower()


async def test_a_client_without_an_address_has_its_line(request_id: str) -> None:
    """A server that knows no peer, such as one on a UNIX socket, is no hindrance."""
    app = rest_app.build(SERVICES, InProcessChannel(), public_url=PUBLIC_URL)
    sent: list[Mapping[str, Any]] = []
    headers = [(b"x-request-id", request_id.encode())]
    scope = {"type": "http", "method": "GET", "path": "/x", "query_string": b"", "headers": headers}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    with recorded() as log:
        await app(scope, receive, send)
        line = await log.access_line(request_id)
    assert (line["peer"], line["status"], sent[0]["status"]) == (None, 404, 404)


async def test_a_fault_of_ours_is_a_problem(request_id: str) -> None:
    """A bug below REST is answered as a problem without its text, and has a line and a record."""
    with recorded() as log:
        async with client_of(BuggyChannel()) as client:
            response = await client.post(TOKEN, data=FIELDS, headers={"X-Request-Id": request_id})
        line = await log.access_line(request_id)
    assert response.status_code == 500
    assert response.json()["karmoCode"] == "50090001"
    assert response.json()["instance"] == f"urn:uuid:{request_id}"
    assert_headers(response.headers)
    assert (line["status"], line["route"], line["karmo_code"]) == (500, TOKEN, "50090001")
    (entry,) = (entry for entry in log.entries if entry["level"] == "error")
    assert (entry["message"], entry["error"]) == ("the REST application failed", "LookupError")
    assert "canary" not in log.text + response.text


# The life of the application


async def test_the_channel_lives_as_long_as_the_application() -> None:
    """The application closes the channel that it was given when it ends, and not before."""
    channel = InProcessChannel()
    async with AsyncExitStack() as stack:
        bound = stack.enter_context(closing(sockets.listen(Address("127.0.0.1", 0))))
        app = rest_app.build(SERVICES, channel, public_url=PUBLIC_URL)
        listener = HttpListener(app, bound, grace=1)
        await listener.start()
        stack.push_async_callback(listener.stop)
        received = await answer_to(sockets.address_of(bound), request("GET", "/problems"))
        assert received.status == 200
        assert channel.get_state() is grpc.ChannelConnectivity.READY
    assert channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN


@pytest.mark.timing("the grace ends whether the machine is slow or not")
async def test_a_request_that_outlives_the_grace_has_its_problem(request_id: str) -> None:
    """Who is still sending when the process must end is told so by a problem, and so is the log."""
    app = rest_app.build(SERVICES, InProcessChannel(), public_url=PUBLIC_URL)
    bound = sockets.listen(Address("127.0.0.1", 0))
    listener = HttpListener(app, bound, grace=0.05)
    await listener.start()
    stalled = b"\r\n".join(
        (
            b"POST /v1/oauth/token HTTP/1.1",
            b"Host: sidecar.test",
            b"X-Request-Id: " + request_id.encode(),
            FORM,
            b"Content-Length: 100",
            b"Expect: 100-continue",
            b"",
            b"",
        )
    )
    with recorded() as log:
        async with asyncio.timeout(GUARD), sent_to(sockets.address_of(bound), stalled) as reader:
            # The answer to Expect shows that the body is being waited for.
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
            await listener.stop()
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        line = await log.access_line(request_id)
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"connection: close" in head.lower()
    assert json.loads(body)["karmoCode"] == "50390001"
    assert (line["status"], line["reason"]) == (503, "SERVICE_STOPPING")


async def test_an_answer_that_has_begun_is_not_begun_again() -> None:
    """Whoever is cut off in the middle of its answer gets no second one after it."""
    app = rest_app.build(SERVICES, InProcessChannel(), public_url=PUBLIC_URL)
    sent: list[MutableMapping[str, Any]] = []
    begun = asyncio.Event()

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)
        begun.set()
        await asyncio.Event().wait()

    scope = {"type": "http", "method": "GET", "path": "/problems", "headers": []}
    task = asyncio.ensure_future(app({**scope, "query_string": b""}, nothing_more, send))
    async with asyncio.timeout(GUARD):
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [message["type"] for message in sent] == ["http.response.start"]


async def nothing_more() -> MutableMapping[str, Any]:
    """Be the receiving side of a request without a body."""
    return {"type": "http.request", "body": b"", "more_body": False}


async def test_a_deadline_covers_the_body(deployment: Deployment) -> None:
    """A caller's `grpc-timeout` also ends the wait for a body that never comes."""
    stalled = request(headers=(FORM, b"grpc-timeout: 50m"), body=b"x").removesuffix(b"x")
    received = await answer_to(deployment.addresses.rest, stalled)
    assert received.status == 504
    assert json.loads(received.body)["karmoCode"] == "50430001"
    assert not deployment.upstream.requests


async def test_json_that_is_sent_as_a_form_is_recognised(deployment: Deployment) -> None:
    """Who forgets the Content-Type of JSON, as with `curl -d`, is told just that."""
    received = await answer_to(deployment.addresses.rest, request(body=b' {"grant_type": "x"}'))
    assert received.status == 400
    told = json.loads(received.body)["detail"]
    assert told == "The body is JSON; send it with Content-Type: application/json."


# Peers that know nothing of our problems


class Remote(RaisingServicer):
    """A servicer without our guard, which ends every call in one way."""

    def __init__(self, end: Callable[[Any], Any]) -> None:
        self._end = end

    async def ExchangeToken(  # noqa: N802 the name of the RPC
        self, _request: ExchangeTokenRequest, context: Any
    ) -> ExchangeTokenResponse:
        """End the call."""
        await self._end(context)
        return ExchangeTokenResponse()


async def answer_by(end: Callable[[Any], Any]) -> httpx2.Response:
    """Return what REST makes of a remote call that `end` ends."""
    async with AsyncExitStack() as stack, asyncio.timeout(GUARD):
        server = grpc.aio.server()
        add_TokenServiceServicer_to_server(Remote(end), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        stack.push_async_callback(server.stop, 0)
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        client = await stack.enter_async_context(
            client_of(await stack.enter_async_context(channel))
        )
        return await client.post(TOKEN, data=FIELDS)


def assert_problem(response: httpx2.Response, karmo_code: str) -> None:
    """Assert that `response` is the problem of that code, in the words of the catalogue."""
    (entry,) = (entry for entry in CATALOGUE.values() if entry.karmo_code == karmo_code)
    assert response.headers["content-type"] == PROBLEM_JSON
    assert_headers(response.headers)
    request_id = response.headers["x-request-id"]
    document = response.json()
    assert document.pop("error_description")
    assert document == {
        "type": f"{PUBLIC_URL}/problems/{entry.slug}",
        "title": entry.title,
        "status": entry.http_status,
        "detail": entry.explanation,
        "instance": f"urn:uuid:{request_id}",
        "karmoCode": karmo_code,
        "error": entry.oauth_error,
    }
    assert response.status_code == entry.http_status
    assert ("www-authenticate" in response.headers) == (response.status_code == 401)
    retry_after = str(entry.retry_after_seconds) if entry.retry_after_seconds else None
    assert response.headers.get("retry-after") == retry_after


# By the nearest problem of the HTTP status that google.rpc.Code gives each code.
CODES = {
    StatusCode.CANCELLED: "50090001",
    StatusCode.UNKNOWN: "50090001",
    StatusCode.INVALID_ARGUMENT: "40010001",
    StatusCode.DEADLINE_EXCEEDED: "50430001",
    StatusCode.NOT_FOUND: "40400001",
    StatusCode.ALREADY_EXISTS: "40930001",
    StatusCode.PERMISSION_DENIED: "40320001",
    StatusCode.RESOURCE_EXHAUSTED: "42930001",
    StatusCode.FAILED_PRECONDITION: "40010001",
    StatusCode.ABORTED: "40930001",
    StatusCode.OUT_OF_RANGE: "40010001",
    StatusCode.UNIMPLEMENTED: "50100001",
    StatusCode.INTERNAL: "50090001",
    StatusCode.UNAVAILABLE: "50330001",
    StatusCode.DATA_LOSS: "50090001",
    StatusCode.UNAUTHENTICATED: "40120001",
}


@pytest.mark.parametrize("code", [code for code in StatusCode if code is not StatusCode.OK])
async def test_a_bare_code_is_a_problem(code: StatusCode) -> None:
    """A peer that answers with a code alone is understood by it, and its words are not repeated."""

    async def end(context: Any) -> None:
        await context.abort(code, "canary of the peer")

    assert_problem(await answer_by(end), CODES[code])


def status_of(details: ProblemDetails, **replaced: Any) -> Status:
    """Return a status of UNAUTHENTICATED that carries `details`."""
    status = Status(code=StatusCode.UNAUTHENTICATED.value[0], message="canary of the peer")
    status.details.add().Pack(details)
    for name, value in replaced.items():
        setattr(status, name, value)
    return status


TOLD = ProblemDetails(
    type="https://peer.test/p", title="Peer", status=401, karmo_code="40199999", error="peer"
)
MANGLED = Packed(
    type_url=f"type.googleapis.com/{ProblemDetails.DESCRIPTOR.full_name}", value=b"\xff"
)
ONLY_INFO = Packed()
ONLY_INFO.Pack(ErrorInfo(reason="CANARY"))
USELESS: Mapping[str, bytes] = {
    "another code": status_of(TOLD, code=StatusCode.INTERNAL.value[0]).SerializeToString(),
    "another message": status_of(TOLD, message="canary").SerializeToString(),
    "no problem": Status(
        code=16, message="canary of the peer", details=[ONLY_INFO]
    ).SerializeToString(),
    "nothing": b"",
    "not a status": b"\xff\xff\xff",
    "not a problem": Status(
        code=16, message="canary of the peer", details=[MANGLED]
    ).SerializeToString(),
    "no HTTP status": status_of(ProblemDetails(title="Peer")).SerializeToString(),
    "a success": status_of(ProblemDetails(title="Peer", status=200)).SerializeToString(),
    "an interim status": status_of(ProblemDetails(title="Peer", status=100)).SerializeToString(),
    "a status beyond HTTP": status_of(ProblemDetails(status=1000)).SerializeToString(),
}


def end_with(details: bytes) -> Callable[[Any], Any]:
    """Return what ends a call as UNAUTHENTICATED with those details."""

    async def end(context: Any) -> None:
        trailers = (("grpc-status-details-bin", details),)
        await context.abort(StatusCode.UNAUTHENTICATED, "canary of the peer", trailers)

    return end


async def test_details_of_a_peer_are_the_problem() -> None:
    """The problem that a peer sends in its details is the answer, to the letter."""
    response = await answer_by(end_with(status_of(TOLD).SerializeToString()))
    assert response.status_code == 401
    assert response.json() == {
        "type": "https://peer.test/p",
        "title": "Peer",
        "status": 401,
        "karmoCode": "40199999",
        "error": "peer",
    }


@pytest.mark.parametrize("details", USELESS.values(), ids=USELESS)
async def test_details_that_make_no_sense_are_left_out(details: bytes) -> None:
    """Details that contradict the code, or that are no error, give way to the code."""
    assert_problem(await answer_by(end_with(details)), "40120001")


# Headers


def assert_headers(headers: Mapping[str, str], cache_control: str = "no-store") -> None:
    """Assert what every answer has in its head, and what none has."""
    assert headers["x-content-type-options"] == "nosniff"
    assert str(uuid.UUID(headers["x-request-id"])) == headers["x-request-id"]
    assert headers["cache-control"] == cache_control
    assert headers.get("pragma") == ("no-cache" if cache_control == "no-store" else None)
    assert not {"server", "set-cookie", "location", "access-control-allow-origin"} & headers.keys()


ANSWERS: Mapping[str, tuple[bytes, int]] = {
    "token": (request(body=BODY), 200),
    "options": (request("OPTIONS"), 204),
    "no body": (request(), 400),
    "no credentials": (request(body=b"grant_type=client_credentials"), 401),
    "unknown path": (request("GET", "/nothing"), 404),
    "root": (request("POST", "/"), 405),
    "trailing slash": (request(target=f"{TOKEN}/", body=BODY), 404),
    "unknown page": (request("GET", "/problems/nothing"), 404),
    "page with a slash": (request("GET", "/problems/"), 404),
    "options of nothing": (request("OPTIONS", "/nothing"), 404),
    "get": (request("GET"), 405),
    "head": (request("HEAD"), 405),
    "unknown method": (request("BREW"), 405),
    "too large": (request(body=b"a" * 16385), 413),
    "no type": (request(headers=(), body=BODY), 415),
    "compressed": (request(headers=(FORM, b"Content-Encoding: gzip"), body=BODY), 415),
}


@pytest.mark.parametrize(("data", "status"), ANSWERS.values(), ids=ANSWERS)
async def test_every_answer_has_its_headers(
    deployment: Deployment, data: bytes, status: int
) -> None:
    """No answer of the API may be stored, sniffed or traced to a server product."""
    received = await answer_to(deployment.addresses.rest, data)
    assert received.status == status
    assert_headers(received.headers)
    if status >= 400:
        assert received.headers["content-type"] == PROBLEM_JSON
        assert received.headers["vary"] == "Accept"
        assert received.headers["content-language"] == "en"
    assert ("www-authenticate" in received.headers) == (status == 401)
    assert ("allow" in received.headers) == (status in {204, 405})


async def test_an_answer_to_head_has_no_body(deployment: Deployment) -> None:
    """HEAD is refused like GET, with the length of the body that GET has, and without the body."""
    head = await answer_to(deployment.addresses.rest, request("HEAD"))
    get = await answer_to(deployment.addresses.rest, request("GET"))
    assert (head.body, head.headers["content-length"]) == (b"", get.headers["content-length"])
    assert head.headers["allow"] == get.headers["allow"] == "POST, OPTIONS"


async def test_the_identity_of_a_request_goes_upstream(
    deployment: Deployment, request_id: str
) -> None:
    """The request id and the trace that a client sends reach the auth-api, if they are ones."""
    trace = f"00-{uuid.uuid4().hex}-{'b' * 16}-01"
    for sent, told in ((trace, [f"traceparent: {trace}"]), (f"{trace}-canary", [])):
        headers = (FORM, f"X-Request-Id: {request_id}".encode(), f"traceparent: {sent}".encode())
        received = await answer_to(deployment.addresses.rest, request(headers=headers, body=BODY))
        assert (received.status, received.headers["x-request-id"]) == (200, request_id)
        lines = deployment.upstream.requests.pop().decode().split("\r\n")
        assert f"X-Request-Id: {request_id}" in lines
        assert [line for line in lines if line.lower().startswith("traceparent")] == told


@pytest.mark.parametrize("sent", ["canary", "", "canary\tcanary", "0" * 36])
async def test_a_request_id_of_another_form_is_replaced(deployment: Deployment, sent: str) -> None:
    """An X-Request-Id that is no UUID is not returned, but a new one is."""
    headers = (FORM, f"X-Request-Id: {sent}".encode())
    received = await answer_to(deployment.addresses.rest, request(headers=headers))
    assert_headers(received.headers)
    instance = json.loads(received.body)["instance"]
    assert instance == f"urn:uuid:{received.headers['x-request-id']}"
    assert "canary" not in str(received)


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ((), PROBLEM_JSON),
        (("*/*",), PROBLEM_JSON),
        (("text/html",), PROBLEM_JSON),
        ((JSON,), JSON),
        (("text/html, application/json;q=0.1",), JSON),
        (("text/html", JSON), JSON),
        ((f"{JSON}, {PROBLEM_JSON}",), PROBLEM_JSON),
        ((f"{JSON}, {PROBLEM_JSON};q=0",), JSON),
        ((f"{JSON};q=0",), PROBLEM_JSON),
        (("application/*",), PROBLEM_JSON),
        (("nonsense",), PROBLEM_JSON),
    ],
)
async def test_the_media_type_of_a_problem_is_chosen(
    deployment: Deployment, accept: tuple[str, ...], chosen: str
) -> None:
    """A problem is called JSON only for a client that names that, and not problem+json."""
    headers = (FORM, *(f"Accept: {value}".encode() for value in accept))
    received = await answer_to(deployment.addresses.rest, request(headers=headers))
    assert received.headers["content-type"] == chosen
    assert json.loads(received.body)["karmoCode"] == "40010001"


# Problem pages


async def page(deployment: Deployment, target: str, *headers: str, method: str = "GET") -> Received:
    """Return the answer to a request for a page."""
    data = request(method, target, headers=[header.encode() for header in headers])
    return await answer_to(deployment.addresses.rest, data)


PAGES = ("/problems", *(f"/problems/{entry.slug}" for entry in CATALOGUE.values()))
CACHED = "public, max-age=3600"
BROWSER = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize("target", PAGES)
async def test_every_problem_has_its_page(deployment: Deployment, target: str) -> None:
    """The type of each problem leads to a page for people, which may be stored."""
    received = await page(deployment, target)
    assert received.status == 200
    assert received.headers["content-type"] == "text/html; charset=utf-8"
    assert_headers(received.headers, CACHED)
    text = received.body.decode()
    slug = target.removeprefix("/problems").removeprefix("/")
    shown = [entry for entry in CATALOGUE.values() if slug in {"", entry.slug}]
    assert all(entry.karmo_code in text and entry.title in text for entry in shown)


@pytest.mark.parametrize("target", ["/problems", "/problems/not-found"])
async def test_head_of_a_page_is_its_head(deployment: Deployment, target: str) -> None:
    """HEAD gives what GET does, without the body."""
    get, head = await page(deployment, target), await page(deployment, target, method="HEAD")
    assert (head.status, head.body) == (200, b"")
    differing = {"date", "x-request-id"}
    assert {**head.headers, **dict.fromkeys(differing)} == {
        **get.headers,
        **dict.fromkeys(differing),
    }


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "BREW"])
@pytest.mark.parametrize("target", ["/problems", "/problems/not-found"])
async def test_a_page_can_only_be_read(deployment: Deployment, target: str, method: str) -> None:
    """Another method is refused as a problem that tells the right ones (RFC 9110 15.5.6)."""
    received = await page(deployment, target, method=method)
    assert (received.status, json.loads(received.body)["karmoCode"]) == (405, "40500001")
    assert {name.strip() for name in received.headers["allow"].split(",")} >= {"GET", "HEAD"}
    assert_headers(received.headers)


@pytest.mark.parametrize("slug", ["nothing", "Not-Found", "%2e%2e", "a/b", "not-found/"])
async def test_a_page_that_is_not_there_is_a_problem(deployment: Deployment, slug: str) -> None:
    """An unknown page is a 404 problem, also for a browser, and it may not be stored."""
    received = await page(deployment, f"/problems/{slug}", BROWSER)
    assert (received.status, json.loads(received.body)["karmoCode"]) == (404, "40400001")
    assert received.headers["content-type"] == PROBLEM_JSON
    assert_headers(received.headers)


# A service that is added

LIBRARY = service(
    method("Find", HttpRule(get="/v1/{shelf.name=shelves/*}/books"), takes="Book"),
    method("Shelve", HttpRule(post="/v1/books/{name}:shelve", body="shelf"), takes="Book"),
)


async def tell_shelf(request: Any, _context: object) -> Any:
    """Tell the shelf of a book."""
    return Receipt(name=request.shelf.name, shelf_code=request.shelf.shelf_code)


@pytest.mark.parametrize(
    ("sent", "cache_control", "coding"),
    [
        (None, "no-store", None),
        ("no-store", "no-store", None),
        ("private, max-age=60", "private, max-age=60", "gzip"),
    ],
)
async def test_what_is_not_stored_is_not_compressed(
    sent: str | None, cache_control: str, coding: str | None
) -> None:
    """A service that asks for gzip gets it for no response that has no-store in the end."""

    async def tell(_request: Any, context: Any) -> Any:
        await context.send_initial_metadata((("cache-control", sent),) if sent else ())
        return Receipt(name="a" * 5000)

    channel = InProcessChannel()
    channel.add_generic_rpc_handlers((handler_of(tell, LIBRARY),))
    options = Options(gzip_min_bytes=1, response_headers=frozenset({"cache-control"}))
    async with client_of(channel, {LIBRARY: options}) as client:
        response = await client.get("/v1/shelves/a/books", headers={"Accept-Encoding": "gzip"})
    assert response.headers["cache-control"] == cache_control
    assert response.headers.get("content-encoding") == coding
    assert response.json()["name"] == "a" * 5000


async def test_another_service_needs_no_code(request_id: str) -> None:
    """A service by its descriptor and its handlers alone has routes, bindings and problems."""
    channel = InProcessChannel()
    channel.add_generic_rpc_handlers((handler_of(tell_shelf, LIBRARY),))
    async with client_of(channel, {LIBRARY: Options(ignore_unknown=True)}) as client:
        found = await client.get("/v1/shelves/a%2Fb/books?title=t&x=1")
        shelved = await client.post("/v1/books/b:shelve", json={"shelfCode": "c"})
        wrong = await client.post(
            "/v1/books/b:shelve?mood=x",
            json={"name": 1, "theme": False},
            headers={"X-Request-Id": request_id},
        )
    assert (found.status_code, found.json()["name"]) == (200, "shelves/a%2Fb")
    assert (shelved.status_code, shelved.json()["shelfCode"]) == (200, "c")
    problem = wrong.json()
    assert (wrong.status_code, problem["instance"]) == (400, f"urn:uuid:{request_id}")
    assert (
        problem["detail"]
        == "mood in the query must be one of MOOD_UNSPECIFIED, MOOD_MERRY, MOOD_GLOOMY."
    )
    assert problem["karmoErrors"] == [
        {"detail": "name must be a string.", "pointer": "/name"},
        {"detail": "theme must be a string.", "pointer": "/theme"},
    ]
