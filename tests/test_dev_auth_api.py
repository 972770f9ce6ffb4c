"""Tests of the embedded auth-api over real sockets: tokens, decoding rules and refusals."""

import asyncio
import base64
import hashlib
import json
import pickle
import re
import socket
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.hashes import SHA256

from sidecar import dev_auth_api
from sidecar.dev_auth_api import DEMO_CLIENTS, Client
from sidecar.http_server.listener import HttpListener

TOKEN = "/v1/oauth/token"
JWKS = "/.well-known/jwks.json"
FORM = "application/x-www-form-urlencoded"
GRANT = b"grant_type=client_credentials"
DEMO = GRANT + b"&client_id=demo-partner&client_secret=demo-secret"
BASIC_DEMO = "Basic " + base64.b64encode(b"demo-partner:demo-secret").decode()
CHALLENGE = 'Basic realm="auth-api", charset="UTF-8"'
GRACE = 5.0  # seconds for calls in flight at the end
ERROR_TEXT = re.compile(r"[\x20-\x21\x23-\x5b\x5d-\x7e]+")

# Clients whose credentials need decoding, unlike those of the demo clients.
AWKWARD = {
    "colon": "se:cr:et",
    "a:b": "c d+e%f/",
    "p": "qr",  # p:qr is 4 bytes, so its base64 ends in ==
    "p2": "qr",  # and p2:qr in =
    "ab": ">>>???",  # its base64 holds + and /
    "under_score": "tilde~",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A running auth-api: its base URL, a client of it, and its listener."""

    url: str
    http: httpx2.AsyncClient
    listener: HttpListener

    async def post(self, body: bytes, **headers: str) -> httpx2.Response:
        """Post `body` to the token endpoint, by default as a form."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.post(TOKEN, content=body, headers={"content-type": FORM, **named})

    async def raw(self, request: bytes, *, half_close: bool = False) -> bytes:
        """Send the bytes of `request` and return all bytes until the server closes."""
        port = httpx2.URL(self.url).port
        async with asyncio.timeout(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            if half_close:
                writer.write_eof()
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
        return answer


@asynccontextmanager
async def serve(*extra: Client) -> AsyncIterator[Running]:
    """Serve the demo clients and `extra` on a free port of this loop."""
    bound = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    app = dev_auth_api.build(url, (*DEMO_CLIENTS, *extra))
    listener = HttpListener(app, bound, grace=GRACE)
    await listener.start()
    async with httpx2.AsyncClient(base_url=url, trust_env=False) as http:
        yield Running(url=url, http=http, listener=listener)
    await listener.stop()


@pytest.fixture(scope="module")
async def api() -> AsyncIterator[Running]:
    """Run one auth-api with the demo clients and the clients above."""
    extra = [
        Client(client_id=name, secret_hash=dev_auth_api.hash_secret(secret))
        for name, secret in AWKWARD.items()
    ]
    async with serve(*extra) as running:
        yield running


def basic(credentials: str | bytes) -> str:
    """Return a Basic header for `credentials`, without form-encoding."""
    raw = credentials.encode() if isinstance(credentials, str) else credentials
    return "Basic " + base64.b64encode(raw).decode()


def token_request(*headers: bytes, body: bytes = GRANT) -> bytes:
    """Return the bytes of a token request with `headers` and `Connection: close`."""
    length = b"content-length: %d" % len(body)
    common = (b"host: x", b"connection: close", b"content-type: " + FORM.encode(), length)
    head = b"\r\n".join((b"POST " + TOKEN.encode() + b" HTTP/1.1", *common, *headers))
    return head + b"\r\n\r\n" + body


def assert_refused(response: httpx2.Response, status: int, error: str) -> None:
    """Assert that `response` is the expected error response of RFC 6749 section 5.2."""
    assert (response.status_code, response.json()["error"]) == (status, error)
    assert response.json().keys() == {"error", "error_description"}
    assert ERROR_TEXT.fullmatch(response.json()["error_description"])
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["pragma"] == "no-cache"
    assert response.headers.get("www-authenticate") == (CHALLENGE if status == 401 else None)


def assert_outcome(response: httpx2.Response, outcome: str) -> None:
    """Assert the outcome in a row of a table: `200`, or a status and an error code."""
    status, _, error = outcome.partition(" ")
    if error:
        assert_refused(response, int(status), error)
        return
    assert response.status_code == int(status)
    assert response.json()["token_type"] == "Bearer"


# ---- success ----


async def test_success_response_has_exactly_the_members_and_headers_of_the_contract(
    api: Running,
) -> None:
    """A token response is no-store JSON with three members and an integer lifetime."""
    response = await api.post(GRANT, authorization=BASIC_DEMO)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["pragma"] == "no-cache"
    assert response.json().keys() == {"access_token", "token_type", "expires_in"}
    assert b'"token_type":"Bearer","expires_in":3600}' in response.content


async def test_token_verifies_through_the_published_keys(
    api: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyJWT finds the key by the token's kid at the JWKS URL and accepts signature and claims."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")  # PyJWT uses urllib, which looks for proxies
    before = int(time.time())
    token = (await api.post(DEMO)).json()["access_token"]
    jwks = jwt.PyJWKClient(api.url + JWKS)
    key = await asyncio.to_thread(jwks.get_signing_key_from_jwt, token)
    claims = jwt.decode(token, key, algorithms=["RS256"], audience="partners-api", issuer=api.url)
    assert claims.keys() == {"iss", "sub", "client_id", "aud", "iat", "exp", "jti"}
    assert claims["sub"] == claims["client_id"] == "demo-partner"
    assert claims["exp"] == claims["iat"] + 3600
    assert before <= claims["iat"] <= time.time()
    assert uuid.UUID(claims["jti"]).version == 4
    assert jwt.get_unverified_header(token) == {
        "alg": "RS256",
        "typ": "at+jwt",
        "kid": key.key_id,
    }


async def test_token_verifies_with_plain_cryptography(api: Running) -> None:
    """The signature is RSASSA-PKCS1-v1_5 with SHA-256 under the modulus of the JWKS."""
    token = (await api.post(DEMO)).json()["access_token"]
    jwk = (await api.http.get(JWKS)).json()["keys"][0]
    modulus, exponent = (int.from_bytes(_unbase64url(jwk[name])) for name in ("n", "e"))
    signed, _, signature = token.rpartition(".")
    key = RSAPublicNumbers(exponent, modulus).public_key()
    assert key.key_size == 2048
    key.verify(_unbase64url(signature), signed.encode(), PKCS1v15(), SHA256())


async def test_jwks_publishes_one_public_key_named_by_its_thumbprint(api: Running) -> None:
    """The JWKS has no private member, may be cached, and its kid follows RFC 7638."""
    response = await api.http.get(JWKS)
    assert response.headers["cache-control"] == "max-age=300"
    (key,) = response.json()["keys"]
    assert key.keys() == {"kty", "n", "e", "kid", "use", "alg"}
    assert (key["kty"], key["use"], key["alg"]) == ("RSA", "sig", "RS256")
    required = {name: key[name] for name in ("e", "kty", "n")}
    canonical = json.dumps(required, separators=(",", ":"), sort_keys=True).encode()
    thumbprint = base64.urlsafe_b64encode(hashlib.sha256(canonical).digest()).rstrip(b"=")
    assert key["kid"] == thumbprint.decode()


async def test_metadata_leads_to_the_working_endpoints(api: Running) -> None:
    """A client that knows only the issuer finds the token endpoint and the keys (RFC 8414)."""
    response = await api.http.get("/.well-known/oauth-authorization-server")
    assert response.headers["cache-control"] == "max-age=300"
    assert response.json() == {
        "issuer": api.url,
        "token_endpoint": api.url + TOKEN,
        "jwks_uri": api.url + JWKS,
        "grant_types_supported": ["client_credentials"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
    }


async def test_every_token_and_every_server_is_distinct(api: Running) -> None:
    """No two tokens share a jti, and each server signs with its own key."""
    tokens = [(await api.post(DEMO)).json()["access_token"] for _ in range(2)]
    ids = {jwt.decode(token, options={"verify_signature": False})["jti"] for token in tokens}
    assert len(ids) == 2
    async with serve() as other:
        theirs = (await other.post(DEMO)).json()["access_token"]
    ours = jwt.get_unverified_header(tokens[0])["kid"]
    assert jwt.get_unverified_header(theirs)["kid"] != ours


# ---- HTTP Basic, rule by rule ----

DECODING = {
    "R21 as registered": (BASIC_DEMO, "200"),
    "R21 lower case": (BASIC_DEMO.replace("Basic", "basic"), "200"),
    "R21 upper case": (BASIC_DEMO.replace("Basic", "BASIC"), "200"),
    "R21 many spaces": (BASIC_DEMO.replace(" ", "   "), "200"),
    "R21 tab for space": (BASIC_DEMO.replace(" ", "\t"), "401 invalid_client"),
    "R21 longer scheme": (BASIC_DEMO.replace("Basic", "Basics"), "401 invalid_client"),
    "R21 scheme alone": ("Basic", "400 invalid_request"),
    "R22 second colon": (basic("colon:se:cr:et"), "200"),
    "R22 all form-encoded": (basic("a%3Ab:c+d%2Be%25f%2F"), "200"),
    "R22 lower-case escapes": (basic("a%3ab:c%20d%2be%25f%2f"), "200"),
    "R22 more encoded than needed": (basic("under%5Fscore:tilde%7E"), "200"),
    "R22 nothing encoded": (basic("under_score:tilde~"), "200"),
    "R22 plus is a space": (basic("a%3Ab:c+d+e%25f%2F"), "401 invalid_client"),
    "R22 decoded once": (basic("a%253Ab:c+d%2Be%25f%2F"), "401 invalid_client"),
    "R22 encoded colon is no separator": (basic("p%3Aqr"), "400 invalid_request"),
    "R23 raw colon in id": (basic("a:b:c+d%2Be%25f%2F"), "401 invalid_client"),
    "R23 encoded colon in secret": (basic("colon:se%3Acr%3Aet"), "200"),
    "R24 not base64": ("Basic ????", "400 invalid_request"),
    "R24 impossible length": ("Basic YWJjZ", "400 invalid_request"),
    "R24 standard alphabet": ("Basic YWI6Pj4+Pz8/", "200"),
    "R24 URL-safe alphabet": ("Basic YWI6Pj4-Pz8_", "400 invalid_request"),
    "R24 no colon": (basic("demo-partner"), "400 invalid_request"),
    "R24 nothing inside": ("Basic =", "400 invalid_request"),
    "R24 escape cut short": (basic("p:q%7"), "400 invalid_request"),
    "R24 escape not hexadecimal": (basic("p:q%zz"), "400 invalid_request"),
    "R24 percent in id": (basic("100%:x"), "400 invalid_request"),
    "R24 Latin-1": (basic(b"p:caf\xe9"), "400 invalid_request"),
    "R24 escaped Latin-1": (basic("p:caf%E9"), "400 invalid_request"),
    "R24 beyond ASCII": (basic("p:caf\N{LATIN SMALL LETTER E WITH ACUTE}"), "400 invalid_request"),
    "R24 NUL": (basic(b"p:q\0r"), "400 invalid_request"),
    "R24 escaped line feed": (basic("p%0A:qr"), "400 invalid_request"),
    "R24 DEL": (basic(b"p:q\x7fr"), "400 invalid_request"),
    "R24 empty halves": (basic(":"), "401 invalid_client"),
    "R24 empty secret": (basic("demo-partner:"), "401 invalid_client"),
    "R25 both paddings there": (basic("p:qr"), "200"),
    "R25 both paddings missing": (basic("p:qr").rstrip("="), "200"),
    "R25 one padding missing": (basic("p2:qr").rstrip("="), "200"),
    "R25 half of the padding": (basic("p:qr")[:-1], "400 invalid_request"),
    "R25 too much padding": (basic("p2:qr") + "=", "400 invalid_request"),
    "R25 padding where none is due": (BASIC_DEMO + "=", "400 invalid_request"),
    "R25 padding in the middle": (basic("p:qr") + "cXI=", "400 invalid_request"),
    "R25 space inside": (BASIC_DEMO[:12] + " " + BASIC_DEMO[12:], "400 invalid_request"),
    "R25 tab inside": (BASIC_DEMO[:12] + "\t" + BASIC_DEMO[12:], "400 invalid_request"),
    "R28 Bearer": ("Bearer abc", "401 invalid_client"),
    "R28 no scheme": ("", "401 invalid_client"),
}


@pytest.mark.parametrize(("value", "outcome"), DECODING.values(), ids=DECODING)
async def test_basic_is_decoded_by_the_rules(api: Running, value: str, outcome: str) -> None:
    """Each Authorization value gives the outcome of its rule, and never a 500."""
    assert_outcome(await api.post(GRANT, authorization=value), outcome)


HOSTILE = {
    "bytes beyond ASCII": ((b"authorization: Basic \xff\xfe\xe9",), b" 400 "),
    "two headers": ((f"authorization: {BASIC_DEMO}".encode(),) * 2, b" 400 "),
    "two methods in two headers": (
        (f"authorization: {BASIC_DEMO}".encode(), b"authorization: Bearer x"),
        b" 400 ",
    ),
    "scheme beyond ASCII": ((b"authorization: Ba\xdfic cDpxcg",), b" 401 "),
}


@pytest.mark.parametrize(("headers", "status"), HOSTILE.values(), ids=HOSTILE)
async def test_hostile_authorization_bytes_are_refused(
    api: Running, headers: tuple[bytes, ...], status: bytes
) -> None:
    """Bytes that no HTTP library would send are refused by the application, too."""
    answer = await api.raw(token_request(*headers))
    assert answer.startswith(b"HTTP/1.1" + status)
    assert b'{"error":"invalid_' in answer


# ---- the body ----

BODIES = {
    "credentials in the body": (DEMO, "200"),
    "escaped everywhere": (
        b"grant%5Ftype=client%5Fcredentials&client%5Fid=a%3Ab&client_secret=c+d%2Be%25f%2F",
        "200",
    ),
    "raw colon in the body": (
        GRANT + b"&client_id=a:b&client_secret=c+d%2Be%25f/",
        "200",
    ),
    "equals sign in a value": (DEMO + b"&x=1=2", "200"),
    "empty fields": (b"&&" + DEMO + b"&", "200"),
    "unknown parameter": (DEMO + b"&scope=a+b&resource=caf%C3%A9", "200"),
    "empty body": (b"", "400 invalid_request"),
    "grant_type missing": (DEMO.partition(b"&")[2], "400 invalid_request"),
    "grant_type empty": (b"grant_type=", "400 invalid_request"),
    "grant_type without equals": (b"grant_type", "400 invalid_request"),
    "other grant_type": (b"grant_type=password", "400 unsupported_grant_type"),
    "grant_type in capitals": (b"grant_type=CLIENT_CREDENTIALS", "400 unsupported_grant_type"),
    "grant_type repeated": (GRANT + b"&" + DEMO, "400 invalid_request"),
    "client_id repeated": (DEMO + b"&client%5Fid=demo-partner", "400 invalid_request"),
    "repeated, once empty": (DEMO + b"&client_secret=", "400 invalid_request"),
    "unknown repeated": (DEMO + b"&x=1&x=2", "400 invalid_request"),
    "bad escape": (DEMO + b"&x=%", "400 invalid_request"),
    "raw Latin-1": (DEMO + b"&x=\xe9", "400 invalid_request"),
    "escaped Latin-1": (DEMO + b"&x=%E9", "400 invalid_request"),
    "client_id beyond ASCII": (GRANT + b"&client_id=caf%C3%A9", "400 invalid_request"),
    "control character": (GRANT + b"&client_id=p&client_secret=%00", "400 invalid_request"),
    "no credentials": (GRANT, "401 invalid_client"),
    "client_id alone": (GRANT + b"&client_id=demo-partner", "401 invalid_client"),
    "client_secret alone": (GRANT + b"&client_secret=demo-secret", "401 invalid_client"),
    "empty secret": (GRANT + b"&client_id=demo-partner&client_secret=", "401 invalid_client"),
    "wrong grant before wrong client": (b"grant_type=x&client_id=x", "400 unsupported_grant_type"),
    "JSON": (b'{"grant_type":"client_credentials"}', "400 invalid_request"),
}


@pytest.mark.parametrize(("body", "outcome"), BODIES.values(), ids=BODIES)
async def test_body_is_read_strictly(api: Running, body: bytes, outcome: str) -> None:
    """Each form body gives the outcome that RFC 6749 sections 3.2 and 5.2 demand."""
    assert_outcome(await api.post(body), outcome)


COMBINED = {
    "equal client_id": (b"&client_id=demo-partner", "200"),
    "empty body credentials": (b"&client_id=&client_secret=", "200"),
    "other client_id": (b"&client_id=limited-partner", "400 invalid_request"),
    "body secret": (b"&client_secret=demo-secret", "400 invalid_request"),
    "both": (b"&client_id=demo-partner&client_secret=demo-secret", "400 invalid_request"),
}


@pytest.mark.parametrize(("extra", "outcome"), COMBINED.values(), ids=COMBINED)
async def test_basic_with_body_credentials(api: Running, extra: bytes, outcome: str) -> None:
    """Two methods in one request are refused, but the id may be repeated (RFC 6749 2.3)."""
    assert_outcome(await api.post(GRANT + extra, authorization=BASIC_DEMO), outcome)


MEDIA_TYPES = {
    FORM: "200",
    f"{FORM};charset=UTF-8": "200",
    "Application/X-WWW-Form-URLEncoded ; charset=utf-8": "200",
    "application/json": "400 invalid_request",
    "multipart/form-data; boundary=x": "400 invalid_request",
    f"{FORM}x": "400 invalid_request",
    "": "400 invalid_request",
    None: "400 invalid_request",
}


@pytest.mark.parametrize(("media_type", "outcome"), MEDIA_TYPES.items())
async def test_only_forms_are_accepted(api: Running, media_type: str | None, outcome: str) -> None:
    """Only a form is accepted; its media type is compared without case and parameters."""
    headers = {} if media_type is None else {"content-type": media_type}
    assert_outcome(await api.http.post(TOKEN, content=DEMO, headers=headers), outcome)


@pytest.mark.parametrize("name", ["grant_type", "client_id", "client_secret"])
async def test_parameters_in_the_query_are_refused(api: Running, name: str) -> None:
    """A parameter in the URL is refused, even beside valid credentials (RFC 6749 2.3.1)."""
    headers = {"content-type": FORM}
    response = await api.http.post(f"{TOKEN}?{name}=canary", content=DEMO, headers=headers)
    assert_refused(response, 400, "invalid_request")
    assert "canary" not in response.text


async def test_body_of_the_limit_is_read(api: Running) -> None:
    """A body of 16 KiB is accepted, one byte more is not."""
    full = DEMO + b"&x=" + b"a" * (16 * 1024 - len(DEMO) - 3)
    assert_outcome(await api.post(full), "200")
    response = await api.post(full + b"a")
    assert_refused(response, 413, "invalid_request")
    assert response.headers["connection"] == "close"


async def test_endless_chunked_body_is_cut(api: Running) -> None:
    """An endless chunked body is answered at the limit, and the connection closed."""
    head = f"POST {TOKEN} HTTP/1.1\r\nhost: x\r\ncontent-type: {FORM}\r\n".encode()
    chunk = b"4001\r\n" + b"a" * 0x4001 + b"\r\n"
    answer = await api.raw(head + b"transfer-encoding: chunked\r\n\r\n" + chunk)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"error":"invalid_request"' in answer


async def test_client_that_leaves_early_raises_nothing(
    api: Running, caplog: pytest.LogCaptureFixture
) -> None:
    """A connection that ends inside the body leaves no traceback in the log."""
    whole = token_request(body=DEMO)
    assert await api.raw(whole[:-10], half_close=True) == b""
    if tasks := set(api.listener._state.tasks):
        await asyncio.wait(tasks, timeout=20)
    assert not api.listener._state.tasks
    assert [record for record in caplog.records if record.exc_info] == []


# ---- clients ----

POLICY = {
    "disabled": ("disabled-partner:disabled-secret", "403 access_denied"),
    "disabled, wrong secret": ("disabled-partner:demo-secret", "401 invalid_client"),
    "limited": ("limited-partner:limited-secret", "400 unauthorized_client"),
    "limited, wrong secret": ("limited-partner:demo-secret", "401 invalid_client"),
    "wrong secret": ("demo-partner:demo-secret2", "401 invalid_client"),
    "unknown": ("nobody:demo-secret", "401 invalid_client"),
}


@pytest.mark.parametrize(("pair", "outcome"), POLICY.values(), ids=POLICY)
async def test_policy_is_told_only_to_its_client(api: Running, pair: str, outcome: str) -> None:
    """The policy of a client is reported only after correct authentication."""
    assert_outcome(await api.post(GRANT, authorization=basic(pair)), outcome)


async def test_failed_authentication_is_the_same_for_everyone(api: Running) -> None:
    """Unknown clients, wrong and absent secrets give identical bytes, except for Date."""
    pairs = ["nobody:x", "demo-partner:x", "disabled-partner:x", "limited-partner:x", ":"]
    requests = [token_request(f"authorization: {basic(pair)}".encode()) for pair in pairs]
    answers = [await api.raw(request) for request in [*requests, token_request()]]
    assert len({re.sub(rb"\r\ndate: [^\r]+", b"", answer) for answer in answers}) == 1
    assert answers[0].startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("show", [repr, str, format, pickle.dumps])
def test_client_shows_neither_secret_nor_hash(show: Callable[[object], object]) -> None:
    """A printed or pickled client does not contain its secret in any form."""
    shown = str(show(DEMO_CLIENTS[0]))
    assert "demo-partner" in shown
    assert "demo-secret" not in shown


def test_repr_of_a_client_leaves_the_hash_out() -> None:
    """The repr of a client does not contain the hash of its secret."""
    assert repr(DEMO_CLIENTS[0].secret_hash) not in repr(DEMO_CLIENTS[0])


# ---- the server around it ----

ROUTING = {
    "GET": ("GET", TOKEN, 405, "POST"),
    "PUT": ("PUT", TOKEN, 405, "POST"),
    "OPTIONS": ("OPTIONS", TOKEN, 405, "POST"),
    "unknown path": ("POST", "/nothing", 404, None),
    "trailing slash": ("POST", TOKEN + "/", 404, None),
}


@pytest.mark.parametrize(("method", "path", "status", "allow"), ROUTING.values(), ids=ROUTING)
async def test_other_methods_and_paths_are_refused_as_json(
    api: Running, method: str, path: str, status: int, allow: str | None
) -> None:
    """Other methods and paths are refused in JSON, and never redirected."""
    response = await api.http.request(method, path)
    assert_refused(response, status, "invalid_request")
    assert response.headers.get("allow") == allow


def _unbase64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
