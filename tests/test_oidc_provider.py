"""Tests with a third-party authorization server, directly and as the sidecar's auth-api."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

import httpx2
import pytest
import pytest_asyncio

from tests.oidc_provider import CLIENT_ID, CLIENT_SECRET, OidcProvider, running_oidc_provider
from tests.sidecar_process import Sidecar, serving
from tests.verified import verified_claims
from tests.ways import Sent, Way, basic, open_ways


@dataclass(frozen=True, slots=True, kw_only=True)
class Presented:
    """The client's credentials in the form of a request."""

    header: httpx2.Auth = field(default_factory=httpx2.Auth)
    form: Mapping[str, str] = field(default_factory=dict)


def in_basic(secret: str) -> Presented:
    """Return `secret` in a Basic header (RFC 6749 2.3.1)."""
    return Presented(header=httpx2.BasicAuth(CLIENT_ID, secret))


def in_body(secret: str) -> Presented:
    """Return `secret` in the form body (RFC 6749 2.3.1)."""
    return Presented(form={"client_id": CLIENT_ID, "client_secret": secret})


Presentation = Callable[[str], Presented]

both_ways = pytest.mark.parametrize("presentation", [in_basic, in_body])


@pytest.fixture(scope="module")
async def provider() -> AsyncIterator[OidcProvider]:
    """Run the server once for this module."""
    async with running_oidc_provider() as running:
        yield running


async def exchange(provider: OidcProvider, presented: Presented) -> httpx2.Response:
    """Request a token from the server."""
    form = {"grant_type": "client_credentials", **presented.form}
    async with httpx2.AsyncClient(trust_env=False, timeout=30.0) as client:
        return await client.post(provider.token_url, data=form, auth=presented.header)


@both_ways
async def test_right_secret_gives_a_token(
    provider: OidcProvider, presentation: Presentation
) -> None:
    """Both authentication methods give a bearer token for partners-api, valid for one hour."""
    response = await exchange(provider, presentation(CLIENT_SECRET))
    token = response.json()
    assert response.status_code == 200
    assert (token["token_type"], token["expires_in"]) == ("Bearer", 3600)
    claims = await verified_claims(provider.jwks_url, token["access_token"])
    assert claims["client_id"] == CLIENT_ID


@both_ways
async def test_wrong_secret_is_refused(provider: OidcProvider, presentation: Presentation) -> None:
    """A wrong secret gives 401 invalid_client (RFC 6749 5.2) with either method."""
    response = await exchange(provider, presentation("wrong" + CLIENT_SECRET))
    assert response.status_code == 401
    assert response.json()["error"] == "invalid_client"


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """A sidecar with the server as its auth-api, and the ways in."""

    sidecar: Sidecar
    ways: Mapping[str, Way]

    async def upstream_status_of(self, problem: Mapping[str, str] | None) -> int | None:
        """Return the status of the server for the call of `problem`; None if it was not called."""
        assert problem
        line = await self.sidecar.log.find(problem["instance"].removeprefix("urn:uuid:"))
        status: int | None = json.loads(line).get("upstream_status")
        return status


@pytest_asyncio.fixture(scope="module", name="front")
async def _front(provider: OidcProvider) -> AsyncIterator[Front]:
    async with (
        serving("serve", auth_api_token_url=provider.token_url) as sidecar,
        open_ways(sidecar.addresses) as ways,
    ):
        yield Front(sidecar=sidecar, ways=ways)


def sent_as_basic(secret: str, grant_type: str = "client_credentials") -> Sent:
    """Return a request with `secret` in a Basic header."""
    return Sent(fields={"grant_type": grant_type}, authorization=(basic(CLIENT_ID, secret),))


def sent_as_fields(secret: str, grant_type: str = "client_credentials") -> Sent:
    """Return a request with `secret` in its fields."""
    credentials = {"client_id": CLIENT_ID, "client_secret": secret}
    return Sent(fields={"grant_type": grant_type, **credentials})


every_exchange = pytest.mark.parametrize("way", ["form", "json", "grpc"])
both_sent = pytest.mark.parametrize("sent", [sent_as_basic, sent_as_fields])


@every_exchange
@both_sent
async def test_its_token_passes_through_the_sidecar(
    provider: OidcProvider, front: Front, way: str, sent: Callable[[str], Sent]
) -> None:
    """A token through the sidecar verifies with the keys of the server."""
    outcome = await front.ways[way](sent(CLIENT_SECRET))
    assert outcome.token
    assert (outcome.token["token_type"], outcome.token["expires_in"]) == ("Bearer", 3600)
    claims = await verified_claims(provider.jwks_url, outcome.token["access_token"])
    assert claims["client_id"] == CLIENT_ID


@every_exchange
@both_sent
async def test_its_refusal_passes_through_the_sidecar(
    front: Front, way: str, sent: Callable[[str], Sent]
) -> None:
    """If the server refuses a wrong secret, the sidecar answers 401 `invalid_client`."""
    problem = (await front.ways[way](sent("wrong" + CLIENT_SECRET))).problem
    assert problem
    assert (problem["status"], problem["error"]) == (401, "invalid_client")
    assert await front.upstream_status_of(problem) == 401


@every_exchange
@both_sent
async def test_an_unsupported_grant_is_refused_before_it(
    front: Front, way: str, sent: Callable[[str, str], Sent]
) -> None:
    """A grant outside of the contract is refused without a call of the server."""
    problem = (await front.ways[way](sent(CLIENT_SECRET, "authorization_code"))).problem
    assert problem
    assert (problem["status"], problem["error"]) == (400, "unsupported_grant_type")
    assert await front.upstream_status_of(problem) is None
