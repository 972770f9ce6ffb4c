"""Problem documents of the auth-api, whose texts reach callers, checked and cut.

No text with "canary" here may reach a caller.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from tests.contract.expected import (
    ACCESS_DENIED,
    CONFLICT,
    INTERNAL,
    INVALID_CLIENT,
    INVALID_REQUEST,
    INVALID_SCOPE,
    RESOURCE_NOT_FOUND,
    TOO_MANY_REQUESTS,
    UNAUTHORIZED_CLIENT,
    UNPROCESSABLE_CONTENT,
    UPSTREAM_BAD_ANSWER,
    UPSTREAM_TIMEOUT,
    UPSTREAM_UNAVAILABLE,
    ExpectedProblem,
)
from tests.contract.requests import header, post
from tests.upstream import answer
from tests.ways import Sent, basic

PROBLEM_JSON = "application/problem+json"
SNOWMAN = "\N{SNOWMAN}"
CODE = "40099123"

_KINDS: Mapping[int, ExpectedProblem] = {
    400: INVALID_REQUEST,
    401: INVALID_CLIENT,
    403: ACCESS_DENIED,
    404: RESOURCE_NOT_FOUND,
    409: CONFLICT,
    422: UNPROCESSABLE_CONTENT,
    429: TOO_MANY_REQUESTS,
    500: INTERNAL,
    502: UPSTREAM_BAD_ANSWER,
    503: UPSTREAM_UNAVAILABLE,
    504: UPSTREAM_TIMEOUT,
}
_FAULT = {"detail": "Their fault.", "pointer": "/client_id"}
_TYPE = "https://auth.example.test/problems/theirs"
_THEIRS = {"type": _TYPE, "title": "Their title", "detail": "Their detail."}
_NOT_PASSED = {
    "status": 200,
    "instance": "urn:canary",
    "error_description": "canary",
    "stack": ["canary"],
    "karmo_code": "canary",
}
# A document with only a code gives our own texts, without a detail.
_BARE = replace(INVALID_REQUEST, karmo_code=CODE, detail="")


def _problem(status: int = 400, kind: str = PROBLEM_JSON, **members: object) -> bytes:
    return answer(status, {"karmoCode": CODE} | members, kind)


def _by_status() -> Iterator[tuple[str, tuple[bytes, ExpectedProblem]]]:
    for status, kind in _KINDS.items():
        code = f"{status}99123"
        body = {
            **_THEIRS,
            **_NOT_PASSED,
            "karmoCode": code,
            "karmoErrors": [_FAULT | {"x": "canary"}],
        }
        relayed = replace(
            kind, karmo_code=code, type=_TYPE, title="Their title", detail="Their detail."
        )
        yield (
            f"R38 R39 problem by {status}",
            (answer(status, body, PROBLEM_JSON), relayed.at("/client_id")),
        )
        reply = answer(status, {"karmoCode": code}, PROBLEM_JSON)
        yield f"R38 R39 code alone by {status}", (reply, replace(kind, karmo_code=code, detail=""))


def _by_code() -> Iterator[tuple[str, tuple[bytes, ExpectedProblem]]]:
    """Without a valid code a document is like any other error: only its status counts."""
    for bad in ("4009912", "400991234", 40099123, "4009912x", "40099123\n", "\u0664" * 8, None):
        for status, problem in ((400, INVALID_REQUEST), (500, UPSTREAM_BAD_ANSWER)):
            body = {"karmoCode": bad, "title": "canary", "detail": "canary"}
            yield (
                f"R38 karmoCode {bad!a} by {status}",
                (answer(status, body, PROBLEM_JSON), problem),
            )


_LONG_TYPE = "https://auth.example.test/" + "x" * 300
_MANY = [{"detail": f"Fault {n}.", "pointer": f"/{n}"} for n in range(40)]
_LARGE = [{"detail": "Fault. " * 12, "pointer": f"/{n}"} for n in range(16)]
_ODD: tuple[object, ...] = (
    None,
    "canary",
    [_FAULT],
    {"detail": "canary"},
    {"pointer": "/canary"},
    {"detail": 1, "pointer": "/canary"},
    {"detail": " ", "pointer": "/canary"},
    {"detail": "canary", "pointer": "canary"},
    {"detail": "canary", "pointer": "#/canary"},
    {"detail": "canary", "pointer": "/canary\n"},
)

RELAYED: Mapping[str, tuple[bytes, ExpectedProblem]] = {
    **dict(_by_status()),
    **dict(_by_code()),
    "R38 as application/json": (_problem(kind="application/json"), _BARE),
    "R38 a charset": (_problem(kind="Application/Problem+JSON; charset=utf-8"), _BARE),
    "R39 R45 unauthorized_client": (
        _problem(error="unauthorized_client"),
        replace(UNAUTHORIZED_CLIENT, karmo_code=CODE, detail=""),
    ),
    "R39 R45 invalid_scope": (
        _problem(error="invalid_scope"),
        replace(INVALID_SCOPE, karmo_code=CODE, detail=""),
    ),
    "R39 an error of their own": (
        _problem(403, error="quota_exceeded"),
        replace(ACCESS_DENIED, karmo_code=CODE, error="quota_exceeded", detail=""),
    ),
    "R40 an error with a quote": (_problem(error='canary"'), _BARE),
    "R40 an error beyond ASCII": (_problem(error=SNOWMAN), _BARE),
    "R40 an error that is a number": (_problem(error=1), _BARE),
    "R40 an empty error": (_problem(error=""), _BARE),
    "R40 a long error": (_problem(error="canary" * 11), _BARE),
    "R40 a detail to be reduced": (
        _problem(detail=f'A "quoted" \\ {SNOWMAN} text\r\nof two\tlines\0\x1b[0m'),
        replace(_BARE, detail=f'A "quoted" \\ {SNOWMAN} text of two lines [0m'),
    ),
    "R38 members of other types": (
        _problem(type=1, title=["canary"], detail={"canary": 1}, karmoErrors={"canary": 1}),
        _BARE,
    ),
    "R38 members that are null": (
        _problem(type=None, title=None, detail=None, karmoErrors=None, error=None),
        _BARE,
    ),
    "R38 members that are empty": (
        _problem(type="", title=" ", detail="\n", karmoErrors=[]),
        _BARE,
    ),
    "R38 about:blank": (_problem(type="about:blank"), replace(_BARE, type="about:blank")),
    "R38 a type that is no absolute URI": (_problem(type="/problems/canary"), _BARE),
    "R38 a type with a space": (_problem(type="https://auth.example.test/can ary"), _BARE),
    "R38 a long type": (_problem(type=_LONG_TYPE), _BARE),
    "R38 a long title": (_problem(title="x" * 9000), replace(_BARE, title="x" * 97 + "...")),
    "R38 a long detail": (_problem(detail="x" * 9000), replace(_BARE, detail="x" * 397 + "...")),
    "R38 a long detail beyond ASCII": (
        _problem(detail=SNOWMAN * 9000),
        replace(_BARE, detail=SNOWMAN * 132 + "..."),
    ),
    "R38 many faults": (
        _problem(karmoErrors=_MANY),
        _BARE.at(*(f"/{n}" for n in range(16))),
    ),
    "R38 large faults": (
        _problem(karmoErrors=_LARGE),
        _BARE.at(*(f"/{n}" for n in range(7))),
    ),
    "R38 odd faults among good ones": (
        _problem(karmoErrors=[*_ODD, _FAULT, {"detail": "Their body.", "pointer": ""}]),
        _BARE.at("/client_id", ""),
    ),
    "R38 everything as large as it may be": (
        _problem(
            type=_LONG_TYPE[:180],
            title=SNOWMAN * 100,
            detail='"' * 500,
            error="x" * 64,
            karmoErrors=_LARGE,
        ),
        replace(
            _BARE,
            type=_LONG_TYPE[:180],
            title=SNOWMAN * 32 + "...",
            detail='"' * 397 + "...",
            error="x" * 64,
        ).at(*(f"/{n}" for n in range(7))),
    ),
    "R38 lone surrogates in texts": (
        _problem(title="Their \ud800 title", detail="Their \udfff detail."),
        replace(_BARE, title="Their title", detail="Their detail."),
    ),
    "R38 a lone surrogate in a fault": (
        _problem(karmoErrors=[{"detail": "Their \ud800 fault.", "pointer": "/client_id"}]),
        _BARE.at("/client_id"),
    ),
    "R38 a lone surrogate in a pointer": (
        _problem(karmoErrors=[{"detail": "Their fault.", "pointer": "/\ud800"}, _FAULT]),
        _BARE.at("/client_id"),
    ),
    "R46 Retry-After of a problem": (
        answer(503, {"karmoCode": CODE}, PROBLEM_JSON, Retry_After="7"),
        replace(UPSTREAM_UNAVAILABLE, karmo_code=CODE, detail="", retry=7),
    ),
}

_BY_BASIC = header(basic("partner-1", "s3cr+t/"))
_ENCODED = header(basic("partner%2D1", "s3cr%2Bt%2F"))
_TOKEN68 = _BY_BASIC.authorization[0].split()[1]
_IN_BODY = post(client_id="partner-1", client_secret="s3cr+t/  two")


def _quoting(text: str) -> bytes:
    """Answer with a problem document that quotes `text` in every text."""
    return _problem(
        type=f"https://auth.example.test/{text}",
        title=f"No '{text}'",
        detail=f"There is no '{text}' here.",
        error=f"no_{text}",
        karmoErrors=[
            {"detail": f"No '{text}'", "pointer": ""},
            _FAULT,
            {"detail": "No.", "pointer": f"/{text}"},
        ],
    )


_WITHHELD = _BARE.at("/client_id")

# Texts that repeat the credentials of the request are withheld, even from their sender.
ECHOES: Mapping[str, tuple[Sent, bytes, ExpectedProblem]] = {
    "withheld: client_id of Basic": (_BY_BASIC, _quoting("partner-1"), _WITHHELD),
    "withheld: the whole header": (_BY_BASIC, _quoting(_TOKEN68), _WITHHELD),
    "withheld: the whole header without padding": (
        _BY_BASIC,
        _quoting(_TOKEN68.rstrip("=")),
        _WITHHELD,
    ),
    "withheld: the decoded secret": (_ENCODED, _quoting("s3cr+t/"), _WITHHELD),
    "withheld: the secret as it was encoded": (_ENCODED, _quoting("s3cr%2Bt%2F"), _WITHHELD),
    "withheld: the client_id as it was encoded": (_ENCODED, _quoting("partner%2D1"), _WITHHELD),
    "withheld: client_id of the body": (_IN_BODY, _quoting("partner-1"), _WITHHELD),
    "withheld: the secret of the body": (_IN_BODY, _quoting("s3cr+t/  two"), _WITHHELD),
    "withheld: the body as it went": (_IN_BODY, _quoting("s3cr%2Bt%2F++two"), _WITHHELD),
    "withheld: the body encoded anew": (_IN_BODY, _quoting("s3cr%2bt/%20%20two"), _WITHHELD),
}
