"""Tests of client authentication: the credentials in a request, or its problem."""

import base64
import re
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from karmo.problem.v1.problem_details_pb2 import (
    PROBLEM_REASON_INVALID_CLIENT as INVALID_CLIENT,
)
from karmo.problem.v1.problem_details_pb2 import (
    PROBLEM_REASON_INVALID_REQUEST as INVALID_REQUEST,
)
from karmo.problem.v1.problem_details_pb2 import (
    PROBLEM_REASON_UNSUPPORTED_GRANT_TYPE as UNSUPPORTED_GRANT_TYPE,
)

from sidecar.auth_api.client_credentials import GRANT_TYPE, ClientCredentials
from sidecar.exchange.credentials import TokenRequest, check, find_client_id
from sidecar.problems import FieldError, Problem, ProblemError, Reason
from sidecar.secret import Secret
from tests.properties import any_text, many, vschar
from tests.ways import basic


def encode(text: str | bytes) -> str:
    """Return a Basic header for `text`, which should be an id, a colon and a secret."""
    data = text if isinstance(text, bytes) else text.encode()
    return "Basic " + base64.b64encode(data).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A request by its plain values. The default lacks only credentials."""

    grant_type: str = GRANT_TYPE
    client_id: str = ""
    client_secret: str = ""
    authorization: tuple[str, ...] = ()

    def request(self) -> TokenRequest:
        """Return the request as the servicer passes it."""
        return TokenRequest(
            grant_type=self.grant_type,
            client_id=Secret(self.client_id),
            client_secret=Secret(self.client_secret),
            authorization=tuple(Secret(value) for value in self.authorization),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The problem of a request, with the pointers and texts of its field errors."""

    reason: Reason
    detail: str
    errors: tuple[tuple[str, str], ...] = ()


def refusal_of(sent: Sent) -> Refusal:
    """Return the problem of `sent`, which must have one."""
    with pytest.raises(ProblemError) as raised:
        check(sent.request())
    problem = raised.value.problem
    return Refusal(
        reason=problem.reason,
        detail=problem.detail or "",
        errors=tuple((error.pointer, error.detail) for error in problem.errors),
    )


def revealed(credentials: ClientCredentials) -> tuple[str, str, str | None]:
    """Return the id, the secret and the header of `credentials`."""
    header = credentials.authorization
    return (
        credentials.client_id.reveal(),
        credentials.client_secret.reveal(),
        header.reveal() if header else None,
    )


# The sent values, in the body or by header, and the id and secret that are read.
IN_THE_BODY: Mapping[str, tuple[str, str]] = {
    "plain": ("partner", "secret"),
    "every kind of ASCII": ("~ !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}", "s3cr+t/w%41 :"),
    "a space alone": (" ", " "),
}
BY_HEADER: Mapping[str, tuple[str, str, str]] = {
    "raw": (basic("partner", "secret"), "partner", "secret"),
    "another spelling": (basic().replace("Basic ", "BASIC  ").rstrip("="), "partner", "secret"),
    "encoded": (basic("urn%3Apartner", "s3cr%2Bt"), "urn:partner", "s3cr+t"),
    "raw that looks encoded": (basic("partner", "s3cr+t/w%41"), "partner", "s3cr t/wA"),
}


@pytest.mark.parametrize(("client_id", "client_secret"), IN_THE_BODY.values(), ids=IN_THE_BODY)
def test_credentials_in_the_body(client_id: str, client_secret: str) -> None:
    """Credentials in the fields of the request are used without decoding."""
    sent = Sent(client_id=client_id, client_secret=client_secret)
    assert revealed(check(sent.request())) == (client_id, client_secret, None)


@pytest.mark.parametrize(
    ("header", "client_id", "client_secret"), BY_HEADER.values(), ids=BY_HEADER
)
def test_credentials_by_header(header: str, client_id: str, client_secret: str) -> None:
    """A Basic header is decoded, and also kept unchanged for the auth-api."""
    credentials = check(Sent(authorization=(header,)).request())
    assert revealed(credentials) == (client_id, client_secret, header)


@pytest.mark.parametrize("client_id", ["urn:partner", "urn%3Apartner"])
def test_header_and_the_same_id(client_id: str) -> None:
    """The id may be repeated in the body, in its raw or its decoded form."""
    header = basic("urn%3Apartner", "secret")
    sent = Sent(client_id=client_id, authorization=(header,))
    assert revealed(check(sent.request())) == ("urn:partner", "secret", header)


NOT_BASE64 = Refusal(
    reason=INVALID_REQUEST,
    detail="The Basic credentials in the Authorization header are not UTF-8 in base64.",
)
UNAUTHENTICATED = Refusal(
    reason=INVALID_CLIENT,
    detail="Send client_id and client_secret, either by HTTP Basic authentication "
    "or as fields of the request.",
)
OTHER_SCHEME = Refusal(
    reason=INVALID_CLIENT,
    detail=f"The Authorization header has another scheme than Basic. {UNAUTHENTICATED.detail}",
)
ONE_WAY = (
    "Remove client_secret or the Authorization header: a request must use one "
    "authentication method."
)
SAME_ID = "Remove client_id, or send the same one as in the Authorization header."
NO_GRANT_TYPE = "grant_type is missing; send client_credentials."


def of_field(pointer: str, detail: str, reason: Reason = INVALID_REQUEST) -> Refusal:
    """Return the problem of a single field."""
    return Refusal(reason=reason, detail=detail, errors=((pointer, detail),))


def not_printable(name: str, stray: str = "") -> Refusal:
    """Return the problem of a field with a character that credentials must not have.

    `stray` describes its ends.
    """
    fault = f"{stray}; it must" if stray else "must"
    return of_field(f"/{name}", f"{name} {fault} hold printable ASCII characters only.")


NOT_SUPPORTED = "This grant_type is not supported; send client_credentials."


def unsupported(detail: str = NOT_SUPPORTED) -> Refusal:
    """Return the problem of an unsupported grant type, which is not quoted."""
    return of_field("/grant_type", detail, UNSUPPORTED_GRANT_TYPE)


SPELLING = "grant_type must be spelt exactly client_credentials, in lower case with an underscore."


def by(header: str) -> Sent:
    """Return a request with `header` and no credentials in its fields."""
    return Sent(authorization=(header,))


UNSEEN = "ends with a character that cannot be seen"
COMPLETE = Sent(client_id="partner", client_secret="secret")
REFUSED: Mapping[str, tuple[Sent, Refusal]] = {
    # The header; tests/exchange/test_basic_auth.py has more
    "unreadable header": (by("Basic ?"), NOT_BASE64),
    "two headers": (
        Sent(authorization=(basic(), basic())),
        Refusal(reason=INVALID_REQUEST, detail="Send one Authorization header only."),
    ),
    # Two authentication methods
    "header and secret": (
        Sent(client_secret="secret", authorization=(basic(),)),
        of_field("/client_secret", ONE_WAY),
    ),
    "another scheme and secret": (
        Sent(client_id="partner", client_secret="secret", authorization=("Bearer abc",)),
        of_field("/client_secret", ONE_WAY),
    ),
    "header and another id": (
        Sent(client_id="other", authorization=(basic(),)),
        of_field("/client_id", SAME_ID),
    ),
    "header and the id in another case": (
        Sent(client_id="Partner", authorization=(basic(),)),
        of_field("/client_id", SAME_ID),
    ),
    "header, another id and secret": (
        Sent(client_id="other", client_secret="secret", authorization=(basic(),)),
        Refusal(
            reason=INVALID_REQUEST,
            detail=ONE_WAY,
            errors=(("/client_secret", ONE_WAY), ("/client_id", SAME_ID)),
        ),
    ),
    # The grant type
    "no grant type": (
        Sent(grant_type="", client_id="partner", client_secret="secret"),
        of_field("/grant_type", NO_GRANT_TYPE),
    ),
    "another grant type": (
        Sent(grant_type="password", client_id="partner", client_secret="secret"),
        unsupported(),
    ),
    "upper-case grant type": (
        Sent(grant_type="CLIENT_CREDENTIALS"),
        unsupported(SPELLING),
    ),
    "grant type and a space": (
        Sent(grant_type="client_credentials "),
        unsupported("grant_type ends with a space; send exactly client_credentials."),
    ),
    "grant type with line ends": (Sent(grant_type="a\r\nb\x1b[0m"), unsupported()),
    "grant type outside of ASCII": (Sent(grant_type="é\ud800é"), unsupported()),
    # The fields
    "id with NUL": (
        Sent(client_id="partner\0", client_secret="secret"),
        not_printable("client_id", UNSEEN),
    ),
    "secret with a line end": (
        Sent(client_id="partner", client_secret="secret\n"),
        not_printable("client_secret", "ends with a line end"),
    ),
    "secret outside of ASCII": (
        Sent(client_id="partner", client_secret="sécret"),
        not_printable("client_secret"),
    ),
    "both fields": (
        Sent(client_id="\x7f", client_secret="\ud800"),
        Refusal(
            reason=INVALID_REQUEST,
            detail="client_id is blank; it must hold printable ASCII characters only.",
            errors=(
                *not_printable("client_id", "is blank").errors,
                *not_printable("client_secret", "is blank").errors,
            ),
        ),
    ),
    "header and an id with NUL": (
        Sent(client_id="partner\0", authorization=(basic(),)),
        Refusal(
            reason=INVALID_REQUEST,
            detail=SAME_ID,
            errors=(("/client_id", SAME_ID), *not_printable("client_id", UNSEEN).errors),
        ),
    ),
    # No complete credentials
    "nothing": (Sent(), UNAUTHENTICATED),
    "id alone": (Sent(client_id="partner"), UNAUTHENTICATED),
    "secret alone": (Sent(client_secret="secret"), UNAUTHENTICATED),
    "header without id": (by(basic("", "secret")), UNAUTHENTICATED),
    "header without secret": (by(basic("partner", "")), UNAUTHENTICATED),
    "another scheme": (by("Bearer abc"), OTHER_SCHEME),
    "another scheme and id": (
        Sent(client_id="partner", authorization=("Bearer abc",)),
        OTHER_SCHEME,
    ),
}


@pytest.mark.parametrize(("sent", "refusal"), REFUSED.values(), ids=REFUSED)
def test_refused(sent: Sent, refusal: Refusal) -> None:
    """Each faulty request has the defined problem, with its field errors."""
    assert refusal_of(sent) == refusal


# Grant types as a shell or an editor changes them, and the predicate of the detail.
MISSPELT: Mapping[str, str] = {
    "client_credentials\r\n": "ends with a line end",
    "client_credentials\n": "ends with a line end",
    "client_credentials ": "ends with a space",
    " client_credentials": "begins with a space",
    " client_credentials\r\n": "begins with a space and ends with a line end",
    "client_credentials\t": "ends with a tab",
    "client_credentials\N{NO-BREAK SPACE}": "ends with a no-break space",
    "\N{ZERO WIDTH NO-BREAK SPACE}client_credentials": "begins with a byte order mark",
    "client_credentials\N{ZERO WIDTH SPACE}": "ends with a zero width space",
    "client_credentials\N{EM SPACE}": "ends with white space",
    "client_credentials\0": "ends with a character that cannot be seen",
    "'client_credentials'": "is in quotes",
    '"client_credentials"': "is in quotes",
    "\N{LEFT DOUBLE QUOTATION MARK}client_credentials\N{RIGHT DOUBLE QUOTATION MARK}": (
        "is in quotes"
    ),
    " ": "is blank",
    "\r\n": "is blank",
}


@pytest.mark.parametrize(("grant_type", "fault"), MISSPELT.items(), ids=ascii)
def test_what_is_around_a_grant_type(grant_type: str, fault: str) -> None:
    """Stray characters that a reader cannot see in the value are named, with what to send."""
    detail = f"grant_type {fault}; send exactly client_credentials."
    sent = Sent(grant_type=grant_type, client_id="partner", client_secret="secret")
    assert refusal_of(sent) == unsupported(detail)


@pytest.mark.parametrize(
    "grant_type",
    [
        "Client_Credentials",
        "client-credentials",
        "client credentials",
        "clientCredentials",
        "ClientCredentials",
    ],
)
def test_a_grant_type_in_another_spelling(grant_type: str) -> None:
    """The detail of another case or separator shows the right spelling."""
    assert refusal_of(Sent(grant_type=grant_type)) == unsupported(SPELLING)


# The first of several faults, in this order, sets the reason (RFC 6749 section 5.2).
FIRST: Mapping[str, tuple[Sent, Refusal]] = {
    "header before two ways": (
        Sent(client_secret="secret", grant_type="x", authorization=("Basic ?",)),
        Refusal(
            reason=INVALID_REQUEST,
            detail=NOT_BASE64.detail,
            errors=(("/client_secret", ONE_WAY), *unsupported().errors),
        ),
    ),
    "two ways before grant type": (
        Sent(client_secret="secret", grant_type="", authorization=(basic(),)),
        Refusal(
            reason=INVALID_REQUEST,
            detail=ONE_WAY,
            errors=(("/client_secret", ONE_WAY), ("/grant_type", NO_GRANT_TYPE)),
        ),
    ),
    "unsupported grant type before fields": (
        Sent(client_id="\0", client_secret="secret", grant_type="x"),
        Refusal(
            reason=UNSUPPORTED_GRANT_TYPE,
            detail=unsupported().detail,
            errors=unsupported().errors + not_printable("client_id", "is blank").errors,
        ),
    ),
    "grant type before authentication": (
        Sent(grant_type=""),
        of_field("/grant_type", NO_GRANT_TYPE),
    ),
    "fields before authentication": (
        Sent(client_id="\0"),
        not_printable("client_id", "is blank"),
    ),
}


@pytest.mark.parametrize(("sent", "refusal"), FIRST.values(), ids=FIRST)
def test_first_fault_wins(sent: Sent, refusal: Refusal) -> None:
    """The first failed check sets the reason, and the faults of all fields are listed."""
    assert refusal_of(sent) == refusal


def test_credentials_that_must_be_decoded() -> None:
    """Where credentials are encoded anew, a header that cannot be decoded is refused."""
    sent = by(basic("partner", "100%"))
    assert check(sent.request()).client_secret.reveal() == "100%"
    with pytest.raises(ProblemError) as raised:
        check(sent.request(), must_decode=True)
    assert raised.value.problem.reason == INVALID_REQUEST
    assert "write a percent sign as %25" in str(raised.value.problem.detail)
    good = check(by(basic("partner", "100%25")).request(), must_decode=True)
    assert good.client_secret.reveal() == "100%"


@pytest.mark.parametrize(
    ("client_id", "header", "found"),
    [
        ("in body", "", "in body"),
        ("", basic("in header", ""), "in header"),
        ("in body", basic("in header", "secret"), "in header"),
        ("in body", basic("", "secret"), "in body"),
        ("in body", "Basic ?", "in body"),
        ("in body", "Bearer token", "in body"),
        ("", "", ""),
    ],
)
def test_the_client_of_any_request(client_id: str, header: str, found: str) -> None:
    """The client of a bad request is found, too: in its header, or else in its body."""
    sent = Sent(client_id=client_id, authorization=(header,) if header else ())
    assert find_client_id(sent.request()).reveal() == found


def test_the_problem_is_whole() -> None:
    """A problem sets no member that the catalogue defines."""
    with pytest.raises(ProblemError) as raised:
        check(Sent(grant_type="").request())
    assert raised.value.problem == Problem(
        reason=INVALID_REQUEST,
        detail=NO_GRANT_TYPE,
        errors=(FieldError(detail=NO_GRANT_TYPE, pointer="/grant_type"),),
    )


CANARY = "canary-7d1e"
HOLDS_CANARY: Mapping[str, Sent] = {
    "id": Sent(client_id=f"{CANARY}\0", client_secret="x"),
    "secret": Sent(client_id="x", client_secret=f"{CANARY}é"),
    "id alone": Sent(client_id=CANARY),
    "no colon": by(encode(CANARY)),
    "bad escape": by(basic(CANARY, f"{CANARY}\0")),
    "not printable": by(basic(CANARY, f"{CANARY}\n")),
    "not base64": by(f"Basic {CANARY}"),
    "another scheme": by(f"Bearer {CANARY}"),
    "scheme": by(CANARY),
    "malformed": by(f"é {CANARY}"),
    "two ways": Sent(client_id=CANARY, client_secret=CANARY, authorization=(basic(CANARY),)),
}


@pytest.mark.parametrize("sent", HOLDS_CANARY.values(), ids=HOLDS_CANARY)
def test_no_problem_quotes_credentials(sent: Sent) -> None:
    """No problem of credentials, and no exception, quotes them."""
    with pytest.raises(ProblemError) as raised:
        check(sent.request())
    assert CANARY not in f"{raised.value} {raised.value!r} {raised.value.problem!r}"
    assert raised.value.__cause__ is None


def test_nothing_that_holds_credentials_shows_them() -> None:
    """The repr of requests and credentials masks the secrets."""
    sent = Sent(client_id=CANARY, client_secret=CANARY)
    header = by(basic(CANARY, CANARY))
    shown = repr([sent.request(), header.request(), check(sent.request()), check(header.request())])
    assert CANARY not in shown
    assert base64.b64encode(CANARY.encode()).decode()[:8] not in shown


def test_not_even_local_variables_show_credentials() -> None:
    """A crash report with the values of local variables does not contain credentials."""
    sent = Sent(grant_type="", client_id=CANARY, authorization=(basic(CANARY, CANARY),))
    with pytest.raises(ProblemError) as raised:
        check(sent.request())
    assert raised.tb.tb_next
    frames = traceback.StackSummary.extract(
        traceback.walk_tb(raised.tb.tb_next), capture_locals=True
    )
    assert "Basic(token=Secret('***')" in str([frame.locals for frame in frames])
    assert CANARY not in str([frame.locals for frame in frames])


SEEN: Mapping[str, tuple[Sent, str, bool]] = {
    "id": (COMPLETE, "client partner is locked", True),
    "secret": (COMPLETE, "wrong: secret", True),
    "within a word": (COMPLETE, "xsecretx", True),
    "neither": (COMPLETE, "the client is locked", False),
    "in another case": (COMPLETE, "PARTNER", False),
    "nothing to look in": (COMPLETE, "", False),
    "too short to be looked for": (Sent(client_id="abc", client_secret="key"), "abc key", False),
    "just long enough": (Sent(client_id="abcd", client_secret="key"), "abcd", True),
    "id of a header": (by(basic("partner", "s%2Bcret")), "partner", True),
    "decoded secret of a header": (by(basic("partner", "s%2Bcret")), "'s+cret'", True),
    "secret of a header as it stood": (by(basic("partner", "s%2Bcret")), "'s%2Bcret'", True),
    "encoded in the text": (Sent(client_id="a b+c/d", client_secret="x"), "a+b%2Bc%2Fd", True),
    "encoded in another way": (Sent(client_id="a b.c", client_secret="x"), "a%20b%2Ec", True),
    "other white space": (Sent(client_id="a  b c", client_secret="x"), "'a b\n c'", True),
    "token of a header": (by(basic("a", "b")), basic("a", "b").split()[1], True),
    "token without its padding": (by(basic("a", "b1")), basic("a", "b1").split()[1][:-2], True),
    "scheme of a header": (by(basic("a", "b")), "Basic", False),
    "pair": (Sent(client_id="abc", client_secret="key"), "'abc:key'", True),
    "base64 of a body": (COMPLETE, basic("partner", "secret"), True),
    "base64 of a body, in a URL": (
        Sent(client_id="a", client_secret="~>?"),
        "YTp%2BJTNFJTNG",
        True,
    ),
    "base64 of a body, without its padding": (COMPLETE, "'cGFydG5lcjpzZWNyZXQ'", True),
    "base64 of a header, encoded anew": (by(basic("a", "b c")), basic("a", "b+c"), True),
    "base64 of other credentials": (COMPLETE, basic("partnes", "secret"), False),
}


@pytest.mark.parametrize(("sent", "text", "seen"), SEEN.values(), ids=SEEN)
def test_appear_in(sent: Sent, text: str, seen: bool) -> None:
    """A text that contains the id, the secret or the header, in any form, is recognised."""
    assert check(sent.request()).appear_in(text) is seen


@many
@given(st.text(vschar, min_size=1), st.text(vschar, min_size=1))
def test_credentials_round_trip(client_id: str, client_secret: str) -> None:
    """All printable credentials are accepted, from the fields and from the header."""
    sent = Sent(client_id=client_id, client_secret=client_secret)
    assert revealed(check(sent.request())) == (client_id, client_secret, None)
    header = basic(quote_plus(client_id), quote_plus(client_secret))
    assert revealed(check(by(header).request())) == (client_id, client_secret, header)


base64_of = st.binary().map(encode)
header_text = any_text | any_text.map("Basic ".__add__) | base64_of


@many
@given(
    st.just(GRANT_TYPE) | any_text,
    any_text,
    any_text,
    st.lists(header_text, max_size=2),
)
def test_check_raises_nothing_but_problems(
    grant_type: str, client_id: str, client_secret: str, authorization: list[str]
) -> None:
    """Every request gives printable ASCII credentials or a ProblemError."""
    sent = Sent(
        grant_type=grant_type,
        client_id=client_id,
        client_secret=client_secret,
        authorization=tuple(authorization),
    )
    outcome = outcome_of(sent)
    if isinstance(outcome, Problem):
        assert outcome.reason in {INVALID_CLIENT, INVALID_REQUEST, UNSUPPORTED_GRANT_TYPE}
    else:
        assert re.fullmatch("[ -~]+", outcome.client_id.reveal())
        assert re.fullmatch("[ -~]+", outcome.client_secret.reveal())


def outcome_of(sent: Sent) -> ClientCredentials | Problem:
    """Return the credentials or the problem of `sent`."""
    try:
        return check(sent.request())
    except ProblemError as error:
        return error.problem
