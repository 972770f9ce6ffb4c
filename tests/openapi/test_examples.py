"""Tests of the examples in the OpenAPI document: a running server gives exactly these problems."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from sidecar.api import EXAMPLES, SERVICES
from sidecar.http_server.listener import HttpListener
from sidecar.in_process import InProcessChannel
from sidecar.process import sockets
from sidecar.rest import app as rest_app
from sidecar.settings.types import Address
from sidecar.transcoding import Options
from tests.contract.test_rest_only import broken_channel, post_to
from tests.openapi.described import DOCUMENT, Tree
from tests.raw_http import FORM, GUARD, answer_to, request, sent
from tests.transcoding import library
from tests.transcoding.asgi import Exchange
from tests.upstream import TOKEN, Hold, answer
from tests.ways import PUBLIC_URL, Deployment, basic, open_deployment

PATH = "/v1/oauth/token"
GRANT = {"grant_type": "client_credentials"}
CREDENTIALS = {"client_id": "demo-partner", "client_secret": "demo-secret"}
PROBLEM_JSON = "application/problem+json"
# Of the committed copy, with the public URL of the tests.
PROBLEMS: Mapping[str, Tree] = {
    slug: json.loads(
        json.dumps(example["value"]).replace(DOCUMENT["servers"][0]["url"], PUBLIC_URL)
    )
    for slug, example in DOCUMENT["components"]["examples"].items()
}

# Makes a server respond with one problem, and returns the body.
Cause = Callable[[Deployment], Awaitable[bytes]]


def asked(method: str = "POST", path: str = PATH, **request: Any) -> Cause:
    """Return the cause of a problem that only a request is."""

    async def cause(deployment: Deployment) -> bytes:
        return (await deployment.rest.request(method, path, **request)).content

    return cause


def answered(reply: bytes) -> Cause:
    """Return the cause of a problem that an answer of the auth-api is."""

    async def cause(deployment: Deployment) -> bytes:
        deployment.upstream.reply = reply
        return (await deployment.rest.post(PATH, data={**GRANT, **CREDENTIALS})).content

    return cause


def raw(data: bytes) -> Cause:
    """Return the cause of a problem that the bytes of a request are."""

    async def cause(deployment: Deployment) -> bytes:
        return (await answer_to(deployment.addresses.rest, data)).body

    return cause


def refused(status: int, error: str) -> Cause:
    """Return the cause of a problem that an OAuth error of the auth-api is."""
    return answered(answer(status, {"error": error}))


async def reported(deployment: Deployment) -> bytes:
    """Cause the problem of a resource that the auth-api does not find.

    Only a problem document reports it, with a code and a detail, which are relayed.
    """
    example = PROBLEMS["resource-not-found"]
    document = {name: example[name] for name in ("karmoCode", "detail")}
    return await answered(answer(404, document, PROBLEM_JSON))(deployment)


async def broken(_deployment: Deployment) -> bytes:
    """Cause the problem of a bug, by a servicer that has one."""
    return (await post_to(broken_channel())).content


async def unserved(_deployment: Deployment) -> bytes:
    """Cause the problem of a method that takes a stream of requests, which no service here has."""
    fed = library.service(library.method("Feed", library.post("/v1/feed"), streams="client"))
    app = rest_app.build({fed: Options()}, InProcessChannel(), public_url=PUBLIC_URL)
    return (await Exchange(path="/v1/feed").run(app)).body


async def stalled(_deployment: Deployment) -> bytes:
    """Cause the problem of a request whose body does not come."""
    head = request(headers=(FORM,), body=b"x").removesuffix(b"x")
    async with open_deployment(header_timeout="1s", request_timeout="2s") as impatient:
        return (await answer_to(impatient.addresses.rest, head)).body


async def guessed(deployment: Deployment) -> bytes:
    """Cause the problem of a client with more wrong secrets than the limit allows."""
    await refused(401, "invalid_client")(deployment)
    return await refused(401, "invalid_client")(deployment)


async def crowded(deployment: Deployment) -> bytes:
    """Cause the problem of a call while another one takes the only place."""
    hold = Hold()
    deployment.upstream.script = hold.script
    async with asyncio.TaskGroup() as group:
        # Another client, which has no wrong secrets.
        first = group.create_task(deployment.rest.post(PATH, data=GRANT, headers=OTHER))
        await hold.wait_for(1)
        second = await deployment.rest.post(PATH, data=GRANT, headers=OTHER)
        hold.release.set()
    assert first.result().json() == TOKEN
    return second.content


async def stopped(_deployment: Deployment) -> bytes:
    """Cause the problem of a request that is not complete when the process must end."""
    bound = sockets.listen(Address("127.0.0.1", 0))
    app = rest_app.build(SERVICES, InProcessChannel(), public_url=PUBLIC_URL, examples=EXAMPLES)
    listener = HttpListener(app, bound, grace=1)
    await listener.start()
    data = request(headers=(FORM, b"Expect: 100-continue"), body=b"x").removesuffix(b"x")
    async with asyncio.timeout(GUARD), sent(sockets.address_of(bound), data) as reader:
        # The answer to Expect shows that the body is being waited for.
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        await listener.stop()
        return (await reader.read()).partition(b"\r\n\r\n")[2]


OTHER = {"Authorization": basic("other", "secret")}
BODY = b"grant_type=client_credentials"
CAUSES: Mapping[str, Cause] = {
    "invalid-request": asked(data=CREDENTIALS),
    "unsupported-grant-type": asked(data={**CREDENTIALS, "grant_type": "password"}),
    "invalid-scope": refused(400, "invalid_scope"),
    "unauthorized-client": refused(400, "unauthorized_client"),
    "invalid-client": refused(401, "invalid_client"),
    "access-denied": refused(403, "access_denied"),
    "not-found": asked(path="/nowhere"),
    "resource-not-found": reported,
    "method-not-allowed": asked("GET"),
    "conflict": refused(409, "conflict"),
    "content-too-large": asked(data={**GRANT, "x": "x" * 16384}),
    "unsupported-media-type": asked(content=BODY, headers={"Content-Type": "text/plain"}),
    "unprocessable-content": refused(422, "invalid"),
    "too-many-requests": answered(answer(429)),
    "internal-error": broken,
    "not-implemented": unserved,
    "upstream-bad-answer": answered(answer(200, b"<html>", "text/html")),
    "upstream-connection-lost": answered(b""),
    "upstream-unavailable": answered(answer(503)),
    "upstream-timeout": asked(data=GRANT, headers={**OTHER, "grpc-timeout": "1n"}),
    "service-stopping": stopped,
    "uri-too-long": raw(request(target=f"{PATH}?x={'x' * 70_000}", headers=(FORM,), body=BODY)),
    "header-fields-too-large": raw(request(headers=(FORM, b"X: " + b"x" * 70_000), body=BODY)),
}
# The causes that need small limits. The detail of these responses has the number of a limit, which
# is a setting: the document shows no setting, so its examples have the text of the catalogue.
LIMITED: Mapping[str, Cause] = {
    "request-timeout": stalled,
    "service-overloaded": crowded,
    "too-many-attempts": guessed,
}


@pytest_asyncio.fixture(scope="module", name="limited")
async def _open_limited() -> AsyncIterator[Deployment]:
    async with open_deployment(max_in_flight="1", max_client_failures="1") as deployment:
        yield deployment


def check(body: bytes, slug: str, *except_for: str) -> None:
    """Assert that a response is the example, except for the request id and these members."""
    problem, example = json.loads(body), dict(PROBLEMS[slug])
    for member in ("instance", *except_for):
        assert problem.pop(member) != example.pop(member)
    assert problem == example


@pytest.mark.parametrize("slug", CAUSES)
async def test_a_problem_is_its_example(slug: str, deployment: Deployment) -> None:
    """A request, or an answer of the auth-api, causes exactly the problem of the example."""
    check(await CAUSES[slug](deployment), slug)


@pytest.mark.parametrize("slug", LIMITED)
async def test_a_problem_of_a_limit_is_its_example(slug: str, limited: Deployment) -> None:
    """A request beyond a limit has the problem of the example, with a detail of its own."""
    limited.upstream.reset()
    check(await LIMITED[slug](limited), slug, "detail", "error_description")


def test_every_example_is_caused() -> None:
    """No example is left out."""
    assert sorted([*CAUSES, *LIMITED]) == sorted(PROBLEMS)


# Requests


CONTENT = DOCUMENT["paths"][PATH]["post"]["requestBody"]["content"]
REQUESTS = {
    f"{name} {media_type}": (media_type, example["value"])
    for media_type, content in CONTENT.items()
    for name, example in content["examples"].items()
}


@pytest.mark.parametrize(("media_type", "fields"), REQUESTS.values(), ids=REQUESTS)
async def test_a_request_is_accepted(
    media_type: str, fields: Mapping[str, str], deployment: Deployment
) -> None:
    """Each example of a request gets a token; without credentials in it, by HTTP Basic."""
    form = httpx2.QueryParams(fields)
    body = json.dumps(fields) if media_type == "application/json" else str(form)
    headers = {"Content-Type": media_type}
    if "client_secret" not in fields:
        headers["Authorization"] = basic(**CREDENTIALS)
    response = await deployment.rest.post(PATH, content=body, headers=headers)
    assert (response.status_code, response.json()) == (200, TOKEN)
