"""Tests of the Authorization header: accepted spellings and refusals."""

import base64
import re
from collections.abc import Mapping
from urllib.parse import quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.exchange.basic_auth import AuthorizationError, Basic, read_authorization
from sidecar.secret import Secret
from tests.properties import any_text, many, vschar
from tests.ways import basic

CANARY = "canary-2b6e"


def encode(text: str | bytes) -> str:
    """Return a Basic header for `text`, which should be an id, a colon and a secret."""
    data = text if isinstance(text, bytes) else text.encode()
    return "Basic " + base64.b64encode(data).decode()


def read(*values: str) -> Basic | None:
    """Return the credentials in these Authorization headers."""
    return read_authorization([Secret(value) for value in values])


def read_one(value: str) -> tuple[str, str]:
    """Return the id and the secret in one header."""
    credentials = read(value)
    assert credentials is not None
    return credentials.client_id.reveal(), credentials.client_secret.reveal()


def fault_of(*values: str) -> str:
    """Return the fault of these headers."""
    with pytest.raises(AuthorizationError) as raised:
        read(*values)
    assert raised.value.__cause__ is None
    return str(raised.value)


READ: Mapping[str, tuple[str, tuple[str, str]]] = {
    "raw": (basic("partner", "secret"), ("partner", "secret")),
    "lower-case scheme": (basic().replace("Basic", "basic"), ("partner", "secret")),
    "upper-case scheme": (basic().replace("Basic", "BASIC"), ("partner", "secret")),
    "several spaces": (basic().replace(" ", "    "), ("partner", "secret")),
    "without padding": (encode("a:b1").rstrip("="), ("a", "b1")),
    "without two signs of padding": (encode("a:b12").rstrip("="), ("a", "b12")),
    "non-canonical last bits": ("Basic YTpiMT==", ("a", "b1")),
    "colon in the secret": (basic("partner", "se:cr:et"), ("partner", "se:cr:et")),
    "colon in the id, encoded": (basic("urn%3Apartner", "secret"), ("urn:partner", "secret")),
    "plus is a space": (basic("partner", "s3cr+t"), ("partner", "s3cr t")),
    "encoded plus": (basic("partner", "s3cr%2Bt"), ("partner", "s3cr+t")),
    "escapes in either case": (basic("a%2db", "%2F%2f"), ("a-b", "//")),
    "everything encoded": (basic("partner%2Dacme%5F1", "s%2Ee"), ("partner-acme_1", "s.e")),
    "decoded once": (basic("partner", "%2541"), ("partner", "%41")),
    "raw that looks encoded": (basic("partner", "s3cr+t/w%41"), ("partner", "s3cr t/wA")),
    "no id": (basic("", "secret"), ("", "secret")),
    "no secret": (basic("partner", ""), ("partner", "")),
    "a colon alone": (basic("", ""), ("", "")),
}
OTHER_SCHEMES = (
    "Bearer abc",
    "bearer",
    "Negotiate",
    "Digest username=x, realm=y",
    "Basics " + basic().split()[1],
    "Basi " + basic().split()[1],
    "x-basic " + basic().split()[1],
)

NOT_BASE64 = "The Basic credentials in the Authorization header are not UTF-8 in base64."
NO_COLON = (
    "The Basic credentials in the Authorization header hold no colon between client_id and "
    "client_secret."
)
NOT_PRINTABLE = (
    "The Basic credentials in the Authorization header must hold printable ASCII characters only."
)
MALFORMED = (
    "The Authorization header is malformed; send Basic, a space, and the base64 of "
    "client_id, a colon and client_secret."
)
REFUSED: Mapping[str, tuple[str, str]] = {
    "empty": ("", MALFORMED),
    "a space": (" ", MALFORMED),
    "space before the scheme": (" " + basic(), MALFORMED),
    "tab after the scheme": (basic().replace(" ", "\t"), MALFORMED),
    "scheme outside of ASCII": ("Bäsic abc", MALFORMED),
    "a comma in the scheme": ("Basic,Bearer abc", MALFORMED),
    "a line end after the scheme": ("Basic\n" + basic(), MALFORMED),
    "scheme alone": ("Basic", NOT_BASE64),
    "scheme and spaces": ("Basic   ", NOT_BASE64),
    "padding alone": ("Basic ==", NOT_BASE64),
    "not base64": ("Basic ???", NOT_BASE64),
    "base64url": ("Basic YTo_-w", NOT_BASE64),
    "one character of base64": ("Basic A", NOT_BASE64),
    "five characters of base64": ("Basic YTpiM", NOT_BASE64),
    "too much padding": ("Basic YTpiMQ===", NOT_BASE64),
    "padding that nothing needs": ("Basic YTpi=", NOT_BASE64),
    "padding within": ("Basic YTpi=MQ=", NOT_BASE64),
    "half of the padding": ("Basic YTpiMQ=", NOT_BASE64),
    "space within": ("Basic cGFydG5l cjpzZWNyZXQ=", NOT_BASE64),
    "space at the end": (basic() + " ", NOT_BASE64),
    "line end within": ("Basic cGFydG5l\ncjpzZWNyZXQ=", NOT_BASE64),
    "line end at the end": (basic() + "\n", NOT_BASE64),
    "NUL at the end": (basic() + "\0", NOT_BASE64),
    "digits outside of ASCII": ("Basic ٣٣٣٣", NOT_BASE64),
    "parameters for a token": ('Basic realm="x"', NOT_BASE64),
    "two in one": (f"{basic()}, {basic()}", NOT_BASE64),
    "Latin-1 in base64": (encode(b"partn\xe9r:secret"), NOT_BASE64),
    "half a character of UTF-8": (encode(b"partner:\xc3"), NOT_BASE64),
    "overlong UTF-8": (encode(b"partner:\xc0\xaf"), NOT_BASE64),
    "surrogate in UTF-8": (encode(b"partner:\xed\xa0\x80"), NOT_BASE64),
    "no colon": (encode("partner"), NO_COLON),
    "encoded colon alone": (encode("partner%3Asecret"), NO_COLON),
    "escape of digits outside of ASCII": (basic("partner", "%٣٣"), NOT_PRINTABLE),
    "raw letter outside of ASCII": (basic("partnér", "secret"), NOT_PRINTABLE),
    "escaped letter outside of ASCII": (basic("partner", "%C3%A9"), NOT_PRINTABLE),
    "raw NUL": (basic("partner\0", "secret"), NOT_PRINTABLE),
    "escaped NUL": (basic("partner", "%00"), NOT_PRINTABLE),
    "escaped line end": (basic("partner", "%0D%0A"), NOT_PRINTABLE),
    # What `echo partner:secret | base64` makes.
    "line end at the end of the secret": (
        basic("partner", "secret\n"),
        f"{NOT_PRINTABLE} Their text ends with a line end.",
    ),
    "byte order mark": (
        basic("\N{ZERO WIDTH NO-BREAK SPACE}partner", "secret"),
        f"{NOT_PRINTABLE} Their text begins with a byte order mark.",
    ),
    "tab": (basic("partner", "a\tb"), NOT_PRINTABLE),
    "delete": (basic("partner", "a\x7fb"), NOT_PRINTABLE),
}


@pytest.mark.parametrize(("value", "expected"), READ.values(), ids=READ)
def test_read(value: str, expected: tuple[str, str]) -> None:
    """A Basic header is read in every spelling of real clients, and decoded once."""
    assert read_one(value) == expected


UNDECODED = {
    "percent sign at the end": basic("partner", "secret%"),
    "half an escape": basic("partner", "secret%4"),
    "escape of no digits": basic("partner", "%zz"),
    "escape in the id": basic("%zz", "secret"),
    "escape of no UTF-8": basic("partner", "%FF"),
    "escape of half a character": basic("partner", "%C3"),
    "escape divided by the colon": basic("%C3", "%A9"),
}


@pytest.mark.parametrize("header", UNDECODED.values(), ids=UNDECODED)
def test_a_half_that_cannot_be_decoded_stays(header: str) -> None:
    """A server that does not decode may know such credentials, so they are read as they are."""
    credentials = read(header)
    assert credentials is not None
    assert not credentials.is_decoded
    for raw, half in (
        (credentials.raw_id, credentials.client_id),
        (credentials.raw_secret, credentials.client_secret),
    ):
        assert half.reveal() == raw.reveal()


def test_each_half_is_decoded_by_itself() -> None:
    """The client_id counts for the throttle in decoded form, even if the secret has none."""
    credentials = read(basic("urn%3Ap", "100%"))
    assert credentials is not None
    assert (credentials.client_id.reveal(), credentials.client_secret.reveal()) == ("urn:p", "100%")
    assert not credentials.is_decoded


def test_everything_that_is_read() -> None:
    """The result has the decoded halves, the raw halves and the token."""
    credentials = read(basic("urn%3Ap", "se:c%2Bet"))
    assert credentials is not None
    assert credentials.token.reveal() == basic("urn%3Ap", "se:c%2Bet").removeprefix("Basic ")
    assert (credentials.raw_id.reveal(), credentials.raw_secret.reveal()) == (
        "urn%3Ap",
        "se:c%2Bet",
    )
    assert (credentials.client_id.reveal(), credentials.client_secret.reveal()) == (
        "urn:p",
        "se:c+et",
    )
    assert credentials.is_decoded


def test_no_header() -> None:
    """Without a header there are no credentials."""
    assert read() is None


@pytest.mark.parametrize("value", OTHER_SCHEMES)
def test_another_scheme(value: str) -> None:
    """A header of another scheme gives no credentials, even if it is malformed."""
    assert read(value) is None


@pytest.mark.parametrize(("value", "violation"), REFUSED.values(), ids=REFUSED)
def test_refused(value: str, violation: str) -> None:
    """An invalid header is refused with its fault, and never guessed at."""
    assert fault_of(value) == violation


@pytest.mark.parametrize("values", [(basic(), basic()), ("Bearer a", "Bearer b"), ("", "", "")])
def test_two_headers(values: tuple[str, ...]) -> None:
    """Several headers are refused, whatever their schemes and even if they are equal."""
    assert fault_of(*values) == "Send one Authorization header only."


HOLD_CANARY = (
    f"é {CANARY}",
    f"Basic {CANARY}",
    encode(CANARY),
    basic(CANARY, f"{CANARY}\n"),
)


@pytest.mark.parametrize("value", HOLD_CANARY, ids=ascii)
def test_no_fault_quotes_the_header(value: str) -> None:
    """No fault quotes the header."""
    assert CANARY not in fault_of(value)


def test_what_is_read_is_masked() -> None:
    """The repr shows neither the token nor a half."""
    shown = repr(read(basic(CANARY, CANARY)))
    assert CANARY not in shown
    assert basic(CANARY, CANARY)[6:14] not in shown


@many
@given(st.text(vschar), st.text(vschar))
@example("a:b", "%41+")
def test_form_encoded_credentials_round_trip(client_id: str, client_secret: str) -> None:
    """Credentials encoded as in RFC 6749 section 2.3.1 are decoded, for all credentials."""
    header = basic(quote_plus(client_id), quote_plus(client_secret))
    assert read_one(header) == (client_id, client_secret)


@many
@given(st.text(vschar), st.text(vschar))
def test_everything_encoded_round_trips(client_id: str, client_secret: str) -> None:
    """Credentials with every character encoded, nearly as by oauth4webapi, are decoded."""
    encoded = ["".join(f"%{ord(sign):02X}" for sign in text) for text in (client_id, client_secret)]
    assert read_one(basic(*encoded)) == (client_id, client_secret)


@many
@given(
    st.text(vschar.filter(lambda sign: sign not in ":%+")),
    st.text(vschar.filter(lambda sign: sign not in "%+")),
)
def test_raw_credentials_round_trip(client_id: str, client_secret: str) -> None:
    """Credentials that are not encoded are read unchanged if they contain no `%` and no `+`."""
    assert read_one(basic(client_id, client_secret)) == (client_id, client_secret)


@many
@given(st.lists(any_text | any_text.map("Basic ".__add__) | st.binary().map(encode), max_size=2))
def test_any_fields(values: list[str]) -> None:
    """Any headers give printable credentials, or none, or an AuthorizationError."""
    try:
        credentials = read(*values)
    except AuthorizationError:
        return
    if credentials is not None:
        halves = f"{credentials.client_id.reveal()}{credentials.client_secret.reveal()}"
        assert re.fullmatch("[ -~]*", halves)
