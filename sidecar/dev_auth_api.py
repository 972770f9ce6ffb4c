"""Embedded auth-api for development and tests: a small OAuth 2.0 token endpoint.

It issues access tokens (RFC 9068) by the client credentials grant (RFC 6749 section 4.4),
and publishes its key and metadata. This module is the application only; its caller owns
the socket and the lifetime. It is not for production: clients and key are in memory only.
No other module imports joserfc.
"""

import binascii
import hmac
import secrets
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sidecar.transcoding.percent import decode_form

_ENDPOINT = "/v1/oauth/token"
_JWKS = "/.well-known/jwks.json"
_LIFETIME_SECONDS = 3600
_BODY_LIMIT_BYTES = 16 * 1024
_GRANT_TYPE = "client_credentials"
_FORM = "application/x-www-form-urlencoded"
_PUBLISHED = {"Cache-Control": "max-age=300"}
_NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_CHALLENGE = {"WWW-Authenticate": 'Basic realm="auth-api", charset="UTF-8"'}
_STATUS = {"invalid_client": 401, "access_denied": 403}  # all others are 400
_PEPPER = secrets.token_bytes(32)


def hash_secret(secret: str) -> bytes:
    """Return the HMAC-SHA-256 of `secret` under a key that only this process has."""
    return hmac.digest(_PEPPER, secret.encode(), "sha256")


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A registered client. `secret_hash` is from `hash_secret`; the secret is not kept.

    A client that is not `enabled`, or that lacks `may_use_grant`, learns this only after its
    secret was verified.
    """

    client_id: str
    secret_hash: bytes = field(repr=False)
    enabled: bool = True
    may_use_grant: bool = True


DEMO_CLIENTS = (
    Client(client_id="demo-partner", secret_hash=hash_secret("demo-secret")),
    Client(client_id="disabled-partner", secret_hash=hash_secret("disabled-secret"), enabled=False),
    Client(
        client_id="limited-partner", secret_hash=hash_secret("limited-secret"), may_use_grant=False
    ),
)

# Verified in place of an unknown client; no secret has this hash.
_UNKNOWN = Client(client_id="", secret_hash=secrets.token_bytes(32))


class OAuthError(HTTPException):
    """An error response of RFC 6749 section 5.2; it never repeats what the client sent."""

    def __init__(self, error: str, description: str) -> None:
        headers = _CHALLENGE if error == "invalid_client" else None
        super().__init__(_STATUS.get(error, 400), description, headers)
        self.error = error


def build(issuer: str, clients: Iterable[Client] = DEMO_CLIENTS) -> Starlette:
    """Return an auth-api for `clients`, with a new RSA key in memory.

    `issuer` is the URL of this server without a path: the `iss` of its tokens, and the base
    of the URLs in its metadata (RFC 8414).
    """
    key = RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256"}, auto_kid=True)
    registry = {client.client_id: client for client in clients}
    auth_api = _AuthApi(issuer=issuer, clients=registry, key=key)
    jwks = JSONResponse({"keys": [key.as_dict(private=False)]}, headers=_PUBLISHED)
    metadata = JSONResponse(_metadata(issuer), headers=_PUBLISHED)
    routes = [
        Route(_ENDPOINT, auth_api.token, methods=["POST"]),
        Route(_JWKS, jwks, methods=["GET"]),
        Route("/.well-known/oauth-authorization-server", metadata, methods=["GET"]),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _refuse})
    # After a redirect the client would send its secret again (RFC 9700 section 4.12).
    app.router.redirect_slashes = False
    return app


def _metadata(issuer: str) -> dict[str, str | list[str]]:
    # response_types_supported would be empty, which RFC 8414 section 3.2 forbids.
    return {
        "issuer": issuer,
        "token_endpoint": issuer + _ENDPOINT,
        "jwks_uri": issuer + _JWKS,
        "grant_types_supported": [_GRANT_TYPE],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _AuthApi:
    issuer: str
    clients: Mapping[str, Client]
    key: RSAKey = field(repr=False)

    async def token(self, request: Request) -> Response:
        form = await _read_form(request)
        client_id, secret = _credentials(request.headers.getlist("authorization"), form)
        _check_grant_type(form)
        self._authenticate(client_id, secret)
        token = {"access_token": self._sign(client_id), "token_type": "Bearer"}
        return JSONResponse({**token, "expires_in": _LIFETIME_SECONDS}, headers=_NO_STORE)

    def _authenticate(self, client_id: str, secret: str) -> None:
        client = self.clients.get(client_id, _UNKNOWN)
        if not hmac.compare_digest(client.secret_hash, hash_secret(secret)):
            raise OAuthError("invalid_client", "client authentication is missing or has failed")
        if not client.enabled:
            raise OAuthError("access_denied", "the client is disabled")
        if not client.may_use_grant:
            raise OAuthError("unauthorized_client", "the client may not use this grant")

    def _sign(self, client_id: str) -> str:
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "sub": client_id,
            "client_id": client_id,
            "aud": "partners-api",
            "iat": now,
            "exp": now + _LIFETIME_SECONDS,
            "jti": str(uuid.uuid4()),
        }
        header = {"alg": "RS256", "typ": "at+jwt", "kid": self.key.kid}
        return jwt.encode(header, claims, self.key, algorithms=["RS256"])


async def _refuse(_: Request, exc: Exception) -> Response:
    refusal = cast("HTTPException", exc)  # it is registered for this type only
    error = refusal.error if isinstance(refusal, OAuthError) else "invalid_request"
    body = {"error": error, "error_description": refusal.detail}
    return JSONResponse(body, refusal.status_code, {**_NO_STORE, **(refusal.headers or {})})


async def _read_form(request: Request) -> dict[str, str]:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip()
    if media_type.lower() != _FORM:
        raise OAuthError("invalid_request", f"the body must be {_FORM}")
    if {"grant_type", "client_id", "client_secret"} & request.query_params.keys():
        raise OAuthError("invalid_request", "parameters belong in the body, not in the query")
    try:
        return _parse_form(await _read_body(request))
    except (ClientDisconnect, ValueError):
        # Not chained: a UnicodeDecodeError carries the bytes that it could not decode.
        raise OAuthError("invalid_request", "the body is malformed or repeats a name") from None


async def _read_body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _BODY_LIMIT_BYTES:
            raise HTTPException(413, "the body is too large", {"Connection": "close"})
    return body


def _parse_form(body: bytes) -> dict[str, str]:
    fields = [part.partition("=") for part in body.decode().split("&") if part]
    pairs = [(decode_form(name), decode_form(value)) for name, _, value in fields]
    form = dict(pairs)
    if len(form) != len(pairs):
        raise ValueError("a name is repeated")
    # RFC 6749 section 3.2: a parameter without a value counts as absent.
    return {name: value for name, value in form.items() if value}


def _check_grant_type(form: Mapping[str, str]) -> None:
    if "grant_type" not in form:
        raise OAuthError("invalid_request", "grant_type is missing")
    if form["grant_type"] != _GRANT_TYPE:
        raise OAuthError("unsupported_grant_type", f"grant_type must be {_GRANT_TYPE}")


def _credentials(authorization: Sequence[str], form: Mapping[str, str]) -> tuple[str, str]:
    # Returns client_id and client_secret. Missing ones are empty, and fail later.
    if len(authorization) > 1:
        raise OAuthError("invalid_request", "Authorization is repeated")
    pair = form.get("client_id", ""), form.get("client_secret", "")
    if authorization:
        pair = _from_header(authorization[0], form)
    if not all(text.isascii() and text.isprintable() for text in pair):  # RFC 6749 appendix A
        raise OAuthError("invalid_request", "the credentials must be printable ASCII")
    return pair


def _from_header(authorization: str, form: Mapping[str, str]) -> tuple[str, str]:
    scheme, _, token68 = authorization.partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        client_id, secret = _decode_basic(token68.lstrip(" "))
    except ValueError:
        raise OAuthError("invalid_request", "the Basic credentials are malformed") from None
    if "client_secret" in form or form.get("client_id", client_id) != client_id:
        raise OAuthError("invalid_request", "the client must authenticate in one way only")
    return client_id, secret


def _decode_basic(token68: str) -> tuple[str, str]:
    # RFC 6749 section 2.3.1: each half inside the base64 is form-encoded separately.
    data = token68.rstrip("=")
    padded = data + "=" * (-len(data) % 4)
    if token68 not in {data, padded}:
        raise ValueError("the padding is wrong")
    text = binascii.a2b_base64(padded, strict_mode=True).decode()
    client_id, colon, secret = text.partition(":")
    if not colon:
        raise ValueError("there is no colon")
    return decode_form(client_id), decode_form(secret)
