"""A third-party authorization server issues the tokens that our contract describes."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

import httpx2
import jwt
import pytest

from tests.oidc_provider import CLIENT_ID, CLIENT_SECRET, OidcProvider, running_oidc_provider


@dataclass(frozen=True, slots=True, kw_only=True)
class Presented:
    """The client's credentials as a request carries them."""

    header: httpx2.Auth = field(default_factory=httpx2.Auth)
    form: Mapping[str, str] = field(default_factory=dict)


def in_basic(secret: str) -> Presented:
    """Present `secret` in a Basic header (RFC 6749 2.3.1)."""
    return Presented(header=httpx2.BasicAuth(CLIENT_ID, secret))


def in_body(secret: str) -> Presented:
    """Present `secret` in the form body (RFC 6749 2.3.1)."""
    return Presented(form={"client_id": CLIENT_ID, "client_secret": secret})


Presentation = Callable[[str], Presented]

both_ways = pytest.mark.parametrize("presentation", [in_basic, in_body])


@pytest.fixture(scope="module")
async def provider() -> AsyncIterator[OidcProvider]:
    """Run the server once for this module."""
    async with running_oidc_provider() as running:
        yield running


async def exchange(provider: OidcProvider, presented: Presented) -> httpx2.Response:
    """Ask the server for a token."""
    form = {"grant_type": "client_credentials", **presented.form}
    async with httpx2.AsyncClient(trust_env=False, timeout=30.0) as client:
        return await client.post(provider.token_url, data=form, auth=presented.header)


async def verified_claims(provider: OidcProvider, token: str) -> dict[str, object]:
    """Return the claims of `token` once PyJWT has checked it with the keys of the server."""
    keys = jwt.PyJWKClient(provider.jwks_url)
    key = await asyncio.to_thread(keys.get_signing_key_from_jwt, token)
    return jwt.decode(token, key, algorithms=["RS256"], audience="partners-api")


@both_ways
async def test_right_secret_gives_a_token(
    provider: OidcProvider, presentation: Presentation
) -> None:
    """Both authentication methods give a bearer token for partners-api, good for one hour."""
    response = await exchange(provider, presentation(CLIENT_SECRET))
    token = response.json()
    assert response.status_code == 200
    assert (token["token_type"], token["expires_in"]) == ("Bearer", 3600)
    claims = await verified_claims(provider, token["access_token"])
    assert claims["client_id"] == CLIENT_ID


@both_ways
async def test_wrong_secret_is_refused(provider: OidcProvider, presentation: Presentation) -> None:
    """A wrong secret gives 401 invalid_client (RFC 6749 5.2), whichever way it is presented."""
    response = await exchange(provider, presentation("wrong" + CLIENT_SECRET))
    assert response.status_code == 401
    assert response.json()["error"] == "invalid_client"
