"""Answers of the auth-api, and the token or the problem that callers get for each.

Problem documents with a karmoCode are in `relayed`. No text with "canary" here may reach
a caller.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace

from tests.contract.expected import (
    ACCESS_DENIED,
    CONFLICT,
    INVALID_CLIENT,
    INVALID_REQUEST,
    INVALID_SCOPE,
    TOO_MANY_REQUESTS,
    UNAUTHORIZED_CLIENT,
    UNPROCESSABLE_CONTENT,
    UNSUPPORTED_GRANT_TYPE,
    UPSTREAM_BAD_ANSWER,
    UPSTREAM_CONNECTION_LOST,
    UPSTREAM_TIMEOUT,
    UPSTREAM_UNAVAILABLE,
    ExpectedProblem,
)
from tests.upstream import TOKEN, answer

Token = Mapping[str, object]
Row = tuple[str, tuple[bytes, Token | ExpectedProblem]]

PROBLEM_JSON = "application/problem+json"
HTML = b"<html><body>canary</body></html>"


# A copy of TOKEN, to build variants.
_GOOD = dict(TOKEN)


def _token(**members: object) -> bytes:
    """Answer with the token, changed by `members`; an ellipsis removes a member."""
    changed = {name: value for name, value in (_GOOD | members).items() if value is not ...}
    return answer(200, changed)


TOKENS: Mapping[str, tuple[bytes, Token]] = {
    "R34 the token": (_token(), TOKEN),
    "R34 bearer": (_token(token_type="bearer"), TOKEN),
    "R34 BEARER": (_token(token_type="BEARER"), TOKEN),
    "R34 expires_in 3600.0": (_token(expires_in=3600.0), TOKEN),
    "R34 expires_in is rounded down": (_token(expires_in=3599.99), _GOOD | {"expires_in": 3599}),
    "R34 expires_in 36e2": (
        answer(200, b'{"access_token":"t","token_type":"Bearer","expires_in":36e2}'),
        _GOOD | {"access_token": "t"},
    ),
    "R34 expires_in 1": (_token(expires_in=1), _GOOD | {"expires_in": 1}),
    "R34 expires_in of int32": (_token(expires_in=2**31 - 1), _GOOD | {"expires_in": 2**31 - 1}),
    "R34 charset": (answer(200, TOKEN, "Application/JSON; charset=UTF-8"), TOKEN),
    "R34 another charset": (answer(200, TOKEN, "application/json; charset=iso-8859-1"), TOKEN),
    "R36 members besides": (
        _token(refresh_token="canary", scope="canary", id_token=None, karmoCode="20010001"),
        TOKEN,
    ),
    "R34 a large token": (_token(access_token="t" * 16000), _GOOD | {"access_token": "t" * 16000}),
}

_NO_TOKENS: Mapping[str, bytes] = {
    "no access_token": _token(access_token=...),
    "an empty access_token": _token(access_token=""),
    "a null access_token": _token(access_token=None),
    "an access_token that is a number": _token(access_token=1),
    "a line feed in the access_token": _token(access_token="to\nken"),
    "a space in the access_token": _token(access_token="to ken"),
    "an access_token beyond ASCII": _token(access_token="t\N{SNOWMAN}"),
    "no token_type": _token(token_type=...),
    "token_type DPoP": _token(token_type="DPoP"),
    "no expires_in": _token(expires_in=...),
    "expires_in as a string": _token(expires_in="3600"),
    "expires_in true": _token(expires_in=True),
    "expires_in null": _token(expires_in=None),
    "expires_in 0": _token(expires_in=0),
    "expires_in 0.9": _token(expires_in=0.9),
    "expires_in negative": _token(expires_in=-1),
    "expires_in over int32": _token(expires_in=2**31),
    "expires_in NaN": _token(expires_in=float("nan")),
    "expires_in Infinity": _token(expires_in=float("inf")),
    "expires_in 1e400": answer(
        200, b'{"access_token":"t","token_type":"Bearer","expires_in":1e400}'
    ),
    "expires_in of 5000 digits": answer(
        200, b'{"access_token":"t","token_type":"Bearer","expires_in":%b}' % (b"9" * 5000)
    ),
    "a token and an error": _token(error="invalid_client"),
    "an error alone": answer(200, {"error": "invalid_client"}),
    "a member twice": answer(
        200, b'{"access_token":"t","access_token":"u","token_type":"Bearer","expires_in":1}'
    ),
    "an array": answer(200, [TOKEN]),
    "a string": answer(200, "token"),
    "nothing": answer(200),
    "JSON cut short": answer(200, json.dumps(TOKEN).encode()[:-1]),
    "deep nesting": answer(200, b"[" * 60000),
    "bytes that are not UTF-8": answer(200, b'{"access_token":"\xff"}'),
    "UTF-16": answer(200, json.dumps(TOKEN).encode("utf-16")),
    "HTML": answer(200, HTML, "text/html"),
    "JSON that says it is text": answer(200, TOKEN, "text/plain"),
    "no media type": answer(200, TOKEN, None),
    "over 64 KiB": _token(padding="x" * 65536),
    "compressed": answer(200, TOKEN, Content_Encoding="gzip"),
    "status 201": answer(201, TOKEN),
    "status 204": answer(204),
    "R5 a redirect": answer(307, TOKEN, Location="http://127.0.0.1:1/canary"),
    "R5 a redirect by 302": answer(302, Location="/canary"),
}

# RFC 6749 section 5.2, and additions of some servers.
_ERRORS: Mapping[str, ExpectedProblem] = {
    "invalid_request": INVALID_REQUEST,
    "invalid_client": INVALID_CLIENT,
    "invalid_grant": INVALID_REQUEST,
    "unauthorized_client": UNAUTHORIZED_CLIENT,
    "unsupported_grant_type": UNSUPPORTED_GRANT_TYPE,
    "invalid_scope": INVALID_SCOPE,
    "access_denied": INVALID_REQUEST,
}

# Only the status counts, whatever the body is.
_STATUSES: Mapping[int, ExpectedProblem] = {
    400: INVALID_REQUEST,
    401: INVALID_CLIENT,
    403: ACCESS_DENIED,
    404: UPSTREAM_BAD_ANSWER,
    405: UPSTREAM_BAD_ANSWER,
    409: CONFLICT,
    418: UPSTREAM_BAD_ANSWER,
    422: UNPROCESSABLE_CONTENT,
    429: TOO_MANY_REQUESTS,
    500: UPSTREAM_BAD_ANSWER,
    501: UPSTREAM_BAD_ANSWER,
    502: UPSTREAM_BAD_ANSWER,
    503: UPSTREAM_UNAVAILABLE,
    504: UPSTREAM_TIMEOUT,
}

# These bodies are not understood, so only the status counts.
_SILENT: Mapping[str, tuple[bytes, str]] = {
    "broken JSON": (b'{"detail":"canary"', "application/json"),
    "an array": (b'[{"karmoCode":"40099999"}]', PROBLEM_JSON),
    "JSON that says it is text": (b'{"karmoCode":"40099999","error":"canary"}', "text/plain"),
    "a member twice": (b'{"karmoCode":"40099999","karmoCode":"40099999"}', PROBLEM_JSON),
}

_LOST: Mapping[str, bytes] = {
    "no answer": b"",
    "half a status line": b"HTTP/1.1 2",
    "not HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "a body cut short": answer(200, TOKEN)[:-1],
    "an error cut short": answer(503, {"error": "temporarily_unavailable"})[:-1],
}

# Retry-After of the upstream, and the delay for callers in seconds.
_DELAYS: Mapping[str, int] = {
    "7": 7,
    "0": 1,
    "9999": 60,
    "-1": 1,
    "soon": 1,
    "Fri, 31 Dec 2038 23:59:59 GMT": 60,
    "Thu, 01 Jan 1970 00:00:00 GMT": 1,
}


def _rows() -> Iterator[Row]:
    yield from TOKENS.items()
    for name, reply in _NO_TOKENS.items():
        yield f"R35 {name}", (reply, UPSTREAM_BAD_ANSWER)
    for error, problem in _ERRORS.items():
        client = problem if problem is INVALID_CLIENT else ACCESS_DENIED
        for status, wanted in ((400, problem), (401, INVALID_CLIENT), (403, client)):
            yield f"R41 R45 {error} by {status}", (_oauth(status, error), wanted)
    for status, wanted in _STATUSES.items():
        yield f"R48 error by {status}", (_oauth(status, "canary"), wanted)
        silent = UPSTREAM_BAD_ANSWER if status < 429 else wanted
        yield f"R48 nothing by {status}", (answer(status, content_type=None), silent)
        html = answer(status, HTML, "text/html; charset=utf-8")
        yield f"R48 HTML by {status}", (html, silent)
    for name, (body, kind) in _SILENT.items():
        yield f"R48 {name} by 400", (answer(400, body, kind), UPSTREAM_BAD_ANSWER)
        yield f"R48 {name} by 500", (answer(500, body, kind), UPSTREAM_BAD_ANSWER)
    for name, reply in _LOST.items():
        yield f"R48 {name}", (reply, UPSTREAM_CONNECTION_LOST)
    for delay, seconds in _DELAYS.items():
        reply = answer(429, Retry_After=delay)
        yield f"R46 Retry-After {delay}", (reply, replace(TOO_MANY_REQUESTS, retry=seconds))
    yield (
        "R46 Retry-After by 503",
        (
            answer(503, Retry_After="30"),
            replace(UPSTREAM_UNAVAILABLE, retry=30),
        ),
    )
    yield (
        "R46 Retry-After by 401",
        (answer(401, Retry_After="30", WWW_Authenticate="Basic"), INVALID_CLIENT),
    )


def _oauth(status: int, error: str) -> bytes:
    """Answer as plain OAuth servers do, with texts that callers must not see."""
    body = {"error": error, "error_description": "canary", "detail": "canary", "karmoCode": "1"}
    return answer(status, body, www_authenticate='Basic realm="canary"')


ANSWERS = dict(_rows())
