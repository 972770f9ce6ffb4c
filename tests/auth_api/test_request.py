"""The request to the auth-api: how credentials are sent, whichever way they came."""

import base64
from urllib.parse import parse_qsl, unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.auth_api.client_credentials import ClientCredentials
from sidecar.auth_api.request import ClientAuthentication, write
from sidecar.secret import Secret
from tests.properties import many
from tests.ways import basic

AS_RECEIVED, BASIC, POST = ClientAuthentication
GRANT = ("grant_type", "client_credentials")
ID, SECRET = "part ner", "s3cr+t%/é:"


def came(authorization: str | None, client_id: str = ID, secret: str = SECRET) -> ClientCredentials:
    """Return credentials that came in a header, or in the body."""
    return ClientCredentials(
        client_id=Secret(client_id),
        client_secret=Secret(secret),
        authorization=Secret(authorization) if authorization else None,
        encoded=(),
    )


IN_BODY = [GRANT, ("client_id", ID), ("client_secret", SECRET)]
ANEW = basic("part+ner", "s3cr%2Bt%25%2F%C3%A9%3A")
RAW = basic("part ner", "raw")


@pytest.mark.parametrize(
    ("authentication", "authorization", "header", "body"),
    [
        (AS_RECEIVED, None, None, IN_BODY),
        (AS_RECEIVED, RAW, RAW, [GRANT]),
        (BASIC, None, ANEW, [GRANT]),
        (BASIC, RAW, ANEW, [GRANT]),
        (POST, None, None, IN_BODY),
        (POST, RAW, None, IN_BODY),
    ],
)
def test_authentication(
    authentication: ClientAuthentication,
    authorization: str | None,
    header: str | None,
    body: list[tuple[str, str]],
) -> None:
    """As received a header stays byte for byte; the other modes encode by RFC 6749 2.3.1."""
    headers, content = write(came(authorization), authentication)
    assert headers.get("Authorization") == header
    assert parse_qsl(content.decode()) == body


vschars = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1)


@given(vschars, vschars)
@many
def test_any_credentials_survive(client_id: str, secret: str) -> None:
    """A server that decodes by RFC 6749 appendix B reads what the client meant."""
    headers, _ = write(came(None, client_id, secret), BASIC)
    token = base64.b64decode(headers["Authorization"].removeprefix("Basic ")).decode()
    assert [unquote_plus(part) for part in token.split(":")] == [client_id, secret]
    _, body = write(came(RAW, client_id, secret), POST)
    assert parse_qsl(body.decode(), keep_blank_values=True)[1:] == [
        ("client_id", client_id),
        ("client_secret", secret),
    ]


@given(vschars, vschars)
@many
def test_what_is_encoded_anew_is_recognised(client_id: str, secret: str) -> None:
    """A text that repeats a header that was encoded anew shows credentials, whatever they are."""
    for authorization in (None, RAW):
        credentials = came(authorization, client_id, secret)
        headers, _ = write(credentials, BASIC)
        assert credentials.appear_in(f"not known: {headers['Authorization']}")
