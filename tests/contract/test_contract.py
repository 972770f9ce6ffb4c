"""Tests of every contract case by every way in: one outcome, and one request upstream."""

import uuid
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any
from urllib.parse import parse_qsl

import grpc
import pytest
from karmo.auth.v1.token_service_pb2 import ExchangeTokenRequest
from karmo.auth.v1.token_service_pb2_grpc import TokenServiceStub

from tests.contract.cases import CASES, Case
from tests.contract.checks import check
from tests.contract.expected import INVALID_CLIENT
from tests.contract.requests import GRANT, header, post
from tests.upstream import TOKEN, answer
from tests.ways import Deployment, Outcome, Sent, Way, basic, outcome_of

pytestmark = pytest.mark.unmeasured

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
# Header fields that HTTP/1.1 requires, or that concern the connection.
TRANSPORT = {"host", "content-length", "connection"}
FIXED = {
    "content-type": "application/x-www-form-urlencoded",
    "accept": "application/json",
    "accept-encoding": "identity",
    "user-agent": f"karmo-sidecar/{version('karmo-sidecar')}",
}


@every_case
async def test_case(case: Case, deployment: Deployment, subtests: pytest.Subtests) -> None:
    """A case has the same outcome and the same request upstream by every way."""
    deployment.upstream.reply = answer(200, TOKEN) if case.reply is None else case.reply
    documents = []
    for name, way in deployment.ways.items():
        with subtests.test(way=name):
            outcome = await way(case.sent)
            documents.append(without_instance(outcome))
            assert outcome.token == case.token
            assert "canary" not in str(outcome)
            if case.problem is not None:
                check(outcome, case.problem)
    assert documents == [documents[0]] * len(deployment.ways)
    requests = [] if case.reply is None else [_upstream_request(case.sent)] * len(deployment.ways)
    assert [_read(raw) for raw in deployment.upstream.requests] == requests


async def test_the_body_is_form_encoded(deployment: Deployment, way: Way) -> None:
    """R26: credentials in the body are encoded once, as application/x-www-form-urlencoded."""
    await way(post(client_id="p&1=%41", client_secret="s +"))
    (raw,) = deployment.upstream.requests
    assert raw.startswith(b"POST /v1/oauth/token HTTP/1.1\r\n")
    assert raw.endswith(
        b"\r\n\r\ngrant_type=client_credentials&client_id=p%261%3D%2541&client_secret=s+%2B"
    )


async def test_no_cookie_is_kept(deployment: Deployment, way: Way) -> None:
    """A cookie of the upstream is not sent back with the next request."""
    deployment.upstream.reply = answer(200, b"{}", Set_Cookie="session=1; Path=/")
    await way(header(basic()))
    await way(header(basic()))
    first, second = deployment.upstream.requests
    assert b"cookie" not in (first + second).lower()


async def test_a_grpc_call_keeps_its_identity(deployment: Deployment) -> None:
    """R49: request id and traceparent in gRPC metadata go upstream as over REST."""
    request_id, trace = str(uuid.UUID(int=7)), f"00-{'4b' * 16}-{'0f' * 8}-01"
    deployment.upstream.reply = answer(401, {"error": "invalid_client"})
    stub = TokenServiceStub(deployment.channels["grpc"])
    metadata = (("x-request-id", request_id), ("traceparent", trace), ("authorization", basic()))
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await stub.ExchangeToken(ExchangeTokenRequest(**GRANT), metadata=metadata)
    outcome = outcome_of(raised.value)
    check(outcome, INVALID_CLIENT)
    assert outcome.problem is not None
    assert outcome.problem["instance"] == f"urn:uuid:{request_id}"
    assert f"X-Request-Id: {request_id}\r\n".encode() in deployment.upstream.requests[0]
    assert f"traceparent: {trace}\r\n".encode() in deployment.upstream.requests[0]


async def test_unknown_client_and_wrong_secret_look_the_same(
    deployment: Deployment, way: Way
) -> None:
    """R44: an answer does not reveal whether the client exists."""
    outcomes = []
    for text in ("The client does not exist", "The secret is wrong"):
        body = {"error": "invalid_client", "error_description": text}
        deployment.upstream.reply = answer(401, body, www_authenticate=f'Basic realm="{text}"')
        outcomes.append(await way(header(basic(text[4:10]))))
    unknown, wrong = outcomes
    check(unknown, INVALID_CLIENT)
    assert without_instance(unknown) == without_instance(wrong)
    assert _stable(unknown.headers) == _stable(wrong.headers)


def without_instance(outcome: Outcome) -> Mapping[str, Any]:
    """Return the token or the problem of `outcome`, without `instance`."""
    document = outcome.problem if outcome.token is None else outcome.token
    assert document is not None
    return {name: value for name, value in document.items() if name != "instance"}


def _stable(headers: Mapping[str, str]) -> Mapping[str, str]:
    return {name: value for name, value in headers.items() if name not in {"date", "x-request-id"}}


def _upstream_request(sent: Sent) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Return the expected header fields and form upstream; one of them has the credentials."""
    if sent.authorization:
        headers = FIXED | {"authorization": sent.authorization[0]}
        return headers, {"grant_type": "client_credentials"}
    return FIXED, sent.fields


def _read(raw: bytes) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Return the header fields, which must not repeat, and the form of an upstream request.

    Without the fields of the transport, and without the request id, which always differs.
    """
    head, _, body = raw.decode().partition("\r\n\r\n")
    pairs = [line.split(": ", 1) for line in head.split("\r\n")[1:]]
    headers = {name.lower(): value for name, value in pairs}
    assert len(headers) == len(pairs)
    assert str(uuid.UUID(headers["x-request-id"])) == headers.pop("x-request-id")
    form = dict(parse_qsl(body, keep_blank_values=True, strict_parsing=True))
    return {name: headers[name] for name in headers.keys() - TRANSPORT}, form
