"""Token requests, independent of protocol: accepted ones, and ones that are refused."""

import base64
from collections.abc import Mapping
from dataclasses import replace

from tests.contract.expected import (
    INVALID_CLIENT,
    INVALID_REQUEST,
    UNSUPPORTED_GRANT_TYPE,
    ExpectedProblem,
)
from tests.ways import Sent, basic

GRANT = {"grant_type": "client_credentials"}
VSCHAR = "".join(map(chr, range(0x20, 0x7F)))


def post(**fields: str) -> Sent:
    """Return a token request with `fields` and the grant type."""
    return Sent(fields=GRANT | fields)


def header(*values: str, **fields: str) -> Sent:
    """Return a token request with Authorization headers, and with `fields`."""
    return Sent(fields=GRANT | fields, authorization=values)


def basic_of(credentials: bytes) -> str:
    """Return the Basic header value for exactly these bytes."""
    return "Basic " + base64.b64encode(credentials).decode()


def _of_grant_type(grant_type: str, **fields: str) -> Sent:
    return Sent(fields={"grant_type": grant_type, **fields}, authorization=(basic(),))


BOTH = {"client_id": "partner", "client_secret": "secret"}

ACCEPTED: Mapping[str, Sent] = {
    "R30 credentials in the body": post(**BOTH),
    "R19 every VSCHAR in the body": post(client_id=VSCHAR, client_secret=VSCHAR),
    "R21 Basic": header(basic()),
    "R21 basic": header(basic().replace("Basic", "basic")),
    "R21 BASIC": header(basic().replace("Basic", "BASIC")),
    "R21 three spaces": header(basic().replace(" ", "   ")),
    "R22 everything encoded": header(basic("partner%2Dacme%5F1", "%73%65%63ret")),
    "R22 an escape cut short": header(basic("partner", "100%2")),
    "R22 an escape that is not hexadecimal": header(basic("part%zzner")),
    "R22 escaped Latin-1": header(basic("partner", "caf%E9")),
    "R22 lower-case escapes": header(basic("partner%2dacme%5f1")),
    "R22 plus is a space": header(basic("a+partner", "a+secret"), client_id="a partner"),
    "R22 every VSCHAR encoded": header(basic("%7E%20", "".join(f"%{ord(c):02X}" for c in VSCHAR))),
    "R23 colon in the secret": header(basic("partner", "se:cr:et"), client_id="partner"),
    "R23 encoded colon in the id": header(basic("part%3Aner"), client_id="part:ner"),
    "R25 no padding": header(basic("partner", "secret12").rstrip("=")),
    "R26 nothing encoded": header(basic("partner_1", "s3cr+t/w~!$&'()*,;=@?#[]{}|<>^`\"\\")),
    "R26 a raw escape": header(basic("partner", "s3cr%41t")),
    "R27 Basic and the same client_id": header(basic(), client_id="partner"),
    "R27 Basic and the client_id as it stands": header(basic("p%41rt"), client_id="p%41rt"),
    "R27 Basic and the client_id decoded": header(basic("p%41rt"), client_id="pArt"),
    "R12 empty fields beside Basic": header(basic(), client_id="", client_secret=""),
}

_ALL_EMPTY = Sent(fields={"grant_type": "", "client_id": "", "client_secret": ""})
_MALFORMED = "Basic ???"

REFUSED: Mapping[str, tuple[Sent, ExpectedProblem]] = {
    "R12 everything empty": (_ALL_EMPTY, INVALID_REQUEST.at("/grant_type")),
    "R15 nothing at all": (Sent(), INVALID_REQUEST.at("/grant_type")),
    "R15 no grant_type": (Sent(fields=BOTH), INVALID_REQUEST.at("/grant_type")),
    "R15 another grant_type": (
        _of_grant_type("password"),
        UNSUPPORTED_GRANT_TYPE.at("/grant_type"),
    ),
    "R15 capitals": (
        _of_grant_type("Client_Credentials"),
        UNSUPPORTED_GRANT_TYPE.at("/grant_type"),
    ),
    "R15 a space behind": (
        _of_grant_type("client_credentials "),
        UNSUPPORTED_GRANT_TYPE.at("/grant_type"),
    ),
    "R15 a line end behind": (
        _of_grant_type("client_credentials\r\n"),
        replace(
            UNSUPPORTED_GRANT_TYPE.at("/grant_type"),
            detail="grant_type ends with a line end; send exactly client_credentials.",
        ),
    ),
    "R15 R40 a grant_type to quote with care": (
        _of_grant_type('p"\\\r\n\N{SNOWMAN}\0' + "x" * 5000),
        UNSUPPORTED_GRANT_TYPE.at("/grant_type"),
    ),
    "R19 client_id beyond ASCII": (
        post(client_id="p\N{LATIN SMALL LETTER A WITH DIAERESIS}rt", client_secret="secret"),
        INVALID_REQUEST.at("/client_id"),
    ),
    "R19 line feed in client_id": (
        post(client_id="part\nner", client_secret="secret"),
        INVALID_REQUEST.at("/client_id"),
    ),
    "R19 NUL in client_secret": (
        post(client_id="partner", client_secret="sec\0ret"),
        INVALID_REQUEST.at("/client_secret"),
    ),
    "R19 DEL in both": (
        post(client_id="\x7f", client_secret="\x7f"),
        INVALID_REQUEST.at("/client_id", "/client_secret"),
    ),
    "R19 bad client_id beside Basic": (
        header(basic("partner"), client_id="part\tner"),
        INVALID_REQUEST.at("/client_id", "/client_id"),
    ),
    "R24 not base64": (header(_MALFORMED), INVALID_REQUEST),
    "R24 impossible length": (header("Basic YWJjZ"), INVALID_REQUEST),
    "R24 URL-safe alphabet": (header("Basic YWI6Pj4-Pz8_"), INVALID_REQUEST),
    "R24 scheme alone": (header("Basic"), INVALID_REQUEST),
    "R24 empty header": (header(""), INVALID_REQUEST),
    "R24 no scheme": (header("=?="), INVALID_REQUEST),
    "R24 auth-params": (header('Basic realm="x"'), INVALID_REQUEST),
    "R24 no colon": (header(basic_of(b"partner")), INVALID_REQUEST),
    "R24 the only colon encoded": (header(basic_of(b"partner%3Asecret")), INVALID_REQUEST),
    "R24 Latin-1": (header(basic_of(b"partner:caf\xe9")), INVALID_REQUEST),
    "R24 UTF-8 beyond ASCII": (header(basic_of(b"partner:caf\xc3\xa9")), INVALID_REQUEST),
    "R24 escaped UTF-8 beyond ASCII": (header(basic("partner", "caf%C3%A9")), INVALID_REQUEST),
    "R24 NUL": (header(basic_of(b"partner:sec\0ret")), INVALID_REQUEST),
    "R24 escaped line feed": (header(basic("part%0Aner")), INVALID_REQUEST),
    "R25 padding by half": (header(basic("p", "qr")[:-1]), INVALID_REQUEST),
    "R25 padding too much": (header(basic("p", "qr") + "="), INVALID_REQUEST),
    "R25 padding where none is due": (header(basic("p", "q") + "="), INVALID_REQUEST),
    "R25 padding in the middle": (header(basic("p", "qr") + "cXI="), INVALID_REQUEST),
    "R25 a space inside": (header("Basic cGFydG5l cjpzZWNyZXQ="), INVALID_REQUEST),
    "R27 R51 Basic and client_secret": (
        header(basic(), **BOTH),
        INVALID_REQUEST.at("/client_secret"),
    ),
    "R27 Bearer and client_secret": (
        header("Bearer abc", **BOTH),
        INVALID_REQUEST.at("/client_secret"),
    ),
    "R27 Basic and another client_id": (
        header(basic(), client_id="another"),
        INVALID_REQUEST.at("/client_id"),
    ),
    "R27 Basic and the client_id in capitals": (
        header(basic(), client_id="PARTNER"),
        INVALID_REQUEST.at("/client_id"),
    ),
    "R28 Basic twice": (header(basic(), basic()), INVALID_REQUEST),
    "R28 Basic and Bearer": (header(basic(), "Bearer abc"), INVALID_REQUEST),
    "R28 Bearer": (header("Bearer abc"), INVALID_CLIENT),
    "R28 Bearer and client_id": (header("Bearer abc", client_id="partner"), INVALID_CLIENT),
    "R28 Negotiate": (header("Negotiate"), INVALID_CLIENT),
    "R28 a scheme that Basic begins": (header("Basics cDpx"), INVALID_CLIENT),
    "R29 no credentials": (post(), INVALID_CLIENT),
    "R29 client_id alone": (post(client_id="partner"), INVALID_CLIENT),
    "R29 client_secret alone": (post(client_secret="secret"), INVALID_CLIENT),
    "R29 empty client_secret": (post(client_id="partner", client_secret=""), INVALID_CLIENT),
    "R29 Basic without a secret": (header(basic("partner", "")), INVALID_CLIENT),
    "R29 Basic without an id": (header(basic("", "secret")), INVALID_CLIENT),
    "R29 Basic of a colon": (header(basic("", "")), INVALID_CLIENT),
    "which wins: malformed Basic, then two methods": (
        Sent(fields=BOTH, authorization=(_MALFORMED,)),
        INVALID_REQUEST.at("/client_secret", "/grant_type"),
    ),
    "which wins: malformed Basic, then the grant type": (
        Sent(fields={"grant_type": "password"}, authorization=(_MALFORMED,)),
        INVALID_REQUEST.at("/grant_type"),
    ),
    "which wins: two methods, then the grant type": (
        _of_grant_type("password", client_secret="secret"),
        INVALID_REQUEST.at("/client_secret", "/grant_type"),
    ),
    "which wins: the grant type missing, then a field": (
        Sent(fields={"client_id": "\x7f", "client_secret": "secret"}),
        INVALID_REQUEST.at("/grant_type", "/client_id"),
    ),
    "which wins: the grant type unsupported, then a field": (
        Sent(fields={"grant_type": "password", "client_id": "\x7f"}),
        UNSUPPORTED_GRANT_TYPE.at("/grant_type", "/client_id"),
    ),
    "which wins: a field, then authentication": (
        header("Bearer abc", client_id="\x7f"),
        INVALID_REQUEST.at("/client_id"),
    ),
    "which wins: the grant type, then authentication": (
        Sent(fields={"grant_type": "password"}),
        UNSUPPORTED_GRANT_TYPE.at("/grant_type"),
    ),
}
