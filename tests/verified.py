"""Token verification by PyJWT, a library that the product does not use."""

import asyncio
from typing import Any

import jwt


async def verified_claims(jwks_url: str, token: str) -> dict[str, Any]:
    """Return the claims of `token`, after PyJWT has verified it with the keys at `jwks_url`.

    It must be an access token (RFC 9068) for the partner API. Raises
    jwt.PyJWTError.
    """
    keys = jwt.PyJWKClient(jwks_url)
    key = await asyncio.to_thread(keys.get_signing_key_from_jwt, token)
    checked = jwt.decode_complete(token, key, algorithms=["RS256"], audience="partners-api")
    assert checked["header"]["typ"] == "at+jwt"
    claims: dict[str, Any] = checked["payload"]
    return claims
