"""Tests with third-party clients: curl, OAuth libraries, grpcurl and generated stubs."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
import pytest_asyncio
from authlib.integrations.base_client import OAuthError  # type: ignore[import-untyped] # has none
from authlib.integrations.requests_client import (  # type: ignore[import-untyped] # has none
    OAuth2Session as AuthlibSession,
)
from karmo.auth.v1.token_service_pb2 import ExchangeTokenRequest
from karmo.auth.v1.token_service_pb2_grpc import TokenServiceStub
from oauthlib.oauth2 import BackendApplicationClient, InvalidClientError
from requests_oauthlib import OAuth2Session

from tests.sidecar_process import ROOT, Ended, Sidecar, ToolError, find_tool, printed, run, serving
from tests.verified import verified_claims
from tests.ways import basic, outcome_of

CLIENT_ID, SECRET = "demo-partner", "demo-secret"
METHOD = "karmo.auth.v1.TokenService/ExchangeToken"
PROTOSET = ROOT / "generated/karmo/descriptors.binpb"

Addresses = Mapping[str, str]


@pytest_asyncio.fixture(scope="module", name="sidecar")
async def _sidecar() -> AsyncIterator[Sidecar]:
    async with serving("dev") as sidecar:
        yield sidecar


@pytest_asyncio.fixture(scope="module", name="closed_sidecar")
async def _closed_sidecar() -> AsyncIterator[Sidecar]:
    async with serving("dev", grpc_reflection="off") as sidecar:
        yield sidecar


@pytest.fixture(autouse=True)
def _plain_http(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow oauthlib, which requires TLS, to call a sidecar on this machine."""
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")


async def by_curl(addresses: Addresses, secret: str) -> str:
    """Exchange with curl as in the README."""
    url, form = token_url(addresses), "grant_type=client_credentials"
    user = f"{CLIENT_ID}:{secret}"
    end = await run(find_tool("curl"), "--fail-with-body", "-sS", "-u", user, "-d", form, url)
    return str(json.loads(printed(end))["access_token"])


def by_authlib(method: str) -> "Exchange":
    """Return an exchange by Authlib, which authenticates the client by `method`."""

    def fetch(url: str, secret: str) -> str:
        with AuthlibSession(CLIENT_ID, secret, token_endpoint_auth_method=method) as session:
            token = session.fetch_token(url, grant_type="client_credentials")
        return str(token["access_token"])

    return in_a_thread(fetch)


def by_requests_oauthlib(*, in_body: bool) -> "Exchange":
    """Return an exchange by requests-oauthlib, with the credentials in the body or as Basic."""

    def fetch(url: str, secret: str) -> str:
        with OAuth2Session(client=BackendApplicationClient(client_id=CLIENT_ID)) as session:
            token = session.fetch_token(
                url, client_id=CLIENT_ID, client_secret=secret, include_client_id=in_body
            )
        return str(token["access_token"])

    return in_a_thread(fetch)


def in_a_thread(fetch: Callable[[str, str], str]) -> "Exchange":
    """Return an exchange by a blocking client."""

    async def exchange(addresses: Addresses, secret: str) -> str:
        return await asyncio.to_thread(fetch, token_url(addresses), secret)

    return exchange


async def by_grpcurl(addresses: Addresses, secret: str) -> str:
    """Exchange with grpcurl, which reads the schema by reflection."""
    end = await grpcurl(("-d", request(secret)), addresses["grpc"], METHOD)
    return str(json.loads(printed(end))["access_token"])


async def by_stub(addresses: Addresses, secret: str) -> str:
    """Exchange with the stub that is generated from our schema."""
    message = ExchangeTokenRequest(
        grant_type="client_credentials", client_id=CLIENT_ID, client_secret=secret
    )
    async with grpc.aio.insecure_channel(addresses["grpc"]) as channel:
        response = await TokenServiceStub(channel).ExchangeToken(message, timeout=20)
    return response.access_token


def oauth_error_of(error: Exception) -> str:
    """Return the OAuth error in the details of a failed call."""
    assert isinstance(error, grpc.aio.AioRpcError)
    return str((outcome_of(error).problem or {})["error"])


def token_url(addresses: Addresses) -> str:
    """Return the token endpoint."""
    return f"http://{addresses['rest']}/v1/oauth/token"


def request(secret: str) -> str:
    """Return the request message of the exchange as JSON."""
    return json.dumps(
        {"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": secret}
    )


async def grpcurl(flags: tuple[str, ...], *arguments: str) -> Ended:
    """Run grpcurl to its end."""
    return await run(find_tool("grpcurl"), "-plaintext", *flags, *arguments)


Exchange = Callable[[Addresses, str], Awaitable[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """How a client exchanges a token, its error, and where the error has the reason."""

    exchange: Exchange
    error: type[Exception]
    reason: Callable[[Exception], str] = str


CLIENTS = {
    "curl": Client(exchange=by_curl, error=ToolError),
    "Authlib, Basic": Client(
        exchange=by_authlib("client_secret_basic"), error=OAuthError, reason=repr
    ),
    "Authlib, body": Client(
        exchange=by_authlib("client_secret_post"), error=OAuthError, reason=repr
    ),
    "requests-oauthlib, Basic": Client(
        exchange=by_requests_oauthlib(in_body=False), error=InvalidClientError
    ),
    "requests-oauthlib, body": Client(
        exchange=by_requests_oauthlib(in_body=True), error=InvalidClientError
    ),
    "grpcurl": Client(exchange=by_grpcurl, error=ToolError),
    "generated stub": Client(exchange=by_stub, error=grpc.aio.AioRpcError, reason=oauth_error_of),
}
every_client = pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)


@every_client
async def test_a_client_gets_a_token(client: Client, sidecar: Sidecar) -> None:
    """The token that each client returns verifies with the published key."""
    token = await client.exchange(sidecar.addresses, SECRET)
    auth_api = f"http://{sidecar.addresses['auth_api']}"
    claims = await verified_claims(f"{auth_api}/.well-known/jwks.json", token)
    assert (claims["client_id"], claims["iss"]) == (CLIENT_ID, auth_api)
    assert claims["exp"] - claims["iat"] == 3600


@every_client
async def test_a_client_tells_why_it_is_refused(client: Client, sidecar: Sidecar) -> None:
    """For a wrong secret each client raises its own error, which names `invalid_client`."""
    with pytest.raises(client.error) as refusal:
        await client.exchange(sidecar.addresses, "wrong")
    assert "invalid_client" in client.reason(refusal.value)


def fetch_by_authlib(session: AuthlibSession, url: str) -> None:
    """Request a token with a wrong secret."""
    session.fetch_token(url, grant_type="client_credentials")


def fetch_by_requests_oauthlib(session: OAuth2Session, url: str) -> None:
    """Request a token with a wrong secret."""
    session.fetch_token(url, client_id=CLIENT_ID, client_secret="wrong")


@pytest.mark.parametrize(
    ("session", "fetch"),
    [
        pytest.param(AuthlibSession(CLIENT_ID, "wrong"), fetch_by_authlib, id="Authlib"),
        pytest.param(
            OAuth2Session(client=BackendApplicationClient(client_id=CLIENT_ID)),
            fetch_by_requests_oauthlib,
            id="requests-oauthlib",
        ),
    ],
)
async def test_the_hook_of_the_page_has_the_problem(
    session: Any, fetch: Callable[[Any, str], None], sidecar: Sidecar
) -> None:
    """The hook in docs/rest-api.md gives the whole problem document, in either library."""
    page = (ROOT / "docs/rest-api.md").read_text("utf-8")
    (shown,) = re.findall(r"```python\n(class .*?)```", page, re.DOTALL)
    names: dict[str, Any] = {"session": session}
    exec(shown, names)  # noqa: S102 our own page
    with session, pytest.raises(names["TokenRefusedError"]) as refusal:
        await asyncio.to_thread(fetch, session, token_url(sidecar.addresses))
    assert str(refusal.value) == "invalid_client"
    problem = vars(refusal.value)["problem"]
    assert (problem["status"], problem["karmoCode"]) == (401, "40120001")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grpcurl:
    """grpcurl for one sidecar, with one source of the schema."""

    address: str
    flags: tuple[str, ...] = ()

    async def run(self, *arguments: str, **options: str) -> Ended:
        """Run it; `options` are flags with a value."""
        flags = [text for name, value in options.items() for text in (f"-{name}", value)]
        return await grpcurl((*self.flags, "-format-error", *flags), self.address, *arguments)


@pytest.fixture(name="tool")
def _tool(sidecar: Sidecar) -> Grpcurl:
    """Return grpcurl, which reads the schema by reflection."""
    return Grpcurl(address=sidecar.addresses["grpc"])


async def test_grpcurl_lists_the_service(tool: Grpcurl) -> None:
    """`list` names our service."""
    assert "karmo.auth.v1.TokenService" in printed(await tool.run("list")).splitlines()


async def test_grpcurl_describes_the_service(tool: Grpcurl) -> None:
    """`describe` prints the method with its HTTP rule."""
    description = printed(await tool.run("describe", "karmo.auth.v1.TokenService"))
    assert "rpc ExchangeToken ( .karmo.auth.v1.ExchangeTokenRequest )" in description
    assert 'option (.google.api.http) = { post:"/v1/oauth/token" body:"*"  };' in description


async def test_grpcurl_sends_fields(closed_sidecar: Sidecar) -> None:
    """With the schema from our file a message gives a token, with the contract's names."""
    flags = ("-protoset", str(PROTOSET))
    tool = Grpcurl(address=closed_sidecar.addresses["grpc"], flags=flags)
    token = json.loads(printed(await tool.run(METHOD, d=request(SECRET))))
    assert (token["token_type"], token["expires_in"]) == ("Bearer", 3600)
    assert token.keys() == {"access_token", "token_type", "expires_in"}


async def test_grpcurl_sends_basic_metadata(tool: Grpcurl) -> None:
    """Credentials in the metadata `authorization` give a token."""
    header = f"authorization: {basic(CLIENT_ID, SECRET)}"
    end = await tool.run(METHOD, H=header, d='{"grant_type": "client_credentials"}')
    assert json.loads(printed(end))["token_type"] == "Bearer"


async def test_grpcurl_decodes_the_details_of_a_failure(tool: Grpcurl) -> None:
    """Every detail of a refusal prints as its message, and `karmoCode` has that name."""
    end = await tool.run(METHOD, d='{"grant_type": "password"}')
    error = json.loads(end.stderr)
    assert error["code"] == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    details = {detail["@type"].rpartition(".")[2]: detail for detail in error["details"]}
    assert not any("@error" in detail or "@value" in detail for detail in details.values())
    assert details["ProblemDetails"]["karmoCode"] == "40010002"
    assert details["ErrorInfo"]["reason"] == "UNSUPPORTED_GRANT_TYPE"
    assert details["ErrorInfo"]["metadata"] == {
        "karmoCode": "40010002",
        "oauthError": "unsupported_grant_type",
    }
    assert details["BadRequest"]["fieldViolations"][0]["field"] == "grant_type"


async def test_reflection_can_be_off(closed_sidecar: Sidecar) -> None:
    """With reflection off, grpcurl gets no schema from the sidecar, and says so."""
    end = await Grpcurl(address=closed_sidecar.addresses["grpc"]).run("list")
    assert end.status != 0
    assert "does not support the reflection API" in end.stderr
