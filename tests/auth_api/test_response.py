"""What an answer of the auth-api means: each good token, each broken one, and each error."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from karmo.problem.v1 import problem_details_pb2 as pb

from sidecar.auth_api.client_credentials import ClientCredentials
from sidecar.auth_api.faults import UpstreamError
from sidecar.auth_api.response import Response, Token, interpret
from sidecar.exchange.credentials import TokenRequest, check
from sidecar.problems import CATALOGUE, FieldError, Problem, Reason, to_status
from sidecar.secret import Secret
from tests.properties import any_text, many
from tests.upstream import TOKEN
from tests.ways import PUBLIC_URL, basic

SENT = ClientCredentials(
    client_id=Secret("partner"), client_secret=Secret("s3cret"), authorization=None, encoded=()
)
JSON, PROBLEM_JSON = "application/json", "application/problem+json"
WRONG_CLIENT = "The client is unknown, or its secret is wrong. Check client_id and client_secret."
CODE = "40912345"


def answer(
    status: int,
    body: object = b"",
    content_type: str = JSON,
    *,
    retry_after: str = "",
    challenge: bool = False,
) -> Response:
    """Return an answer; a `body` that is not bytes is sent as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(
        status=status,
        content_type=content_type,
        retry_after=retry_after,
        has_challenge=challenge,
        body=Secret(data),
    )


def token_of(heard: Response) -> tuple[str, int]:
    """Return the token that the answer holds, and its lifetime."""
    token = interpret(heard, SENT)
    assert isinstance(token, Token)
    return token.access_token.reveal(), token.expires_in


def problem_of(heard: Response, sent: ClientCredentials = SENT) -> Problem:
    """Return the problem that the answer is."""
    problem = interpret(heard, sent)
    assert isinstance(problem, Problem)
    return problem


def fault_of(heard: Response) -> str:
    """Return what is wrong with an answer that breaks the contract."""
    with pytest.raises(UpstreamError) as raised:
        interpret(heard, SENT)
    assert raised.value.__cause__ is None
    return str(raised.value)


def token(**changed: object) -> dict[str, object]:
    """Return the members of a token, less those that are changed to `...`."""
    return {name: value for name, value in {**TOKEN, **changed}.items() if value is not ...}


# Tokens (RFC 6749 section 5.1)

ENDLESS = b'{"access_token": "canary", "token_type": "Bearer", "expires_in": %s}'
VISIBLE = "".join(map(chr, range(0x21, 0x7F)))
GOOD: Mapping[str, tuple[Response, tuple[str, int]]] = {
    "the usual": (answer(200, TOKEN), ("the.access.token", 3600)),
    "charset": (answer(200, TOKEN, "application/json;charset=UTF-8"), ("the.access.token", 3600)),
    "quoted charset": (
        answer(200, TOKEN, 'Application/JSON; charset="utf-8"'),
        ("the.access.token", 3600),
    ),
    "another charset": (
        answer(200, TOKEN, "application/json; charset=utf-16"),
        ("the.access.token", 3600),
    ),
    "two charsets": (
        answer(200, TOKEN, "application/json; charset=utf-16; charset=latin1"),
        ("the.access.token", 3600),
    ),
    "an empty charset": (
        answer(200, TOKEN, 'application/json; charset=""'),
        ("the.access.token", 3600),
    ),
    "type in lower case": (answer(200, token(token_type="bearer")), ("the.access.token", 3600)),
    "type in upper case": (answer(200, token(token_type="BEARER")), ("the.access.token", 3600)),
    "every visible sign": (answer(200, token(access_token=VISIBLE)), (VISIBLE, 3600)),
    "a fraction": (answer(200, token(expires_in=3599.99)), ("the.access.token", 3599)),
    "a whole float": (answer(200, token(expires_in=3600.0)), ("the.access.token", 3600)),
    "an exponent": (
        answer(200, b'{"access_token":"a","token_type":"Bearer","expires_in":36e2}'),
        ("a", 3600),
    ),
    "one second": (answer(200, token(expires_in=1)), ("the.access.token", 1)),
    "the longest": (answer(200, token(expires_in=2**31 - 1)), ("the.access.token", 2**31 - 1)),
    "members that nobody needs": (
        answer(200, token(scope="a", refresh_token="b", karmoCode="40012345")),
        ("the.access.token", 3600),
    ),
    # pyoidc#879: a member that is null is an absent one.
    "members of null": (
        answer(200, token(error=None, error_description=None, scope=None)),
        ("the.access.token", 3600),
    ),
    "a Retry-After that means nothing": (
        answer(200, TOKEN, retry_after="soon"),
        ("the.access.token", 3600),
    ),
}

NOT_JSON = "bad_media_type"
NOT_AN_OBJECT = "bad_json: not an object"
NOT_ASCII = "bad_token: access_token is not a string of visible ASCII"
NOT_BEARER = "bad_token: token_type is not Bearer"
NOT_A_NUMBER = "bad_token: expires_in is not a number of at least 1"
BOTH = "bad_token: a token and an error at once"
STRANGE = "bad_status"
UNKNOWN = "bad_error"

BAD_TOKENS: Mapping[str, tuple[Response, str]] = {
    "no media type": (answer(200, TOKEN, ""), NOT_JSON),
    "malformed media type": (answer(200, TOKEN, "json"), NOT_JSON),
    "another media type": (answer(200, TOKEN, "text/html"), NOT_JSON),
    "a problem": (answer(200, TOKEN, PROBLEM_JSON), NOT_JSON),
    "two media types": (answer(200, TOKEN, "application/json, application/json"), NOT_JSON),
    "an array": (answer(200, [TOKEN]), NOT_AN_OBJECT),
    "a string": (answer(200, "token"), NOT_AN_OBJECT),
    "null": (answer(200, None), NOT_AN_OBJECT),
    "no access_token": (answer(200, token(access_token=...)), NOT_ASCII),
    "access_token null": (answer(200, token(access_token=None)), NOT_ASCII),
    "access_token empty": (answer(200, token(access_token="")), NOT_ASCII),
    "access_token a number": (answer(200, token(access_token=1)), NOT_ASCII),
    "access_token an object": (answer(200, token(access_token={"a": "b"})), NOT_ASCII),
    "access_token with a space": (answer(200, token(access_token="a b")), NOT_ASCII),
    "access_token with a line end": (answer(200, token(access_token="a\n")), NOT_ASCII),
    "access_token with NUL": (answer(200, token(access_token="a\0")), NOT_ASCII),
    "access_token with delete": (answer(200, token(access_token="a\x7f")), NOT_ASCII),
    "access_token outside of ASCII": (answer(200, token(access_token="é")), NOT_ASCII),
    "access_token of a surrogate": (answer(200, token(access_token="\ud800")), NOT_ASCII),
    "no token_type": (answer(200, token(token_type=...)), NOT_BEARER),
    "token_type null": (answer(200, token(token_type=None)), NOT_BEARER),
    "token_type empty": (answer(200, token(token_type="")), NOT_BEARER),
    "token_type of another kind": (answer(200, token(token_type="mac")), NOT_BEARER),
    "token_type and a space": (answer(200, token(token_type="Bearer ")), NOT_BEARER),
    "token_type a list": (answer(200, token(token_type=["Bearer"])), NOT_BEARER),
    "no expires_in": (answer(200, token(expires_in=...)), NOT_A_NUMBER),
    "expires_in null": (answer(200, token(expires_in=None)), NOT_A_NUMBER),
    "expires_in a string": (answer(200, token(expires_in="3600")), NOT_A_NUMBER),
    "expires_in a boolean": (answer(200, token(expires_in=True)), NOT_A_NUMBER),
    "expires_in 0": (answer(200, token(expires_in=0)), NOT_A_NUMBER),
    "expires_in less than 1": (answer(200, token(expires_in=0.99)), NOT_A_NUMBER),
    "expires_in negative": (answer(200, token(expires_in=-3600)), NOT_A_NUMBER),
    "expires_in too large": (answer(200, token(expires_in=2**31)), NOT_A_NUMBER),
    "expires_in larger than any float": (answer(200, token(expires_in=10**400)), NOT_A_NUMBER),
    "expires_in of an infinite number": (answer(200, ENDLESS % b"1e400"), NOT_A_NUMBER),
    "an error": (answer(200, token(error="invalid_client")), BOTH),
}
BROKEN_BODIES: Mapping[str, bytes] = {
    "empty": b"",
    "spaces": b"  \n",
    "text": b"canary",
    "HTML": b"<html>canary</html>",
    "cut": b'{"access_token": "canary',
    "two values": b'{"access_token": "canary"} {}',
    "name twice": b'{"access_token": "canary", "access_token": "canary"}',
    "NaN": b'{"access_token": "canary", "expires_in": NaN}',
    "Infinity": b'{"access_token": "canary", "expires_in": Infinity}',
    "too long a number": b'{"access_token": "canary", "expires_in": ' + b"1" * 5000 + b"}",
    "too deep": b"[" * 60_000,
    "Latin-1": b'{"access_token": "canary\xe9"}',
    "UTF-16": '{"access_token": "canary"}'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"access_token": "canary"}',
}


@pytest.mark.parametrize(("heard", "expected"), GOOD.values(), ids=GOOD)
def test_token(heard: Response, expected: tuple[str, int]) -> None:
    """A token of the contract is read, its lifetime in whole seconds rounded down."""
    assert token_of(heard) == expected


@pytest.mark.parametrize(("heard", "fault"), BAD_TOKENS.values(), ids=BAD_TOKENS)
def test_bad_token(heard: Response, fault: str) -> None:
    """Whatever is not a whole token is none, and the log learns why."""
    assert fault_of(heard) == fault


@pytest.mark.parametrize("body", BROKEN_BODIES.values(), ids=BROKEN_BODIES)
def test_unreadable_token(body: bytes) -> None:
    """A body that is not JSON is no token, and the fault quotes nothing of it."""
    fault = fault_of(answer(200, body))
    assert fault.startswith("bad_json: ")
    assert "canary" not in fault


@pytest.mark.parametrize("status", [100, 199, 201, 204, 206, 301, 302, 307, 308, 399, 600, 999])
def test_strange_status(status: int) -> None:
    """Only 200 is a token and only 4xx and 5xx are errors, whatever the body says."""
    assert fault_of(answer(status, {**TOKEN, "karmoCode": CODE})) == STRANGE


# Errors without a karmoCode: by the outcome table

INVALID_REQUEST = "The auth-api refused the request as malformed."
OUTCOMES: Mapping[tuple[int, str | None], tuple[Reason, str | None]] = {
    (400, "invalid_request"): (pb.PROBLEM_REASON_INVALID_REQUEST, INVALID_REQUEST),
    (400, "invalid_grant"): (pb.PROBLEM_REASON_INVALID_REQUEST, INVALID_REQUEST),
    (400, "invalid_client"): (pb.PROBLEM_REASON_INVALID_CLIENT, WRONG_CLIENT),
    (400, "unauthorized_client"): (pb.PROBLEM_REASON_UNAUTHORIZED_CLIENT, None),
    (400, "unsupported_grant_type"): (pb.PROBLEM_REASON_UNSUPPORTED_GRANT_TYPE, None),
    (400, "invalid_scope"): (pb.PROBLEM_REASON_INVALID_SCOPE, None),
    (401, "invalid_client"): (pb.PROBLEM_REASON_INVALID_CLIENT, WRONG_CLIENT),
    (401, "unauthorized_client"): (pb.PROBLEM_REASON_INVALID_CLIENT, WRONG_CLIENT),
    (403, "access_denied"): (pb.PROBLEM_REASON_ACCESS_DENIED, None),
    (403, "invalid_client"): (pb.PROBLEM_REASON_INVALID_CLIENT, WRONG_CLIENT),
    (403, "insufficient_scope"): (pb.PROBLEM_REASON_ACCESS_DENIED, None),
    (409, "conflict"): (pb.PROBLEM_REASON_CONFLICT, None),
    (422, "invalid"): (pb.PROBLEM_REASON_UNPROCESSABLE_CONTENT, None),
    (429, None): (pb.PROBLEM_REASON_TOO_MANY_REQUESTS, None),
    (503, None): (pb.PROBLEM_REASON_UPSTREAM_UNAVAILABLE, None),
    (503, "temporarily_unavailable"): (pb.PROBLEM_REASON_UPSTREAM_UNAVAILABLE, None),
    (504, None): (pb.PROBLEM_REASON_UPSTREAM_TIMEOUT, None),
}
NOT_UNDERSTOOD = (402, 404, 405, 406, 410, 413, 415, 418, 431, 499, 500, 501, 502, 505, 599)


@pytest.mark.parametrize(("said", "meant"), OUTCOMES.items(), ids=str)
def test_outcome(said: tuple[int, str | None], meant: tuple[Reason, str | None]) -> None:
    """Status and OAuth error decide what an error without karmoCode means; its texts are lost."""
    status, error = said
    reason, detail = meant
    body = {"error_description": "canary", "detail": "canary", "title": "canary"}
    body |= {"error": error} if error else {}
    assert problem_of(answer(status, body)) == Problem(
        reason=reason, detail=detail or CATALOGUE[reason].explanation
    )


@pytest.mark.parametrize("status", NOT_UNDERSTOOD)
@pytest.mark.parametrize("code", [None, "4091234", 40912345, "4091234a"])
def test_error_outside_of_the_contract(status: int, code: object) -> None:
    """Other statuses mean that something else than the auth-api answered."""
    assert fault_of(answer(status, {"karmoCode": code})) == UNKNOWN


@pytest.mark.parametrize("status", [405, 407, 426])
def test_error_that_speaks_of_the_auth_api_itself(status: int) -> None:
    """A status whose header fields would say what the auth-api allows is not passed on as ours."""
    assert fault_of(answer(status, WHOLE)) == UNKNOWN


UNREAD: Mapping[str, Response] = {
    "HTML": answer(403, b"<html>canary</html>", "text/html"),
    "no body": answer(403, b"", ""),
    "a phrase of a gateway": answer(403, {"error": "Forbidden", "message": "canary"}),
    "two words": answer(403, {"error": "Bad Request"}),
    "text": answer(403, b"canary"),
    "an array": answer(403, [{"error": "invalid_client", "karmoCode": CODE}]),
    "a string": answer(403, "invalid_client"),
    "another media type": answer(403, {"error": "invalid_client"}, "text/json"),
    "malformed media type": answer(403, {"error": "invalid_client"}, "application/json;;x"),
    "a name twice": answer(403, b'{"error": "invalid_client", "error": "invalid_client"}'),
    "error null": answer(403, {"error": None}),
    "error a number": answer(403, {"error": 1}),
    "error a list": answer(403, {"error": ["invalid_client"]}),
    "error an object": answer(403, {"error": {"code": "invalid_client"}}),
    "karmoCode a number": answer(403, {"karmoCode": 40312345, "detail": "canary"}),
    "karmoCode too short": answer(403, {"karmoCode": "4031234", "detail": "canary"}),
    "karmoCode too long": answer(403, {"karmoCode": "403123456", "detail": "canary"}),
    "karmoCode and a line end": answer(403, {"karmoCode": "40312345\n", "detail": "canary"}),
    "karmoCode of other digits": answer(403, {"karmoCode": "٤٠٣١٢٣٤٥", "detail": "canary"}),
    "karmoCode under another name": answer(403, {"karmo_code": CODE, "detail": "canary"}),
}


@pytest.mark.parametrize("status", [400, 401, 403, 409, 422])
@pytest.mark.parametrize("heard", UNREAD.values(), ids=UNREAD)
def test_unread_error(status: int, heard: Response) -> None:
    """A status that blames the caller counts for nothing where a body says nothing."""
    assert fault_of(dataclasses.replace(heard, status=status)) == UNKNOWN


@pytest.mark.parametrize("status", [429, 503, 504])
def test_a_status_that_says_when_to_come_back(status: int) -> None:
    """Who sends these says it for all, whatever the body is."""
    heard = answer(status, b"<html>canary</html>", "text/html", retry_after="7")
    assert problem_of(heard).status is None
    assert problem_of(heard).retry_after == 7


def test_a_challenge() -> None:
    """A 401 with a challenge rejects the client, whatever its body is: filters send HTML so."""
    heard = answer(401, b"<html>canary</html>", "text/html", challenge=True)
    reason = pb.PROBLEM_REASON_INVALID_CLIENT
    assert problem_of(heard) == Problem(reason=reason, detail=WRONG_CLIENT)
    for status in (400, 403, 409, 422):
        assert fault_of(dataclasses.replace(heard, status=status)) == UNKNOWN


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (400, pb.PROBLEM_REASON_INVALID_REQUEST),
        (401, pb.PROBLEM_REASON_INVALID_CLIENT),
        (403, pb.PROBLEM_REASON_ACCESS_DENIED),
        (409, pb.PROBLEM_REASON_CONFLICT),
        (422, pb.PROBLEM_REASON_UNPROCESSABLE_CONTENT),
    ],
)
def test_a_problem_without_a_code(status: int, reason: Reason) -> None:
    """A problem document blames the caller by its status alone, in our words."""
    heard = answer(status, {"title": "canary", "status": status}, PROBLEM_JSON)
    assert problem_of(heard).reason == reason
    assert "canary" not in f"{problem_of(heard)}"
    assert fault_of(answer(status, b"canary", PROBLEM_JSON)) == UNKNOWN


# Problem documents with a karmoCode pass through

WHOLE = {
    "type": "https://auth.example.test/problems/taken",
    "title": "Taken",
    "status": 409,
    "karmoCode": CODE,
    "detail": "The client is being changed.",
    "instance": "urn:uuid:4a1b0c6e-2f0d-4a53-8d2e-0f6c7b9a1d3e",
    "error": "slow_down",
    "error_description": "lost",
    "karmoErrors": [
        {"detail": "Taken.", "pointer": "/client_id"},
        {"detail": "All.", "pointer": ""},
    ],
    "debug": "lost",
}


@pytest.mark.parametrize("content_type", [JSON, PROBLEM_JSON, "Application/Problem+JSON; a=b"])
def test_whole_problem(content_type: str) -> None:
    """An upstream problem keeps its words, less the members that are not in the contract."""
    assert problem_of(answer(409, WHOLE, content_type)) == Problem(
        reason=pb.PROBLEM_REASON_CONFLICT,
        status=409,
        karmo_code=CODE,
        type="https://auth.example.test/problems/taken",
        title="Taken",
        detail="The client is being changed.",
        errors=(
            FieldError(detail="Taken.", pointer="/client_id"),
            FieldError(detail="All.", pointer=""),
        ),
        oauth_error="slow_down",
    )


BARE: Mapping[tuple[int, str | None], Reason] = {
    (400, None): pb.PROBLEM_REASON_INVALID_REQUEST,
    (400, "invalid_client"): pb.PROBLEM_REASON_INVALID_CLIENT,
    (400, "invalid_scope"): pb.PROBLEM_REASON_INVALID_SCOPE,
    (401, None): pb.PROBLEM_REASON_INVALID_CLIENT,
    (403, None): pb.PROBLEM_REASON_ACCESS_DENIED,
    (403, "invalid_client"): pb.PROBLEM_REASON_INVALID_CLIENT,
    (404, None): pb.PROBLEM_REASON_RESOURCE_NOT_FOUND,
    (404, "invalid_request"): pb.PROBLEM_REASON_RESOURCE_NOT_FOUND,
    (409, None): pb.PROBLEM_REASON_CONFLICT,
    (418, None): pb.PROBLEM_REASON_INVALID_REQUEST,
    (422, None): pb.PROBLEM_REASON_UNPROCESSABLE_CONTENT,
    (429, None): pb.PROBLEM_REASON_TOO_MANY_REQUESTS,
    (500, None): pb.PROBLEM_REASON_INTERNAL,
    (501, None): pb.PROBLEM_REASON_INTERNAL,
    (502, None): pb.PROBLEM_REASON_UPSTREAM_BAD_ANSWER,
    (503, None): pb.PROBLEM_REASON_UPSTREAM_UNAVAILABLE,
    (504, None): pb.PROBLEM_REASON_UPSTREAM_TIMEOUT,
}


@pytest.mark.parametrize(("said", "reason"), BARE.items(), ids=str)
def test_bare_problem(said: tuple[int, str | None], reason: Reason) -> None:
    """The answer's own status gives the nearest reason, and is told unless RFC 6749 has 401."""
    status, error = said
    told = 401 if error == "invalid_client" else status
    body = {"karmoCode": CODE, "status": 999} | ({"error": error} if error else {})
    assert problem_of(answer(status, body)) == Problem(
        detail="", reason=reason, status=told, karmo_code=CODE, oauth_error=error
    )


@pytest.mark.parametrize("secret", ["s3cr+t", "100%", "a%41"])
def test_a_wrong_secret_with_an_escape_is_explained(secret: str) -> None:
    """After a 401 for a header that reads differently when it is decoded, the detail says how."""
    header = basic("partner", secret)
    sent = check(
        TokenRequest(
            grant_type="client_credentials",
            client_id=Secret(""),
            client_secret=Secret(""),
            authorization=(Secret(header),),
        )
    )
    told = problem_of(answer(401, {"error": "invalid_client"}), sent)
    assert "%2B" in str(told.detail)
    assert "%2B" not in str(problem_of(answer(401, {"error": "invalid_client"})).detail)


SPACED: Mapping[str, tuple[str, str, str]] = {
    "a space": ("partner", "s3cret ", " The client_secret that was sent ends with a space."),
    "quotes": ("'partner'", "s3cret", " The client_id that was sent is in quotes."),
    "both": (
        " partner",
        '"s3cret"',
        (
            " The client_id that was sent begins with a space."
            " The client_secret that was sent is in quotes."
        ),
    ),
}


@pytest.mark.parametrize(("client_id", "secret", "doubt"), SPACED.values(), ids=SPACED)
def test_what_is_around_refused_credentials_is_explained(
    client_id: str, secret: str, doubt: str
) -> None:
    """A refused client is told of spaces and quotes, which are valid and are seldom meant."""
    sent = dataclasses.replace(SENT, client_id=Secret(client_id), client_secret=Secret(secret))
    refused = problem_of(answer(401, {"error": "invalid_client"}), sent)
    assert refused.detail == f"{WRONG_CLIENT}{doubt}"
    other = problem_of(answer(400, {"error": "invalid_request"}), sent)
    assert doubt not in str(other.detail)


def test_a_code_that_repeats_the_secret_is_none() -> None:
    """A karmoCode that is the caller's own secret does not pass: the status speaks instead."""
    sent = dataclasses.replace(SENT, client_secret=Secret(CODE))
    heard = answer(409, {"karmoCode": CODE, "title": "Theirs"}, PROBLEM_JSON)
    assert interpret(heard, sent) == Problem(
        reason=pb.PROBLEM_REASON_CONFLICT,
        detail=CATALOGUE[pb.PROBLEM_REASON_CONFLICT].explanation,
    )
    assert interpret(heard, SENT) != interpret(heard, sent)


# For each member: what it says, and what is told of that.
LONG_URI = "urn:" + "x" * 180
TYPES: Mapping[Any, str | None] = {
    "about:blank": "about:blank",
    "urn:a:b": "urn:a:b",
    LONG_URI: LONG_URI,
    LONG_URI + "x": None,
    "HTTPS://a/b": "HTTPS://a/b",
    "http://a/b": "http://a/b",
    "javascript:alert(1)": None,
    "data:text/html,x": None,
    "about:blank#x": None,
    "/relative": None,
    "": None,
    "http:": None,
    "1a:b": None,
    "https://a/ b": None,
    "https://a/\n": None,
    "https://é/": None,
    None: None,
    7: None,
}
TEXTS: Mapping[Any, str | None] = {
    "text": "text",
    "  two\r\n\tlines \u2028": "two lines",
    "é€": "é€",
    "a\ud800b": "a b",
    "a\x1b[31mb\x07\u202ec": "a [31mb c",
    "": None,
    " \n": None,
    None: None,
    True: None,
    7: None,
}
ERRORS: Mapping[Any, str | None] = {
    "custom error!": "custom error!",
    "e" * 64: "e" * 64,
    "e" * 65: None,
    "": None,
    'a"b': None,
    "a\\b": None,
    "a\nb": None,
    "é": None,
    "\ud800": None,
    None: None,
    7: None,
}
MEMBERS = [
    pytest.param(member, name, sent, told, id=f"{member} {sent!r:.20}")
    for member, name, table in (
        ("type", "type", TYPES),
        ("title", "title", TEXTS),
        ("detail", "detail", TEXTS),
        ("error", "oauth_error", ERRORS),
    )
    for sent, told in table.items()
]


@pytest.mark.parametrize(("member", "name", "sent", "told"), MEMBERS)
def test_member(member: str, name: str, sent: object, told: str | None) -> None:
    """A member of an upstream problem passes only in the form that it must have."""
    problem = problem_of(answer(409, {"karmoCode": CODE, member: sent}))
    expected: dict[str, object] = dict.fromkeys(("type", "title", "detail", "oauth_error"))
    # The detail of a problem is empty where the document has none.
    parts = {part: getattr(problem, part) or None for part in expected}
    assert parts == expected | {name: told}


LONG_POINTER = "/" + "x" * 99
FIELD_ERRORS: Mapping[str, tuple[object, list[tuple[str, str]]]] = {
    "none": ([], []),
    "null": (None, []),
    "an object": ({"detail": "a", "pointer": "/b"}, []),
    "a string": ("ab", []),
    "one": ([{"detail": "a", "pointer": "/b"}], [("a", "/b")]),
    "members beside": ([{"detail": "a", "pointer": "/b", "value": "lost"}], [("a", "/b")]),
    "the whole body": ([{"detail": "a", "pointer": ""}], [("a", "")]),
    "escapes and other letters": ([{"detail": "a\nb", "pointer": "/~1é/0"}], [("a b", "/~1é/0")]),
    "no detail": ([{"pointer": "/b"}], []),
    "empty detail": ([{"detail": " ", "pointer": "/b"}], []),
    "detail a number": ([{"detail": 1, "pointer": "/b"}], []),
    "no pointer": ([{"detail": "a"}], []),
    "pointer null": ([{"detail": "a", "pointer": None}], []),
    "pointer without a slash": ([{"detail": "a", "pointer": "b"}], []),
    "pointer in a fragment": ([{"detail": "a", "pointer": "#/b"}], []),
    "pointer with a line end": ([{"detail": "a", "pointer": "/b\n"}], []),
    "pointer with a surrogate": ([{"detail": "a", "pointer": "/\ud800"}], []),
    "the longest pointer": ([{"detail": "a", "pointer": LONG_POINTER}], [("a", LONG_POINTER)]),
    "too long a pointer": ([{"detail": "a", "pointer": LONG_POINTER + "x"}], []),
    "entries of other kinds": (
        [None, "a", 1, [], {}, ["detail", "pointer"], {"detail": "a", "pointer": "/b"}],
        [("a", "/b")],
    ),
    "pairs that are no object": ([[["detail", "a"], ["pointer", "/b"]]], []),
}


@pytest.mark.parametrize(("sent", "told"), FIELD_ERRORS.values(), ids=FIELD_ERRORS)
def test_field_errors(sent: object, told: list[tuple[str, str]]) -> None:
    """Of the field errors of an upstream problem those pass that have the form of the contract."""
    problem = problem_of(answer(422, {"karmoCode": CODE, "karmoErrors": sent}))
    assert [(error.detail, error.pointer) for error in problem.errors] == told


DELAYS: Mapping[str, int | None] = {
    "": None,
    "0": 1,
    "1": 1,
    "30": 30,
    "060": 60,
    "61": 60,
    "999999999": 60,
    "9999999999": 60,
    "9" * 21: None,
    "-1": None,
    "1.5": None,
    "1 ": None,
    "1, 2": None,
    "٣": None,
    "soon": None,
    "Fri, 31 Dec 2038 23:59:59 GMT": 60,
    "Thu, 01 Jan 1970 00:00:00 GMT": 1,
    "Fri, 31 Dec 2038 23:59:59 -0000": None,
    "Fri, 99 Dec 2038 23:59:59 GMT": None,
}


@pytest.mark.parametrize(("field", "seconds"), DELAYS.items(), ids=repr)
@pytest.mark.parametrize("body", [{}, {"karmoCode": CODE}], ids=["mapped", "passed"])
def test_delay(field: str, seconds: int | None, body: Mapping[str, str]) -> None:
    """The upstream's own delay passes in whole seconds, between 1 and 60 of them."""
    assert problem_of(answer(503, body, retry_after=field)).retry_after == seconds


@pytest.mark.parametrize("status", [400, 401, 403, 409, 422])
def test_no_delay_where_none_helps(status: int) -> None:
    """An error that repeating does not mend has no delay, even if the upstream sends one."""
    heard = answer(status, {"error": "any"}, retry_after="5")
    assert problem_of(heard).retry_after is None


# What must not be told


BY_HEADER = check(
    TokenRequest(
        grant_type="client_credentials",
        client_id=Secret(""),
        client_secret=Secret(""),
        authorization=(Secret(basic("partner", "s3cret")),),
    )
)


@pytest.mark.parametrize("sent", [SENT, BY_HEADER], ids=["body", "header"])
def test_credentials_are_withheld(sent: ClientCredentials) -> None:
    """Whatever part of an upstream problem shows the credentials is left out."""
    body = {
        "karmoCode": CODE,
        "type": "https://auth.example.test/partner",
        "title": "partner is locked",
        "detail": "s3cret is wrong",
        "error": "partner",
        "karmoErrors": [
            {"detail": "the value is s3cret", "pointer": "/a"},
            {"detail": "No.", "pointer": "/partner"},
            {"detail": "No.", "pointer": "/a"},
        ],
    }
    assert problem_of(answer(409, body), sent) == Problem(
        detail="",
        reason=pb.PROBLEM_REASON_CONFLICT,
        status=409,
        karmo_code=CODE,
        errors=(FieldError(detail="No.", pointer="/a"),),
    )


def test_the_header_is_withheld() -> None:
    """A problem that quotes the Basic header that was sent does not pass on its detail."""
    body = {"karmoCode": CODE, "detail": f"bad {basic('partner', 's3cret')}"}
    assert problem_of(answer(409, body), BY_HEADER).detail == ""


def test_tokens_are_masked() -> None:
    """Neither an answer nor a token shows the access token."""
    heard = answer(200, token(access_token="canary"))
    assert "canary" not in repr([heard, interpret(heard, SENT)])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=5,
)
field_errors = st.lists(
    st.fixed_dictionaries({"detail": any_text, "pointer": any_text.map("/".__add__)}) | json_values
)
names = ("type", "title", "status", "detail", "error", *TOKEN)
documents = st.dictionaries(st.sampled_from(names), json_values).flatmap(
    lambda body: st.fixed_dictionaries(
        {}, optional={"karmoCode": st.just(CODE) | json_values, "karmoErrors": field_errors}
    ).map(body.__or__)
)
bodies = st.binary() | documents.map(json.dumps).map(str.encode)


@many
@given(
    st.sampled_from([200, 302, 400, 401, 404, 418, 429, 500, 503]),
    st.sampled_from([JSON, PROBLEM_JSON]) | any_text,
    any_text,
    bodies,
)
def test_any_answer(status: int, content_type: str, retry_after: str, body: bytes) -> None:
    """Any bytes at all are a token, a problem that can be told, or a breach of the contract."""
    heard = Response(
        status=status,
        content_type=content_type,
        retry_after=retry_after,
        has_challenge=False,
        body=Secret(body),
    )
    try:
        found = interpret(heard, SENT)
    except UpstreamError as error:
        found = Problem(reason=pb.PROBLEM_REASON_UPSTREAM_BAD_ANSWER, detail=str(error))
    if isinstance(found, Token):
        assert found.expires_in >= 1
    else:
        told = to_status(found, request_id="0" * 36, public_url=PUBLIC_URL)
        assert told.ByteSize() < 4096
