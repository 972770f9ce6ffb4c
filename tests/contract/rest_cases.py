"""Cases that only REST has: methods, paths, queries, bodies, media types, header fields.

Each name begins with the rules that it proves. No text with "canary" here may be sent
anywhere. Cases of every protocol are in `requests`.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from tests.contract.expected import (
    CONTENT_TOO_LARGE,
    INVALID_REQUEST,
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    UNSUPPORTED_MEDIA_TYPE,
    ExpectedProblem,
)
from tests.ways import basic

PATH = "/v1/oauth/token"
FORM, JSON = "application/x-www-form-urlencoded", "application/json"
GRANT = {"grant_type": "client_credentials"}
CREDENTIALS = {**GRANT, "client_id": "partner", "client_secret": "secret"}
FORM_BODY = b"grant_type=client_credentials&client_id=partner&client_secret=secret"
JSON_BODY = json.dumps(CREDENTIALS).encode()
MAX_BODY_BYTES = 16 * 1024


Field = tuple[str, str | bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class RestCase:
    """One HTTP request, and its problem with the header fields `answer`; None means a token."""

    method: str = "POST"
    target: str = PATH
    headers: tuple[Field, ...] = (("Content-Type", FORM),)
    body: bytes = FORM_BODY
    problem: ExpectedProblem | None = None
    answer: Mapping[str, str] = field(default_factory=dict)


def typed(*content_types: str, body: bytes = FORM_BODY, **headers: str) -> RestCase:
    """Return a request with these Content-Type fields, and others by keyword."""
    fields = [("Content-Type", value) for value in content_types]
    fields += [(name.replace("_", "-"), value) for name, value in headers.items()]
    return RestCase(headers=tuple(fields), body=body)


def form(body: bytes) -> RestCase:
    """Return a request with this form."""
    return typed(FORM, body=body)


def of_json(body: object, **headers: str) -> RestCase:
    """Return a request with this JSON; bytes are sent unchanged."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return typed(JSON, body=data, **headers)


def _padded(size: int) -> bytes:
    return FORM_BODY + b"&x=" + b"x" * (size - len(FORM_BODY) - 3)


ACCEPTED: Mapping[str, RestCase] = {
    "R6 form": typed(FORM),
    "R6 form; charset=UTF-8": typed(f"{FORM};charset=UTF-8"),
    "R6 form in capitals": typed(f'{FORM.upper()} ; Charset="Utf-8"; x=y'),
    "R6 us-ascii": typed(f"{FORM}; charset=us-ascii"),
    "R6 utf8": typed(f"{FORM}; charset=utf8"),
    "R6 utf8 in quotes": typed(f'{FORM}; charset="UTF8"'),
    "R6 encoded names": form(FORM_BODY.replace(b"_", b"%5f")),
    "R6 empty pairs": form(b"&&" + FORM_BODY + b"&&"),
    "R7 JSON": typed(JSON, body=JSON_BODY),
    "R7 JSON in capitals": typed(f"{JSON.upper()};charset=utf-8", body=JSON_BODY),
    "R7 utf8": typed(f"{JSON}; charset=utf8", body=JSON_BODY),
    "R7 utf8 in quotes": typed(f'{JSON};charset="Utf8"', body=JSON_BODY),
    "R7 white space": of_json(b" \t\r\n" + JSON_BODY + b"\n"),
    "R7 escapes": of_json(JSON_BODY.replace(b"g", b"\\u0067")),
    "R11 R20 unknown in the form": form(FORM_BODY + b"&scope=canary&scope=canary&=&x"),
    "R11 R20 unknown in JSON": of_json(CREDENTIALS | {"scope": "canary", "x": {"client_id": 1}}),
    "R11 unknown twice in JSON": of_json(b'{"x":1,"x":[null],' + JSON_BODY[1:]),
    "R11 unknown in the query": RestCase(target=f"{PATH}?scope=canary&clientSecret=canary&"),
    "R12 null beside Basic": of_json(dict.fromkeys(CREDENTIALS) | GRANT, Authorization=basic()),
    "R12 empty beside Basic": of_json(
        dict.fromkeys(CREDENTIALS, "") | GRANT, Authorization=basic()
    ),
    "R17 16 KiB": form(_padded(MAX_BODY_BYTES)),
    "R18 identity": typed(FORM, Content_Encoding="Identity"),
    "R47 Accept: text/html": typed(FORM, Accept="text/html"),
    "R47 nothing is acceptable": typed(FORM, Accept="application/json;q=0, */*;q=0"),
    "grpc-timeout": typed(FORM, grpc_timeout="20S"),
    "grpc-timeout of 8 digits": typed(FORM, grpc_timeout="99999999m"),
}

_PATHS = {
    "R4 a slash behind": RestCase(target=f"{PATH}/"),
    "R4 two slashes": RestCase(target="/v1//oauth/token"),
    "R4 less": RestCase(target="/v1/oauth"),
    "R4 more": RestCase(target=f"{PATH}/canary"),
    "R4 capitals": RestCase(target="/v1/OAuth/token"),
    "R4 an escaped slash": RestCase(target="/v1%2Foauth/token"),
    "R4 a path parameter": RestCase(target=f"{PATH};canary"),
    "which wins: path, then method": RestCase(method="PUT", target="/canary"),
    "which wins: path, then query": RestCase(target="/canary?client_secret=canary"),
}

_METHODS = {
    **{f"R1 {m}": RestCase(method=m) for m in ("GET", "PUT", "PATCH", "DELETE", "TRACE")},
    "R1 a method of nobody": RestCase(method="CANARY"),
    "R3 GET with a secret": RestCase(method="GET", target=f"{PATH}?client_secret=canary", body=b""),
    "which wins: method, then media type": RestCase(method="PUT", headers=()),
}

# Every field of the request in any spelling, and spellings that may not be fields.
_QUERIES = {
    f"R3 {query}": RestCase(target=f"{PATH}?{query}")
    for query in (
        "client_secret=canary",
        "client_id=canary",
        "grant_type=client_credentials",
        "x=1&client%5Fsecret=canary",
        "client_secret",
        "client_secret.canary=1",
        "client%zzsecret=canary",
        "client%ffsecret=canary",
    )
}

_TYPES = {
    **{
        f"R8 {content_type}": typed(content_type)
        for content_type in (
            "text/plain",
            "multipart/form-data; boundary=canary",
            "application/xml",
            "application/vnd.api+xml",
            "text/json",
            "*/*",
            "json",
            f"{FORM}, {JSON}",
            f"{FORM}; charset",
        )
    },
    **{
        f"R9 {charset}": typed(f"{JSON}; charset={charset}", body=JSON_BODY)
        for charset in ("utf-16", "iso-8859-1", '"latin1"', "canary", "", "utf-8;charset=canary")
    },
    "R8 no media type": typed(),
    "R8 two media types": typed(FORM, JSON),
    "R8 the same media type twice": typed(FORM, FORM),
    "which wins: media type, then size": typed("text/plain", body=_padded(MAX_BODY_BYTES + 1)),
}

_CODINGS = {
    "R18 gzip": typed(FORM, Content_Encoding="gzip"),
    "R18 gzip of a media type of nobody": typed("text/canary", Content_Encoding="gzip"),
    "R18 identity and gzip": typed(FORM, Content_Encoding="identity, gzip"),
}

_LARGE = {
    "R17 one byte over 16 KiB": form(_padded(MAX_BODY_BYTES + 1)),
    "R14 R17 nesting of 100000": of_json(b"[" * 100_000),
    "which wins: size, then unreadable": of_json(b"{" * (MAX_BODY_BYTES + 1)),
}

_ANY = ("",)
_NO_GRANT = ("/grant_type",)
_BODIES: Mapping[str, tuple[RestCase, tuple[str, ...]]] = {
    "R9 bytes that are not UTF-8": (form(FORM_BODY + b"\xe9"), _ANY),
    "R9 escapes that are not UTF-8": (form(FORM_BODY + b"%E9"), _ANY),
    "R9 an escaped lone surrogate": (form(FORM_BODY + b"%ED%A0%80"), _ANY),
    "R9 an escape cut short": (form(FORM_BODY + b"%4"), _ANY),
    "R9 an escape that is none": (form(b"client_secret=%canary"), _ANY),
    "R9 an unknown name that is not UTF-8": (form(FORM_BODY + b"&%FF=1"), _ANY),
    "R10 twice": (form(FORM_BODY + b"&client_id=canary"), ("/client_id",)),
    "R10 twice the same": (form(FORM_BODY + b"&client_secret=secret"), ("/client_secret",)),
    "R10 twice, once empty": (form(b"grant_type=&" + FORM_BODY), _NO_GRANT),
    "R10 twice, once escaped": (form(FORM_BODY + b"&client%5Fid=canary"), ("/client_id",)),
    "R10 three times": (form(FORM_BODY + b"&client_id=1&client_id=2"), ("/client_id",)),
    "R10 twice in JSON": (of_json(b'{"client_id":"canary",' + JSON_BODY[1:]), ("/client_id",)),
    "R10 twice in JSON, once null": (of_json(b'{"grant_type":null,' + JSON_BODY[1:]), _NO_GRANT),
    "R10 all twice": (
        form(FORM_BODY + b"&" + FORM_BODY),
        ("/grant_type", "/client_id", "/client_secret"),
    ),
    "R12 no body": (typed(FORM, body=b""), _NO_GRANT),
    "R12 no body and no media type": (typed(body=b""), _NO_GRANT),
    "R12 an empty object": (of_json({}), _NO_GRANT),
    "R12 null for the grant type": (of_json(CREDENTIALS | {"grant_type": None}), _NO_GRANT),
    "R13 a number": (of_json(CREDENTIALS | {"client_id": 1}), ("/client_id",)),
    "R13 a number for a secret": (
        of_json(CREDENTIALS | {"client_secret": 1e9}),
        ("/client_secret",),
    ),
    "R13 true": (of_json(CREDENTIALS | {"client_secret": True}), ("/client_secret",)),
    "R13 an array": (of_json(CREDENTIALS | {"grant_type": ["canary"]}), _NO_GRANT),
    "R13 an object": (of_json(CREDENTIALS | {"client_id": {"canary": "canary"}}), ("/client_id",)),
    "R13 everything wrong": (
        of_json({"grant_type": 0, "client_id": False, "client_secret": []}),
        ("/grant_type", "/client_id", "/client_secret"),
    ),
    "R14 a lone surrogate": (of_json(CREDENTIALS | {"client_id": "\ud800"}), ("/client_id",)),
    "R14 NaN": (of_json(CREDENTIALS | {"x": float("nan")}), _ANY),
    "R14 Infinity": (of_json(CREDENTIALS | {"client_id": float("-inf")}), _ANY),
    "R14 1e400": (of_json(b'{"grant_type":1e400}'), ("/grant_type",)),
    "R14 1e400 in what is unknown": (of_json(b'{"x":1e400}'), _NO_GRANT),
    "R14 a number of 5000 digits": (of_json(b'{"x":%b}' % (b"9" * 5000)), _ANY),
    "R14 deep nesting": (of_json(b"[" * MAX_BODY_BYTES), _ANY),
    "R14 deep nesting of what is unknown": (
        of_json(b'{"x":' + b"[" * 8000 + b"]" * 8000 + b"}"),
        _ANY,
    ),
    "R14 a byte order mark": (of_json(b"\xef\xbb\xbf" + JSON_BODY), _ANY),
    "R14 a byte order mark before a form": (form(b"\xef\xbb\xbf" + FORM_BODY), _ANY),
    "R14 a line end behind a form": (form(FORM_BODY + b"\r\n"), ("/client_secret",)),
    "R14 UTF-16": (of_json(JSON_BODY.decode().encode("utf-16")), _ANY),
    "R14 UTF-16 without a mark": (of_json(JSON_BODY.decode().encode("utf-16-le")), _ANY),
    "R14 bytes that are not UTF-8": (of_json(b'{"client_id":"\xff"}'), _ANY),
    "R14 an array": (of_json([CREDENTIALS]), _ANY),
    "R14 null": (of_json(b"null"), _ANY),
    "R14 a string": (of_json("canary"), _ANY),
    "R14 a number at the top": (of_json(b"1"), _ANY),
    "R14 a form that says it is JSON": (of_json(FORM_BODY), _ANY),
    "R14 something behind": (of_json(JSON_BODY + b"canary"), _ANY),
    "R14 cut short": (of_json(JSON_BODY[:-1]), _ANY),
    "R14 a line feed in a string": (of_json(b'{"client_id":"can\nary"}'), _ANY),
    "R14 a white space that JSON lacks": (of_json(b"\x0c" + JSON_BODY), _ANY),
    "R14 nothing but white space": (of_json(b" "), _ANY),
    "R7 names in camel case": (of_json({"grantType": "client_credentials"}), _NO_GRANT),
    "which wins: unreadable, then Basic": (of_json(b"{", Authorization="Basic canary!"), _ANY),
}

_HEADERS: Mapping[str, tuple[Field, ...]] = {
    "R24 Latin-1": (("Authorization", b"Basic \xe9canary"),),
    "R24 UTF-8": (("Authorization", b"Basic \xc3\xa9canary"),),
    "R24 a tab": (("Authorization", b"Basic\tcanary"),),
    "R28 Basic twice": (("Authorization", basic()), ("authorization", basic())),
    "R28 Basic and Bearer": (("Authorization", basic()), ("Authorization", "Bearer canary")),
    **{
        f"grpc-timeout {value!r}": (("grpc-timeout", value),)
        for value in ("", "10", "S", "1x", "1s", "-1S", "+1S", "1.5S", "1 S", "123456789S", "1S,1S")
    },
    "grpc-timeout twice": (("grpc-timeout", "10S"), ("grpc-timeout", "10S")),
}


def _refused() -> Iterator[tuple[str, RestCase]]:
    media_types = {"accept": f"{FORM}, {JSON}"}
    groups: tuple[tuple[Mapping[str, RestCase], ExpectedProblem, Mapping[str, str]], ...] = (
        (_PATHS, NOT_FOUND, {}),
        (_METHODS, METHOD_NOT_ALLOWED, {"allow": "POST, OPTIONS"}),
        (_QUERIES, INVALID_REQUEST, {}),
        (_TYPES, UNSUPPORTED_MEDIA_TYPE, media_types),
        (_CODINGS, UNSUPPORTED_MEDIA_TYPE, {"accept-encoding": "identity"}),
        (_LARGE, CONTENT_TOO_LARGE, {"connection": "close"}),
    )
    for cases, problem, answer in groups:
        for name, case in cases.items():
            yield name, replace(case, problem=problem, answer=answer)
    for name, (case, pointers) in _BODIES.items():
        yield name, replace(case, problem=INVALID_REQUEST.at(*pointers))
    for name, fields in _HEADERS.items():
        headers = (("Content-Type", FORM), *fields)
        yield (
            name,
            RestCase(
                headers=headers, body=b"grant_type=client_credentials", problem=INVALID_REQUEST
            ),
        )


REFUSED: Mapping[str, RestCase] = dict(_refused())
