"""Tests of the explanation of requests to the REST listener: its pages, and its problems."""

from collections.abc import Mapping

import httpx2
import pytest
from starlette.types import ASGIApp

from sidecar.api import CHECKS, EXAMPLES, SERVICES
from sidecar.in_process import InProcessChannel
from sidecar.rest import app
from sidecar.rest.request_explainer import RequestExplainer
from sidecar.transcoding.explanation.http_request import HttpRequest
from tests.ways import Deployment, basic

EXPLAINER = RequestExplainer(SERVICES, EXAMPLES, CHECKS)
TOKEN, FORM = "/v1/oauth/token", "application/x-www-form-urlencoded"
# Method, target, media type of the body, and body.
Sent = tuple[str, str, str, str]
REQUESTS: Mapping[str, Sent] = {
    "a page": ("GET", "/docs", "", ""),
    "the head of a page": ("HEAD", "/problems", "", ""),
    "the root": ("GET", "/", "", ""),
    "a page by POST": ("POST", "/docs", "", ""),
    "an unknown problem": ("GET", "/problems/nope", "", ""),
    "a page and a slash": ("GET", "/docs/", "", ""),
    "another path": ("GET", "/nope", "", ""),
    "a slash": ("POST", f"{TOKEN}/", "", ""),
    "GET": ("GET", TOKEN, "", ""),
    "OPTIONS": ("OPTIONS", TOKEN, "", ""),
    "no media type": ("POST", TOKEN, "", "grant_type=client_credentials"),
    "a secret in the query": ("POST", f"{TOKEN}?client_secret=canary", FORM, "grant_type=x"),
    "a repeated parameter": ("POST", TOKEN, FORM, "grant_type=x&grant_type=x"),
    "no JSON": ("POST", TOKEN, "application/json", "{"),
    "a large body": ("POST", TOKEN, FORM, "a" * 20_000),
}


def request_of(sent: Sent) -> HttpRequest:
    """Return a request as the command line has it."""
    method, target, media_type, body = sent
    headers = (("Content-Type", media_type),) if media_type else ()
    return HttpRequest(method=method, target=target, headers=headers, body=body.encode())


@pytest.fixture(name="served", scope="module")
def _served() -> ASGIApp:
    # Without a servicer: no request of these tests may become a call.
    return app.build(SERVICES, InProcessChannel(), public_url="http://localhost")


@pytest.mark.parametrize("sent", REQUESTS.values(), ids=REQUESTS)
async def test_the_application_agrees(sent: Sent, served: ASGIApp) -> None:
    """The status, and the problem of a refusal, are those of the application that serves."""
    method, target, media_type, body = sent
    headers = {"Content-Type": media_type} if media_type else {}
    transport = httpx2.ASGITransport(app=served)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        response = await client.request(method, target, headers=headers, content=body)
    explanation, lines = await EXPLAINER.explain(request_of(sent))
    assert explanation.status == response.status_code
    assert explanation.is_refused is (response.status_code >= 400)
    problems = [line for line in lines if line.startswith("problem")]
    if not explanation.is_refused:
        assert problems == []
        return
    problem = response.json()
    slug = problem["type"].rpartition("/")[2]
    assert problems == [f"problem   {slug}, karmoCode {problem['karmoCode']}"]
    assert not explanation.detail or explanation.detail == problem["detail"]
    assert explanation.headers.get("Allow") == response.headers.get("Allow")
    assert "canary" not in str(lines)


async def test_a_call_has_no_problem() -> None:
    """A request that becomes a call has neither a page nor a problem, and its secret is masked."""
    body = "grant_type=client_credentials&client_id=b&client_secret=canary&scope=c"
    sent = ("POST", f"{TOKEN}?x=1", FORM, body)
    explanation, lines = await EXPLAINER.explain(request_of(sent))
    assert explanation.status is None
    assert lines[1:] == [
        "rule      POST /v1/oauth/token, body: *",
        "method    karmo.auth.v1.TokenService/ExchangeToken",
        'field     grant_type = "client_credentials" from the body',
        'field     client_id = "b" from the body',
        'field     client_secret = "***" from the body',
        "ignored   x in the query must be the name of a field.",
        "ignored   scope must be the name of a field. (/scope)",
    ]


GRANT = "grant_type=client_credentials"
# Bodies of a form, each with the values of Authorization beside it.
CALLS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "good": (f"{GRANT}&client_id=a&client_secret=canary", ()),
    "good Basic": (GRANT, (basic(),)),
    "a line end after the secret": (f"{GRANT}&client_id=a&client_secret=canary\n", ()),
    "a space before the identifier": (f"{GRANT}&client_id=+%C3%A9&client_secret=canary", ()),
    "a secret in another alphabet": (f"{GRANT}&client_id=a&client_secret=canary%C3%A9canary", ()),
    "a line end after the grant type": (f"client_id=a&client_secret=canary&{GRANT}%0A", ()),
    "another grant type": ("grant_type=password&client_id=a&client_secret=canary", ()),
    "nothing": ("", ()),
    "no secret": (f"{GRANT}&client_id=a", ()),
    "two ways": (f"{GRANT}&client_secret=canary", (basic(),)),
    "another identifier": (f"{GRANT}&client_id=a", (basic(),)),
    "another scheme": (GRANT, ("Bearer canary",)),
    "two headers": (GRANT, (basic(), basic())),
    "a malformed header and two fields": ("client_id=%0A&grant_type=x", ("Basic canary",)),
}


@pytest.mark.parametrize(("body", "authorization"), CALLS.values(), ids=CALLS)
async def test_the_method_agrees(
    body: str, authorization: tuple[str, ...], deployment: Deployment
) -> None:
    """What the method refuses by itself is explained by the problem that the server answers."""
    headers = (("Content-Type", FORM), *(("Authorization", value) for value in authorization))
    response = await deployment.rest.post(TOKEN, headers=[*headers], content=body)
    explanation, lines = await EXPLAINER.explain(
        HttpRequest(method="POST", target=TOKEN, headers=headers, body=body.encode())
    )
    assert "canary" not in f"{lines}{explanation}"
    if response.status_code == 200:
        assert explanation.status is None
        return
    assert not deployment.upstream.requests  # the auth-api was not asked
    problem = response.json()
    assert explanation.status == response.status_code
    assert lines[0].startswith(f"result    refused: {response.status_code} ")
    slug = problem["type"].rpartition("/")[2]
    assert lines[-1] == f"problem   {slug}, karmoCode {problem['karmoCode']}"
    assert explanation.detail == problem["detail"]
    reasons = [each for each in explanation.violations if each.pointer is not None]
    assert [{"detail": each.detail, "pointer": each.pointer} for each in reasons] == problem.get(
        "karmoErrors", []
    )
    assert problem["detail"] in "\n".join(line for line in lines if line.startswith("reason"))
    assert explanation.headers.get("WWW-Authenticate") == response.headers.get("WWW-Authenticate")


async def test_a_line_end_after_the_secret_is_named() -> None:
    """The line end that a shell adds to a body is named with its place; the secret is masked."""
    sent = ("POST", TOKEN, FORM, f"{GRANT}&client_id=a&client_secret=canary\n")
    _, lines = await EXPLAINER.explain(request_of(sent))
    assert lines[0] == "result    refused: 400 Bad Request"
    assert lines[-3:] == [
        'field     client_secret = "***" from the body',
        (
            "reason    client_secret ends with a line end; it must hold printable ASCII characters "
            "only. (/client_secret)"
        ),
        "problem   invalid-request, karmoCode 40010001",
    ]


async def test_a_page_is_named() -> None:
    """A request that a page takes, also one that it refuses, names the path of the page."""
    for sent, status in (
        (REQUESTS["a page"], "answered without a call: 200 OK"),
        (REQUESTS["an unknown problem"], "refused: 404 Not Found"),
    ):
        _, lines = await EXPLAINER.explain(request_of(sent))
        assert lines[0] == f"result    {status}"
        assert any(line.startswith("page      /") for line in lines)


def test_every_route_is_listed() -> None:
    """The table has the route of the method and those of all pages."""
    head, *rows = EXPLAINER.list_routes()
    assert head.split() == ["METHOD", "PATH", "SERVED", "BY", "BODY", "RESPONSE"]
    assert rows[0].split() == [
        *("POST", TOKEN, "karmo.auth.v1.TokenService/ExchangeToken", "*", "*")
    ]
    pages = [row.split()[2] for row in rows[1:]]
    assert {"/", "/docs", "/openapi.json", "/problems", "/problems/{slug}"} <= set(pages)
    assert all(row.startswith("GET, HEAD  ") for row in rows[1:])
