"""Tests of REST only: the rules of HTTP around the call, and the exact responses."""

import asyncio
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import NoReturn, cast

import grpc
import httpx2
import pytest
from karmo.auth.v1.token_service_pb2 import ExchangeTokenRequest, ExchangeTokenResponse
from karmo.auth.v1.token_service_pb2_grpc import (
    add_TokenServiceServicer_to_server,
)

from sidecar.api import SERVICES
from sidecar.in_process import InProcessChannel
from sidecar.interceptors.error_boundary import ErrorBoundary
from sidecar.rest import app as rest_app
from tests.channels import BuggyChannel
from tests.contract.checks import PROBLEM_JSON, check
from tests.contract.expected import (
    CONTENT_TOO_LARGE,
    INTERNAL,
    INVALID_CLIENT,
    INVALID_REQUEST,
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    UPSTREAM_TIMEOUT,
    ExpectedProblem,
)
from tests.contract.rest_cases import ACCEPTED, FORM, FORM_BODY, JSON, PATH, REFUSED, RestCase
from tests.raw_http import GUARD, Received, answer_to, request, sent
from tests.servicers import RaisingServicer
from tests.upstream import TOKEN
from tests.ways import PUBLIC_URL, Deployment, Outcome, basic

# Header fields that only some problems have.
PROBLEM_HEADERS = ("allow", "accept", "accept-encoding", "connection")
FORM_FIELD = f"Content-Type: {FORM}".encode()


async def send(deployment: Deployment, case: RestCase) -> httpx2.Response:
    """Send the request of `case` over a socket."""
    headers = [
        (name.encode(), value.encode() if isinstance(value, str) else value)
        for name, value in case.headers
    ]
    return await deployment.rest.request(
        case.method, case.target, headers=headers, content=case.body
    )


def outcome_of(response: httpx2.Response | Received) -> Outcome:
    """Return the outcome in a response."""
    if isinstance(response, Received):
        body, status = json.loads(response.body), response.status
    else:
        body, status = response.json(), response.status_code
    return Outcome(problem=body, status=status, headers=response.headers)


@pytest.mark.parametrize("case", ACCEPTED.values(), ids=ACCEPTED)
async def test_accepted(case: RestCase, deployment: Deployment) -> None:
    """A permitted request has its token, and no unknown field goes upstream."""
    response = await send(deployment, case)
    assert (response.status_code, response.json()) == (200, TOKEN)
    (raw,) = deployment.upstream.requests
    assert b"canary" not in raw
    assert raw.endswith((b"\r\n\r\n" + FORM_BODY, b"\r\n\r\ngrant_type=client_credentials"))


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
async def test_refused(case: RestCase, deployment: Deployment) -> None:
    """A forbidden request has its problem, which quotes nothing, and does not go upstream."""
    response = await send(deployment, case)
    assert case.problem is not None
    check(outcome_of(response), case.problem)
    headers = {name: response.headers[name] for name in PROBLEM_HEADERS if name in response.headers}
    assert headers == case.answer
    assert "canary" not in str(response.headers) + response.text
    assert not deployment.upstream.requests


async def test_the_token_response_is_exact(deployment: Deployment) -> None:
    """R33 R34: exactly three members, an integer lifetime, and only the expected headers."""
    response = await send(deployment, RestCase())
    assert response.status_code == 200
    assert list(response.json()) == ["access_token", "token_type", "expires_in"]
    assert re.search(rb'"expires_in": ?3600\}$', response.content)
    assert uuid.UUID(response.headers["x-request-id"]).version == 4
    assert response.headers.keys() - {"date", "x-request-id"} == {
        "content-type",
        "content-length",
        "cache-control",
        "pragma",
        "x-content-type-options",
    }
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["pragma"] == "no-cache"
    assert response.headers["x-content-type-options"] == "nosniff"


# Methods and targets


async def test_head_is_refused_without_a_body(deployment: Deployment) -> None:
    """R1: the answer to HEAD is that to GET without the body."""
    received = await answer_to(deployment.addresses.rest, request("HEAD"))
    assert (received.status, received.body) == (405, b"")
    assert received.headers["allow"] == "POST, OPTIONS"
    assert received.headers["content-type"] == PROBLEM_JSON
    assert received.headers["cache-control"] == "no-store"


async def test_a_method_is_case_sensitive(deployment: Deployment) -> None:
    """R1: `post` is not POST (RFC 9110 section 9.1)."""
    data = request("post", headers=[FORM_FIELD], body=FORM_BODY)
    received = await answer_to(deployment.addresses.rest, data)
    check(outcome_of(received), METHOD_NOT_ALLOWED)
    assert not deployment.upstream.requests


@pytest.mark.parametrize("query", ["", "?client_secret=canary"])
async def test_options_tells_the_methods(deployment: Deployment, query: str) -> None:
    """R2: OPTIONS has an empty answer with Allow and without CORS; nothing goes upstream."""
    preflight = {
        "Origin": "https://canary.test",
        "Access-Control-Request-Method": "POST",
        "Authorization": basic(),
    }
    response = await deployment.rest.options(PATH + query, headers=preflight)
    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["allow"] == "POST, OPTIONS"
    assert response.headers["cache-control"] == "no-store"
    assert not [name for name in response.headers if name.startswith("access-control-")]
    assert "content-type" not in response.headers
    assert not deployment.upstream.requests


async def test_options_of_no_path_is_not_found(deployment: Deployment) -> None:
    """R4: OPTIONS of an unknown path is 404."""
    check(outcome_of(await deployment.rest.options("/canary")), NOT_FOUND)


TARGETS: Mapping[str, tuple[str, ExpectedProblem | None]] = {
    "an escape": ("/v1/oauth/%74oken", None),
    "absolute form": (f"http://sidecar.test{PATH}", None),  # RFC 9112 section 3.2.2: MUST
    "a malformed escape": ("/v1/oauth/%zz", INVALID_REQUEST),
    "an escape that is not UTF-8": ("/v1/oauth/%ff", INVALID_REQUEST),
    "dots": ("/v1/x/../oauth/token", NOT_FOUND),
    "slashes in front": (f"/{PATH}", NOT_FOUND),
    "an authority": ("sidecar.test:80", NOT_FOUND),
}


@pytest.mark.parametrize(("target", "problem"), TARGETS.values(), ids=TARGETS)
async def test_targets(
    deployment: Deployment, target: str, problem: ExpectedProblem | None
) -> None:
    """R4: a target reaches the endpoint if its path is the same in any spelling."""
    received = await answer_to(
        deployment.addresses.rest, request(target=target, headers=[FORM_FIELD], body=FORM_BODY)
    )
    assert len(deployment.upstream.requests) == (problem is None)
    if problem is None:
        assert json.loads(received.body) == TOKEN
    else:
        check(outcome_of(received), problem)


# The body on the wire

HEAD = b"POST /v1/oauth/token HTTP/1.1\r\nHost: sidecar.test\r\n" + FORM_FIELD + b"\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
TOO_LARGE: Mapping[str, bytes] = {
    "by Content-Length": HEAD + b"Content-Length: 16385\r\n\r\n",
    "by 19 digits": HEAD + b"Content-Length: 9999999999999999999\r\n\r\n",
    "by Content-Length, asking first": HEAD
    + b"Content-Length: 16385\r\nExpect: 100-continue\r\n\r\n",
    "by one chunk": CHUNKED + b"4001\r\n" + b"x" * 0x4001,
    "by many chunks": CHUNKED + b"400\r\n%b\r\n" % (b"x" * 0x400) * 17,
}


@pytest.mark.parametrize("data", TOO_LARGE.values(), ids=TOO_LARGE)
async def test_a_body_over_the_limit_ends_the_connection(
    deployment: Deployment, data: bytes
) -> None:
    """R17: 413 is sent at once, before the rest of the body, and the connection is closed."""
    received = await answer_to(deployment.addresses.rest, data)
    check(outcome_of(received), CONTENT_TOO_LARGE)
    assert received.headers["connection"] == "close"
    assert not deployment.upstream.requests


async def test_a_chunked_body_is_read(deployment: Deployment) -> None:
    """R17: a body without a length is read to its end."""
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in FORM_BODY)
    data = CHUNKED.replace(b"Host", b"Connection: close\r\nHost") + chunks + b"0\r\n\r\n"
    received = await answer_to(deployment.addresses.rest, data)
    assert json.loads(received.body) == TOKEN


async def test_a_refusal_leaves_the_connection_open(deployment: Deployment) -> None:
    """R50: after a problem other than 413 the connection serves the next request."""
    wrong = b"PUT" + HEAD[4:] + b"Content-Length: 4\r\n\r\nbody"
    right = request(headers=[FORM_FIELD], body=FORM_BODY)
    async with asyncio.timeout(GUARD), sent(deployment.addresses.rest, wrong + right) as reader:
        answers = await reader.read()
    assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"405", b"200"]


# The media type of a problem

ACCEPT: Mapping[str, tuple[Sequence[str], str]] = {
    "none": ((), PROBLEM_JSON),
    "JSON": (["application/json"], JSON),
    "JSON in capitals": (["Application/JSON"], JSON),
    "JSON with a parameter": (["application/json; charset=utf-8"], JSON),
    "JSON among others": (["text/html, application/json;q=0.1, */*;q=0.9"], JSON),
    "JSON in another field": (["text/html", "application/json"], JSON),
    "JSON, and problems refused": (["application/json, application/problem+json;q=0"], JSON),
    "problems": (["application/problem+json"], PROBLEM_JSON),
    "both": (["application/json, application/problem+json;q=0.1"], PROBLEM_JSON),
    "both in two fields": (["application/json", "application/problem+json"], PROBLEM_JSON),
    "anything": (["*/*"], PROBLEM_JSON),
    "any application": (["application/*"], PROBLEM_JSON),
    "HTML": (["text/html"], PROBLEM_JSON),
    "JSON refused": (["application/json;q=0"], PROBLEM_JSON),
    "JSON refused at length": (["application/json ; Q=0.000, */*"], PROBLEM_JSON),
    "another JSON": (["application/ld+json, text/json"], PROBLEM_JSON),
    "within quotes": (['text/x;y="application/json, application/json"'], PROBLEM_JSON),
    "nothing": ([""], PROBLEM_JSON),
    "nonsense": (["application/json;q=canary, ;;,/"], PROBLEM_JSON),
}


@pytest.mark.parametrize(("accept", "media_type"), ACCEPT.values(), ids=ACCEPT)
async def test_the_media_type_of_a_problem(
    deployment: Deployment, accept: Sequence[str], media_type: str
) -> None:
    """R47: problems are problem+json, or plain JSON if a client accepts only that."""
    fields = [FORM_FIELD, *(f"Accept: {value}".encode() for value in accept)]
    data = request(headers=fields, body=b"grant_type=client_credentials")
    received = await answer_to(deployment.addresses.rest, data)
    check(outcome_of(received), INVALID_CLIENT, media_type)


# Header fields that are passed on


async def test_a_deadline_that_passes_is_a_timeout(deployment: Deployment) -> None:
    """An expired grpc-timeout of the caller ends the call, here before the upstream."""
    case = RestCase(headers=(("Content-Type", FORM), ("grpc-timeout", "1n")))
    check(outcome_of(await send(deployment, case)), UPSTREAM_TIMEOUT)


@pytest.mark.parametrize("kept", [str(uuid.UUID(int=7)), str(uuid.UUID(int=2**128 - 1)).upper()])
async def test_a_request_id_that_is_a_uuid_is_kept(deployment: Deployment, kept: str) -> None:
    """R49: a UUID of the caller is the request id in the answer, the problem and upstream."""
    fields = (("Content-Type", FORM), ("X-Request-Id", kept))
    refused = await send(deployment, RestCase(headers=fields, body=b""))
    check(outcome_of(refused), INVALID_REQUEST.at("/grant_type"))
    assert refused.headers["x-request-id"] == kept
    accepted = await send(deployment, RestCase(headers=fields))
    assert accepted.headers["x-request-id"] == kept
    assert f"X-Request-Id: {kept}\r\n".encode() in deployment.upstream.requests[0]


@pytest.mark.parametrize(
    "replaced", ["canary", "", "{00000000-0000-0000-0000-000000000007}", "0" * 32, b"\xe9canary"]
)
async def test_a_request_id_of_another_form_is_replaced(
    deployment: Deployment, replaced: str | bytes
) -> None:
    """R49: a request id that is not a UUID is replaced by a new one everywhere."""
    fields = (("Content-Type", FORM), ("X-Request-Id", replaced))
    response = await send(deployment, RestCase(headers=fields))
    request_id = response.headers["x-request-id"]
    assert uuid.UUID(request_id).version == 4
    assert f"X-Request-Id: {request_id}\r\n".encode() in deployment.upstream.requests[0]
    assert b"canary" not in deployment.upstream.requests[0]


TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACES = {
    TRACE: True,
    TRACE.upper(): False,
    TRACE.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32): False,
    TRACE.replace("00f067aa0ba902b7", "0" * 16): False,
    "01" + TRACE[2:]: False,
    TRACE + "-canary": False,
    "": False,
}


@pytest.mark.parametrize(("trace", "passes"), TRACES.items())
async def test_traceparent(deployment: Deployment, trace: str, passes: bool) -> None:
    """A valid traceparent goes upstream unchanged; an invalid one does not."""
    fields = (("Content-Type", FORM), ("traceparent", trace))
    response = await send(deployment, RestCase(headers=fields))
    assert response.json() == TOKEN
    sent_upstream = re.findall(rb"(?i)\r\n(traceparent[^\r]*)", deployment.upstream.requests[0])
    assert sent_upstream == ([f"traceparent: {trace}".encode()] if passes else [])


async def test_no_other_field_goes_upstream(deployment: Deployment) -> None:
    """R32: no other header field goes upstream, not even one of a proxy."""
    names = ("X-Forwarded-For", "Forwarded", "Cookie", "Client-Cert", "tracestate", "grpc-canary")
    fields = (("Content-Type", FORM), *((name, "canary") for name in names))
    response = await send(deployment, RestCase(headers=fields))
    assert response.json() == TOKEN
    assert b"canary" not in deployment.upstream.requests[0]


# Bugs of the sidecar

Context = grpc.aio.ServicerContext[ExchangeTokenRequest, ExchangeTokenResponse]


class Broken(RaisingServicer):
    """A servicer with a bug, whose text holds what it was sent."""

    async def ExchangeToken(  # noqa: N802 the name of the RPC
        self, request: ExchangeTokenRequest, context: Context
    ) -> NoReturn:
        """Raise RuntimeError."""
        raise RuntimeError(f"canary {request.client_secret} {context}")


def broken_channel(*interceptors: grpc.aio.ServerInterceptor) -> InProcessChannel:
    """Return a channel to the servicer with a bug."""
    channel = InProcessChannel(interceptors=interceptors)
    add_TokenServiceServicer_to_server(Broken(), cast("grpc.aio.Server", channel))
    return channel


async def post_to(channel: InProcessChannel) -> httpx2.Response:
    """Post a token request to an application over `channel`."""
    app = rest_app.build(SERVICES, channel, public_url=PUBLIC_URL)
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://sidecar.test") as client:
        return await client.post(PATH, content=FORM_BODY, headers={"Content-Type": FORM})


@pytest.mark.parametrize(
    "interceptors", [(ErrorBoundary(PUBLIC_URL),), ()], ids=["guarded", "bare"]
)
async def test_a_bug_behind_the_channel(
    interceptors: tuple[grpc.aio.ServerInterceptor, ...],
) -> None:
    """R50: an exception of a servicer is a problem without its text, even without a boundary."""
    response = await post_to(broken_channel(*interceptors))
    check(outcome_of(response), INTERNAL)
    assert "canary" not in str(response.headers) + response.text


async def test_a_bug_in_the_application() -> None:
    """R50: an exception in the application itself is a complete problem."""
    response = await post_to(BuggyChannel())
    check(outcome_of(response), INTERNAL)
    assert "canary" not in response.text
