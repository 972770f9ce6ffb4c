"""Canary tests: unique texts in the place of secrets, searched for in all output.

All output is the log of the whole process (every logger, at DEBUG, as the sidecar formats
it), its stdout and stderr, every response, every error, and every way to show or store a
value of our own types.
"""

import base64
import dataclasses
import importlib
import json
import pickle
import pprint
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from itertools import chain
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode

import grpc
import pytest
from google.protobuf.json_format import MessageToJson
from grpc.aio import AioRpcError
from karmo.auth.v1.token_service_pb2 import ExchangeTokenRequest
from karmo.auth.v1.token_service_pb2_grpc import TokenServiceStub

from sidecar import logs
from sidecar.auth_api.client import AuthApi
from sidecar.auth_api.client_credentials import ClientCredentials
from sidecar.auth_api.response import Response, Token
from sidecar.exchange import credentials
from sidecar.exchange.basic_auth import Basic
from sidecar.exchange.credentials import TokenRequest
from sidecar.problems import ProblemError
from sidecar.secret import Secret
from tests.contract.cases import CASES, Case
from tests.raw_http import FORM, answer_to, request, sent
from tests.recorded import Log, recorded
from tests.upstream import TOKEN, Script, answer, within
from tests.ways import WAYS, Deployment, Outcome, Sent, basic

pytestmark = pytest.mark.unmeasured

CANARY = "canary"
CLIENT_ID = "canary-client-id-51c3"
SECRET = "canary+secret/9b4e%7E"
ACCESS_TOKEN = "canary.access-token.77ad"
GRANT_TYPE = "canary-grant-type"
BASIC = basic(CLIENT_ID, SECRET)
# How many ways in write an access line: all except gRPC in process.
LINES = len(WAYS) - 1
# A canary shows as the word itself, or as the word in base64.
NEEDLES = (CANARY, BASIC.split()[1].lower(), base64.b64encode(b"canary").decode().lower())

GRANT = {"grant_type": "client_credentials"}
IN_BODY = Sent(fields={**GRANT, "client_id": CLIENT_ID, "client_secret": SECRET})
IN_HEADER = Sent(fields=GRANT, authorization=(BASIC,))
GOOD = {**TOKEN, "access_token": ACCESS_TOKEN}
HTML = b"<html><body>canary stack trace</body></html>"
PROBLEM_JSON = "application/problem+json"


def hits(*texts: object) -> list[str]:
    """Return the lines of `texts` that contain a canary."""
    lines = (line for text in texts for line in str(text).splitlines())
    return [line for line in lines if any(needle in line.lower() for needle in NEEDLES)]


# The whole sidecar


@asynccontextmanager
async def watched(capfd: pytest.CaptureFixture[str], lines: int) -> AsyncIterator[Log]:
    """Record the process until there are `lines` access lines, and search for canaries.

    Neither its log nor its two streams may contain one.
    """
    with recorded() as log:
        logs.event("recording")
        yield log
        await log.wait_for(lines)
    assert '"message": "recording"' in log.text
    assert hits(log.text, *capfd.readouterr()) == []


def sends(data: bytes) -> Script:
    """Return a script that sends `data` and closes."""

    async def script(_reader: object, writer: Any) -> None:
        writer.write(data)
        await writer.drain()

    return script


def problem(**members: object) -> bytes:
    """Return a problem document of the auth-api that is relayed to callers."""
    document = {"type": "about:blank", "title": "Refused", "status": 400, "karmoCode": "40012345"}
    return answer(400, {**document, **members}, PROBLEM_JSON)


def refusal(status: int, **members: object) -> bytes:
    """Return an error response of OAuth (RFC 6749 section 5.2)."""
    return answer(status, members)


UPSTREAM: Mapping[str, bytes] = MappingProxyType(
    {
        "token": answer(200, GOOD),
        "token with more": answer(200, {**GOOD, "refresh_token": "canary", "canary": ["canary"]}),
        "token of another type": answer(200, {**GOOD, "token_type": "canary"}),
        "token without lifetime": answer(200, {**GOOD, "expires_in": "canary"}),
        "token beyond ASCII": answer(200, {**GOOD, "access_token": "can\xe4ry canary"}),
        "token and error": answer(200, {**GOOD, "error": "canary"}),
        "token twice": answer(200, json.dumps(GOOD).encode()[:-1] + b',"access_token":"canary"}'),
        "token as HTML": answer(200, GOOD, "text/html; canary=canary"),
        "token in a coding": answer(200, GOOD, Content_Encoding="canary"),
        "token cut short": answer(200, GOOD)[:-20],
        "token in a malformed chunk": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\ncanary\r\n",
        "token too large": answer(200, {**GOOD, "canary": "canary" * 20_000}),
        "HTML": answer(200, HTML, "text/html"),
        "HTML with 401": answer(401, HTML, "text/html"),
        "HTML with 500": answer(500, HTML, "text/html"),
        "HTML with 503": answer(503, HTML, "text/html"),
        "refusal": refusal(401, error="invalid_client", error_description="canary"),
        "odd refusal": refusal(400, error="canary", error_description="canary", canary="canary"),
        "refusal with 403": refusal(403, error={"canary": "canary"}),
        "problem with more": problem(instance="/canary", stack="canary", canary={"a": "canary"}),
        "problem without code": problem(karmoCode="canary", detail="canary", title="canary"),
        "problem with odd members": problem(type="canary", title=["canary"], error="canary\n"),
        "problem that quotes": problem(
            type=f"https://auth.example.test/{CLIENT_ID}",
            title=f"Refused {CLIENT_ID}",
            detail=f"The secret {SECRET} is wrong.",
            karmoErrors=[{"detail": SECRET, "pointer": f"/{CLIENT_ID}"}],
        ),
        "header fields": answer(200, GOOD, Set_Cookie="canary=canary", X_Canary="canary"),
        "reason phrase": answer(500).replace(b"Status", b"canary"),
        "redirect": answer(307, HTML, Location="http://canary.test/canary"),
        "not HTTP": b"canary canary\r\n\r\n",
        "malformed header": b"HTTP/1.1 200 OK\r\ncanary\r\n\r\n",
        "malformed length": answer(200, GOOD).replace(b"Length: ", b"Length: canary"),
    }
)


@pytest.mark.parametrize("sent_by", [IN_BODY, IN_HEADER], ids=["body", "header"])
@pytest.mark.parametrize("reply", UPSTREAM.values(), ids=UPSTREAM)
async def test_no_answer_of_the_auth_api_shows_anything(
    deployment: Deployment, capfd: pytest.CaptureFixture[str], reply: bytes, sent_by: Sent
) -> None:
    """Of any answer of the auth-api only a token is shown, and only to its caller."""
    deployment.upstream.script = sends(reply)
    async with watched(capfd, LINES):
        outcomes = [await way(sent_by) for way in deployment.ways.values()]
    tokens = {outcome.token["access_token"] for outcome in outcomes if outcome.token}
    assert tokens <= {ACCESS_TOKEN}
    assert hits(*(shown(dataclasses.replace(outcome, token=None)) for outcome in outcomes)) == []
    assert len(deployment.upstream.requests) == len(outcomes)


def shown(outcome: Outcome) -> str:
    """Return all content of `outcome`, the details of a status as bytes and as text."""
    details = outcome.details
    packed = [details.SerializeToString(), MessageToJson(details)] if details else []
    return f"{outcome} {dict(outcome.headers)} {packed}"


REFUSED: Mapping[str, Sent] = MappingProxyType(
    {
        "not base64": Sent(fields=GRANT, authorization=("Basic canary!",)),
        "no colon": Sent(fields=GRANT, authorization=(basic("canary", "")[:-4],)),
        "escaped NUL": Sent(fields=GRANT, authorization=(basic("canary", "canary%00"),)),
        "beyond ASCII": Sent(fields=GRANT, authorization=(basic("canary", "can\xe4ry"),)),
        "control character": Sent(fields=GRANT, authorization=(basic("canary", "canary%00"),)),
        "no scheme": Sent(fields=GRANT, authorization=("canary@canary",)),
        "another scheme": Sent(fields=GRANT, authorization=("Canary canary",)),
        "Bearer": Sent(fields=GRANT, authorization=("Bearer canary",)),
        "two headers": Sent(fields=GRANT, authorization=(BASIC, "Bearer canary")),
        "two ways": Sent(fields=IN_BODY.fields, authorization=(BASIC,)),
        "another client_id": Sent(fields={**GRANT, "client_id": "canary"}, authorization=(BASIC,)),
        "no secret": Sent(fields={**GRANT, "client_id": CLIENT_ID}),
        "no client_id": Sent(fields={**GRANT, "client_secret": SECRET}),
        "odd characters": Sent(
            fields={**GRANT, "client_id": "canary\n", "client_secret": "can\xe4ry canary"}
        ),
        "no grant_type": Sent(fields={"client_id": CLIENT_ID, "client_secret": SECRET}),
    }
)


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
async def test_no_refusal_shows_what_was_sent(
    deployment: Deployment, capfd: pytest.CaptureFixture[str], refused: Sent
) -> None:
    """The refusal of a wrong request says why, without any part of its credentials."""
    async with watched(capfd, LINES):
        outcomes = [await way(refused) for way in deployment.ways.values()]
    assert all(outcome.problem for outcome in outcomes)
    assert hits(*map(shown, outcomes)) == []
    assert deployment.upstream.requests == []


async def test_nobody_is_told_the_grant_type(
    deployment: Deployment, capfd: pytest.CaptureFixture[str]
) -> None:
    """An unsupported grant type is quoted nowhere: it may be a secret in the wrong place."""
    fields = {**IN_BODY.fields, "grant_type": f"{GRANT_TYPE}\r\n\x1b" + "x" * 100 + "canary-tail"}
    async with watched(capfd, LINES):
        outcomes = [await way(Sent(fields=fields)) for way in deployment.ways.values()]
    for outcome in outcomes:
        assert outcome.problem is not None
        assert outcome.problem["detail"].startswith("This grant_type is not supported")
        assert hits(shown(outcome)) == []


REST: Mapping[str, bytes] = MappingProxyType(
    {
        "unknown member": request(body=urlencode({"canary": "canary"}).encode()),
        "unknown member of JSON": request(
            headers=(b"Content-Type: application/json",), body=b'{"canary":{"canary":["canary"]}}'
        ),
        "malformed JSON": request(
            headers=(b"Content-Type: application/json",), body=b'{"client_secret":"canary'
        ),
        "repeated member": request(
            headers=(b"Content-Type: application/json",),
            body=b'{"client_secret":"canary","client_secret":"canary2"}',
        ),
        "member of another type": request(
            headers=(b"Content-Type: application/json",),
            body=b'{"client_secret":{"canary":1},"client_id":["canary"]}',
        ),
        "lone surrogate": request(
            headers=(b"Content-Type: application/json",), body=b'{"client_secret":"canary\\ud800"}'
        ),
        "repeated parameter": request(body=b"client_secret=canary&client_secret=canary2"),
        "malformed escape": request(body=b"client_secret=canary%zz"),
        "invalid UTF-8": request(body=b"client_secret=canary%ff"),
        "too large": request(body=b"canary" * 10_000),
        "query": request(target="/v1/oauth/token?client_secret=canary&canary=canary"),
        "malformed query": request(target="/v1/oauth/token?canary=%zz&client_id=canary"),
        "path": request(target="/v1/canary/canary?canary=canary"),
        "malformed path": request(target="/v1/oauth/token%canary"),
        "page": request("GET", "/problems/canary?canary"),
        "method": request("CANARY"),
        "header fields": request(
            headers=(
                FORM,
                *(
                    f"{name}: canary".encode()
                    for name in ("User-Agent", "Cookie", "X-Canary", "Referer", "Accept", "Origin")
                ),
            )
        ),
        "media type": request(headers=(b"Content-Type: canary/canary; canary=canary",)),
        "media type of a body": request(
            headers=(b"Content-Type: canary/canary; canary=canary",), body=b"canary"
        ),
        "charset": request(headers=(FORM + b"; charset=canary",), body=b"canary"),
        "coding": request(headers=(FORM, b"Content-Encoding: canary"), body=b"canary"),
        "identity": request(headers=(FORM, b"X-Request-Id: canary", b"traceparent: canary")),
        "grpc-timeout": request(headers=(FORM, b"grpc-timeout: canary")),
        "metadata beyond ASCII": request(headers=(FORM, b"Authorization: Basic canary\xff")),
        "host": request().replace(b"sidecar.test", b"canary.test"),
        "not HTTP": b"canary canary canary\r\n\r\n",
        "malformed header": b"GET / HTTP/1.1\r\nHost: x\r\ncanary canary\r\n\r\n",
        "malformed length": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: canary\r\n\r\n",
        "two hosts": b"GET / HTTP/1.1\r\nHost: canary\r\nHost: canary\r\n\r\n",
        "header block too large": b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"canary" * 20_000,
        "malformed chunk": request(headers=(FORM, b"Transfer-Encoding: chunked")).replace(
            b"Content-Length: 0\r\n", b""
        )
        + b"canary\r\n",
    }
)


@pytest.mark.parametrize("data", REST.values(), ids=REST)
async def test_no_part_of_a_rest_request_is_shown(
    deployment: Deployment, capfd: pytest.CaptureFixture[str], data: bytes
) -> None:
    """A request with a canary anywhere is answered and logged without it."""
    async with watched(capfd, 1):
        received = await answer_to(deployment.addresses.rest, data)
        await answer_to(deployment.addresses.rest, request())  # its line follows that of the first
    assert received.status >= 400
    assert hits(received) == []


async def test_a_rest_client_that_leaves_leaves_nothing(
    deployment: Deployment, capfd: pytest.CaptureFixture[str]
) -> None:
    """A client that leaves in the middle of its secret causes only an access line."""
    identity = "7a1c1e0e-8f6e-4d83-9a3e-3f1f5a0d9a11"
    data = request(headers=(FORM, f"X-Request-Id: {identity}".encode()), body=b"x=canary")[:-1]
    async with watched(capfd, 1) as log:
        async with sent(deployment.addresses.rest, data):
            pass
        assert (await log.access_line(identity))["status"] == 499


async def call_with_metadata(channel: grpc.aio.Channel) -> object:
    """Call with canaries in metadata of both kinds."""
    metadata = (("x-canary", "canary"), ("canary-bin", b"canary"), ("x-request-id", "canary"))
    message = ExchangeTokenRequest(client_id="canary", client_secret="canary")
    return await TokenServiceStub(channel).ExchangeToken(message, metadata=metadata)


async def call_another(channel: grpc.aio.Channel) -> object:
    """Call an unknown method."""
    method: Any = channel.unary_unary("/canary.Canary/Canary")
    return await method(b"canary")


async def call_with_bad_bytes(channel: grpc.aio.Channel) -> object:
    """Call with bytes that are not a message, though they begin like one."""
    method: Any = channel.unary_unary("/karmo.auth.v1.TokenService/ExchangeToken")
    return await method(b"\x12\x06canary\x1a\x08canary\xff\xff")


async def call_with_unknown_fields(channel: grpc.aio.Channel) -> object:
    """Call with a field that only a newer schema knows."""
    method: Any = channel.unary_unary("/karmo.auth.v1.TokenService/ExchangeToken")
    return await method(b"\x12\x06canary\x7a\x06canary")


CALLS = (call_with_metadata, call_another, call_with_bad_bytes, call_with_unknown_fields)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("channel", ["grpc", "grpc in process"])
async def test_no_part_of_a_grpc_call_is_shown(
    deployment: Deployment,
    capfd: pytest.CaptureFixture[str],
    channel: str,
    call: Callable[[grpc.aio.Channel], Awaitable[object]],
) -> None:
    """A call with a canary anywhere fails and is logged without it."""
    async with watched(capfd, 1 if channel == "grpc" else 0):
        with pytest.raises(AioRpcError) as caught:
            await call(deployment.channels[channel])
    error = caught.value
    metadata = [*error.trailing_metadata(), *error.initial_metadata()]
    assert hits(error.details(), error, repr(error), metadata) == []


def values_of(case: Case) -> list[str]:
    """Return the values in a contract case that are long enough for a search."""
    tokens = [word for value in case.sent.authorization for word in value.split()]
    values = {*case.sent.fields.values(), *tokens} - {"client_credentials"}
    return [value for value in values if len(value) >= 10]


@pytest.mark.parametrize("way", ["json", "grpc"])
async def test_no_contract_case_leaves_its_values_in_the_log(
    deployment: Deployment, way: str
) -> None:
    """In no contract case is a value of a request or an answer in the log."""
    with recorded() as log:
        for case in CASES:
            deployment.upstream.reply = answer(200, GOOD) if case.reply is None else case.reply
            await deployment.ways[way](case.sent)
        await log.wait_for(len(CASES))
    values = [TOKEN["access_token"], CANARY, *chain.from_iterable(map(values_of, CASES))]
    written = {json.dumps(value)[1:-1] for value in values}
    text = log.text
    assert [value for value in written if value in text] == []


# Errors


async def error_of(
    deployment: Deployment, credentials: ClientCredentials, reply: bytes
) -> ProblemError:
    """Return the error that an exchange raises when the auth-api sends `reply`."""
    deployment.upstream.script = sends(reply)
    async with AuthApi(deployment.upstream.url, within(20)) as api:
        with pytest.raises(ProblemError) as caught:
            await api.exchange(credentials, deadline=None)
    return caught.value


def crash_report(error: BaseException) -> str:
    """Return the report of a crash reporter: the frames, and the variables in them."""
    report = traceback.TracebackException.from_exception(error, capture_locals=True)
    # The frames of this test contain the canaries themselves.
    ours = [frame for frame in report.stack if "/sidecar/" in frame.filename]
    assert ours
    return f"{[(frame.name, frame.locals) for frame in ours]}"


FAILING = {name: reply for name, reply in UPSTREAM.items() if "200" not in str(reply[:12])}


@pytest.mark.parametrize("reply", FAILING.values(), ids=FAILING)
async def test_no_error_of_an_exchange_shows_anything(deployment: Deployment, reply: bytes) -> None:
    """Neither the text of an error nor a report of its frames shows the request or the answer."""
    credentials = ClientCredentials(
        client_id=Secret(CLIENT_ID),
        client_secret=Secret(SECRET),
        authorization=Secret(BASIC),
        encoded=(Secret(BASIC),),
    )
    error = await error_of(deployment, credentials, reply)
    assert hits(error, repr(error), error.args, error.problem) == []
    assert hits("".join(traceback.format_exception(error)).replace(__file__, "")) == []
    assert hits(crash_report(error)) == []


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
def test_no_error_of_the_check_shows_anything(refused: Sent) -> None:
    """Neither the text of a refusal nor a report of its frames shows the credentials."""
    with pytest.raises(ProblemError) as caught:
        credentials.check(
            TokenRequest(
                grant_type=refused.fields.get("grant_type", ""),
                client_id=Secret(refused.fields.get("client_id", "")),
                client_secret=Secret(refused.fields.get("client_secret", "")),
                authorization=tuple(map(Secret, refused.authorization)),
            )
        )
    error = caught.value
    assert hits(error, repr(error), error.args, error.problem) == []
    assert hits(crash_report(error)) == []


# Our own types


HOLDERS: Mapping[str, object] = MappingProxyType(
    {
        "Secret": Secret(SECRET),
        "TokenRequest": TokenRequest(
            grant_type="client_credentials",
            client_id=Secret(CLIENT_ID),
            client_secret=Secret(SECRET),
            authorization=(Secret(BASIC),),
        ),
        "ClientCredentials": ClientCredentials(
            client_id=Secret(CLIENT_ID),
            client_secret=Secret(SECRET),
            authorization=Secret(BASIC),
            encoded=(Secret(BASIC),),
        ),
        "Basic": Basic(
            token=Secret(BASIC),
            raw_id=Secret(CLIENT_ID),
            raw_secret=Secret(SECRET),
            client_id=Secret(CLIENT_ID),
            client_secret=Secret(SECRET),
            is_decoded=True,
        ),
        "Token": Token(access_token=Secret(ACCESS_TOKEN), expires_in=1),
        "Response": Response(
            status=200,
            content_type="application/json",
            retry_after="",
            has_challenge=False,
            body=Secret(json.dumps(GOOD).encode()),
        ),
    }
)
SHOWN: Mapping[str, Callable[[object], str]] = MappingProxyType(
    {
        "repr": repr,
        "str": str,
        "format": lambda holder: f"{holder}",
        "format with repr": lambda holder: f"{holder!r:>200}",
        "percent": lambda holder: "%s %r" % (holder, holder),  # noqa: UP031 as logging does
        "in a container": lambda holder: str([{"holder": holder}]),
        "in an error": lambda holder: repr(ValueError(holder)),
        "pretty": pprint.pformat,
        "default of json": lambda holder: json.dumps(holder, default=str),
    }
)


@pytest.mark.parametrize("show", SHOWN.values(), ids=SHOWN)
@pytest.mark.parametrize("holder", HOLDERS.values(), ids=HOLDERS)
def test_no_text_shows_what_a_type_holds(holder: object, show: Callable[[object], str]) -> None:
    """Every text of a value with a secret leaves the secret out."""
    assert hits(show(holder)) == []


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("holder", HOLDERS.values(), ids=HOLDERS)
def test_no_type_can_be_stored(holder: object, protocol: int) -> None:
    """A value with a secret cannot be pickled, so the secret is not written to a file."""
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(holder, protocol)


def test_every_type_with_a_secret_is_tried() -> None:
    """Every type with a Secret in a field is in the table above."""
    modules = [
        importlib.import_module(f"sidecar.{name}")
        for name in (
            "exchange.basic_auth",
            "exchange.credentials",
            "auth_api.client_credentials",
            "auth_api.response",
        )
    ]
    kinds = [kind for module in modules for kind in vars(module).values()]
    with_secrets = {kind.__name__ for kind in kinds if _holds_secret(kind)}
    assert with_secrets <= HOLDERS.keys()
    assert {"Basic", "TokenRequest", "ClientCredentials", "Token", "Response"} <= with_secrets


def _holds_secret(kind: object) -> bool:
    if not isinstance(kind, type) or not dataclasses.is_dataclass(kind):
        return False
    return any("Secret" in str(field.type) for field in dataclasses.fields(kind))
