"""Metadata: which header fields pass, which entries come back, and how the deadline is read."""

import re
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.transcoding.errors import MalformedRequestError, Violation
from sidecar.transcoding.metadata import (
    Metadata,
    check_names,
    read_timeout,
    to_headers,
    to_metadata,
)
from tests.properties import any_text, many, vschar

Headers = Sequence[tuple[bytes, bytes]]
ALLOWED = frozenset({b"authorization", b"x-request-id"})

# Names

NAMED = (
    "authorization",
    "www-authenticate",
    "set-cookie",
    "x-request-id",
    "traceparent",
    "0_a.b-c",
    "x-bin",
    "-bin",
    "grpc",
    "x-grpc-timeout",
    "x-te",
    "content-language",
)
REFUSED = "Headers that cannot be passed on must not be named:"
SPELLING = "a name is in lower case, and has only 0-9, a-z, _, . and - in it"
GRPC = "it is reserved for gRPC"
CONNECTION = "it is for one connection"
HTTP = "it belongs to HTTP, not to the call"
NOT_NAMED: Mapping[str, str] = {
    "": SPELLING,
    "X-Request-Id": SPELLING,
    "Connection": SPELLING,
    "x y": SPELLING,
    "x\n": SPELLING,
    "x\0": SPELLING,
    "x:y": SPELLING,
    "x,y": SPELLING,
    "x*": SPELLING,
    "é": SPELLING,
    "\u0661": SPELLING,
    ":path": SPELLING,
    ":authority": SPELLING,
    "grpc-": GRPC,
    "grpc-timeout": GRPC,
    "grpc-status": GRPC,
    "grpc-status-details-bin": GRPC,
    "grpc-metadata-x": GRPC,
    "user-agent": GRPC,
    "connection": CONNECTION,
    "http2-settings": CONNECTION,
    "keep-alive": CONNECTION,
    "proxy-authenticate": CONNECTION,
    "proxy-authentication-info": CONNECTION,
    "proxy-authorization": CONNECTION,
    "proxy-connection": CONNECTION,
    "te": CONNECTION,
    "trailer": CONNECTION,
    "transfer-encoding": CONNECTION,
    "upgrade": CONNECTION,
    "content-encoding": HTTP,
    "content-length": HTTP,
    "content-type": HTTP,
    "date": HTTP,
    "expect": HTTP,
    "host": HTTP,
}


def test_names_that_pass() -> None:
    """Names that gRPC can carry, and that are about the call, are in order; so are none at all."""
    check_names(NAMED)
    check_names(frozenset())


@pytest.mark.parametrize(("name", "reason"), NOT_NAMED.items(), ids=ascii)
def test_name_that_cannot_pass(name: str, reason: str) -> None:
    """A name that is malformed, or another's, is refused with the reason."""
    with pytest.raises(ValueError, match="cannot be passed on") as raised:
        check_names([name])
    assert str(raised.value) == f"{REFUSED} {name!r} ({reason})."


def test_all_names_that_cannot_pass() -> None:
    """Every such name is told at once, and each a single time, whatever their order."""
    with pytest.raises(ValueError, match="cannot be passed on") as raised:
        check_names(["te", "x-request-id", "grpc-status", "Host", "te"])
    assert str(raised.value) == (
        f"{REFUSED} 'Host' (a name is in lower case, and has only 0-9, a-z, _, . and - in it), "
        "'grpc-status' (it is reserved for gRPC), 'te' (it is for one connection)."
    )


# From headers


def test_only_allowed_fields_pass() -> None:
    """The fields that are named pass in their order, repeated ones included, and no other."""
    headers = [
        (b"host", b"api.example.test"),
        (b"x-request-id", b"1"),
        (b"authorization", b"Basic YTpi"),
        (b"cookie", b"secret"),
        (b"x-request-id", b" ~"),
        (b"grpc-timeout", b"1S"),
        (b"x-request-id-bin", b"\xff"),
        (b"connection", b"close"),
    ]
    assert to_metadata(headers, ALLOWED) == (
        ("x-request-id", "1"),
        ("authorization", "Basic YTpi"),
        ("x-request-id", " ~"),
    )


def test_nothing_passes_by_default() -> None:
    """Without an allow-list there is no metadata."""
    assert to_metadata([(b"authorization", b"x"), (b"x", b"\xff")], frozenset()) == ()


def test_an_empty_value_passes() -> None:
    """A field without a value is passed on as such."""
    assert to_metadata([(b"authorization", b"")], ALLOWED) == (("authorization", ""),)


@pytest.mark.parametrize(
    "value",
    [b"\xe9", "é".encode(), b"a\x00", b"a\tb", b"a\nb", b"a\r", b"\x7f", b"\x1b[0m"],
    ids=ascii,
)
def test_value_that_metadata_cannot_carry(value: bytes) -> None:
    """A value outside of printable ASCII is a fault of the header, and is not quoted."""
    headers = [(b"authorization", b"canary" + value), (b"x-request-id", value), (b"x", value)]
    with pytest.raises(MalformedRequestError) as raised:
        to_metadata(headers, ALLOWED)
    assert raised.value.violations == (
        Violation(detail="The header authorization must hold printable ASCII characters only."),
        Violation(detail="The header x-request-id must hold printable ASCII characters only."),
    )


@many
@given(st.lists(st.tuples(st.sampled_from([*ALLOWED, b"x"]), st.binary())))
def test_any_values(headers: Headers) -> None:
    """Any bytes at all pass as they are, or are faults."""
    try:
        passed = to_metadata(headers, ALLOWED)
    except MalformedRequestError:
        assert any(re.search(rb"[^ -~]", value) for name, value in headers if name in ALLOWED)
    else:
        expected = [pair for pair in headers if pair[0] in ALLOWED]
        assert passed == tuple((name.decode(), value.decode()) for name, value in expected)


BINARY: Mapping[bytes, tuple[bytes, ...]] = {
    b"": (b"",),
    b"YQ==": (b"a",),
    b"YQ": (b"a",),
    b"YWI=": (b"ab",),
    b"YWI": (b"ab",),
    b"YWJj": (b"abc",),
    b"+/+/": (b"\xfb\xff\xbf",),
    b"AAECAw": (b"\x00\x01\x02\x03",),
    # What is joined comes apart again, the empty ones too.
    b"YQ,YWI=": (b"a", b"ab"),
    b"YQ==, YWJj\t, YQ": (b"a", b"abc", b"a"),
    b"YQ,,": (b"a", b"", b""),
    b", YQ": (b"", b"a"),
}
NOT_BINARY = (
    b"Y",
    b"YWJjZ",
    b"YQ=",
    b"YQ===",
    b"YWI==",
    b"YWJj=",
    b"=",
    b"==",
    b"====",
    b"YQ==YQ==",
    b"Y Q",
    b"YQ\n",
    b"YQ\x00",
    b"-_-_",
    b"YQ;",
    b"YQ,?",
    b"canary!",
    b"\xe9",
    b"\xff\xfe",
)


@pytest.mark.parametrize(("value", "entries"), BINARY.items(), ids=ascii)
def test_binary_value(value: bytes, entries: Sequence[bytes]) -> None:
    """A name that ends in -bin carries bytes in base64, padded or not, and perhaps several."""
    passed = to_metadata([(b"x-bin", value)], frozenset({b"x-bin"}))
    assert passed == tuple(("x-bin", entry) for entry in entries)


@pytest.mark.parametrize("value", NOT_BINARY, ids=ascii)
def test_binary_value_that_is_not_base64(value: bytes) -> None:
    """Anything else under such a name is a fault of the header, and is not quoted."""
    headers = [(b"x-bin", b"YQ"), (b"x-bin", value), (b"authorization", b"\t"), (b"y-bin", value)]
    with pytest.raises(MalformedRequestError) as raised:
        to_metadata(headers, ALLOWED | {b"x-bin"})
    assert raised.value.violations == (
        Violation(detail="The header x-bin must hold base64 (RFC 4648 section 4) only."),
        Violation(detail="The header authorization must hold printable ASCII characters only."),
    )


def test_binary_and_text_keep_their_order() -> None:
    """Fields of both kinds pass in the order in which they came."""
    headers = [(b"x-bin", b"YQ,YWI"), (b"x", b"a,b"), (b"x-bin", b""), (b"x-binary", b"?")]
    assert to_metadata(headers, frozenset({b"x", b"x-bin", b"x-binary"})) == (
        ("x-bin", b"a"),
        ("x-bin", b"ab"),
        ("x", "a,b"),
        ("x-bin", b""),
        ("x-binary", "?"),
    )


NOMINATED: Mapping[str, tuple[bytes, ...]] = {
    "alone": (b"x-request-id",),
    "in another case": (b"X-Request-ID",),
    "among others": (b"keep-alive , x-request-id\t,close",),
    "in a second field": (b"close", b"x-request-id"),
    "after empty ones": (b",, ,x-request-id",),
}


@pytest.mark.parametrize("connection", NOMINATED.values(), ids=NOMINATED)
def test_fields_of_the_connection_do_not_pass(connection: Sequence[bytes]) -> None:
    """A field that Connection names is for us alone, wherever it stands and whatever it holds."""
    named = [(b"x-request-id", b"\xff"), *((b"connection", value) for value in connection)]
    headers = [*named, (b"authorization", b"x"), (b"x-request-id", b"1")]
    assert to_metadata(headers, ALLOWED) == (("authorization", "x"),)


@pytest.mark.parametrize("connection", [b"", b"close", b"x-request", b"x-request-id;q", b"\xff"])
def test_other_connections(connection: bytes) -> None:
    """What Connection does not name passes."""
    headers = [(b"connection", connection), (b"x-request-id", b"1")]
    assert to_metadata(headers, ALLOWED) == (("x-request-id", "1"),)


HOSTILE: Mapping[str, bytes] = {
    "letters": b"A" * 200_001,
    "padding": b"=" * 200_000,
    "spaces": b"YQ" + b" " * 200_000 + b"YQ",
    "commas": b"," * 200_000 + b"?",
    "short ones": b"YQ," * 70_000 + b"?",
}


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_hostile_fields_are_read_in_one_pass(value: bytes) -> None:
    """Long fields are faults as well; a way to read them that grows with its square never ends."""
    with pytest.raises(MalformedRequestError):
        to_metadata([(b"connection", value), (b"x-bin", value)], frozenset({b"x-bin"}))


# To headers

SENT: Metadata = (
    ("x-request-id", "1"),
    ("x-bin", b"a"),
    ("secret", "x"),
    ("set-cookie", "a=1"),
    ("grpc-status-details-bin", b"x"),
    ("x-bin", b"\xfb\xff\xbf"),
    ("set-cookie", "b=2"),
    ("x-request-id", ""),
    ("x-bin", b""),
)


def test_only_allowed_metadata_becomes_headers() -> None:
    """The entries that are named become fields in their order, repeated ones included."""
    assert to_headers(SENT, frozenset({"x-request-id", "x-bin", "set-cookie", "other"})) == [
        ("x-request-id", "1"),
        ("x-bin", "YQ"),
        ("set-cookie", "a=1"),
        ("x-bin", "+/+/"),
        ("set-cookie", "b=2"),
        ("x-request-id", ""),
        ("x-bin", ""),
    ]


def test_fields_that_are_present_are_left_out() -> None:
    """A field that a response has already, in any case, is not given again, but for Vary."""
    sent = [("x", "1"), ("vary", "a"), ("y", "2")]
    fields = to_headers(sent, frozenset({"x", "y", "vary"}), present=["X", "Vary", "z"])
    assert fields == [("vary", "a"), ("y", "2")]


def test_no_metadata_becomes_headers_by_default() -> None:
    """Without an allow-list nothing of a service's metadata is shown."""
    assert to_headers(SENT, frozenset()) == []


@pytest.mark.parametrize(
    "value",
    [
        "a\r\nset-cookie: b",
        "a\r",
        "a\n",
        "\n",
        "a\0",
        "a\tb",
        "\x7f",
        "\x1b[0m",
        "é",
        "€",
        "\ud800",
    ],
    ids=ascii,
)
def test_text_that_no_field_can_hold(value: str) -> None:
    """A value that would break a field or the answer is left out, alone."""
    sent = [("x-request-id", value), ("x-request-id", "1"), ("x-request-id", f"canary{value}")]
    assert to_headers(sent, frozenset({"x-request-id"})) == [("x-request-id", "1")]


def test_spaces_around_a_value() -> None:
    """Spaces around a text are not sent: they are no part of a field's value."""
    assert to_headers([("x", "  a b "), ("x", "  ")], frozenset({"x"})) == [("x", "a b"), ("x", "")]


entries = st.lists(
    st.tuples(st.just("x-bin"), st.binary())
    | st.tuples(st.just("x"), st.text(vschar).filter(lambda text: text == text.strip()))
)


@many
@given(entries)
def test_headers_are_read_as_they_are_written(sent: Sequence[tuple[str, str | bytes]]) -> None:
    """Metadata that became headers is the same metadata again."""
    fields = to_headers(sent, frozenset({"x", "x-bin"}))
    headers = [(name.encode(), value.encode()) for name, value in fields]
    assert to_metadata(headers, frozenset({b"x", b"x-bin"})) == tuple(sent)


@many
@given(st.lists(st.binary(), min_size=1))
def test_headers_may_be_joined(sent: Sequence[bytes]) -> None:
    """Fields that a proxy joined by commas (RFC 9110 section 5.3) are the same metadata again."""
    fields = to_headers([("x-bin", value) for value in sent], frozenset({"x-bin"}))
    joined = ", ".join(value for _, value in fields).encode()
    passed = to_metadata([(b"x-bin", joined)], frozenset({b"x-bin"}))
    assert passed == tuple(("x-bin", value) for value in sent)


@many
@given(any_text)
def test_any_text_is_left_out_or_fits(text: str) -> None:
    """What becomes a header is printable ASCII without spaces around it."""
    written = [value for _, value in to_headers([("x", text)], frozenset({"x"}))]
    assert all(re.fullmatch("([!-~]([ -~]*[!-~])?)?", value) for value in written)


# The deadline

TIMEOUTS: Mapping[bytes, float] = {
    b"1H": 3600.0,
    b"2M": 120.0,
    b"3S": 3.0,
    b"4m": 0.004,
    b"5u": 0.000005,
    b"6n": 0.000000006,
    b"0S": 0.0,
    b"00000001S": 1.0,
    b"86400S": 86400.0,
    b"00000024H": 86400.0,
    # More than a day is a day: grpcio cannot add the longest to the present.
    b"86401S": 86400.0,
    b"99999999H": 86400.0,
}
NO_TIMEOUTS = (
    b"",
    b"S",
    b"1",
    b"1s",
    b"1h",
    b"1D",
    b"1ms",
    b"-1S",
    b"+1S",
    b"1.5S",
    b"1_0S",
    b"1e3S",
    b"100000000S",
    b"9" * 5000 + b"S",
    b" 1S",
    b"1S ",
    b"1 S",
    b"1S\n",
    b"1S,2S",
    b"\xd9\xa1S",
    b"infS",
    b"nanS",
    b"canary",
)


@pytest.mark.parametrize(("value", "seconds"), TIMEOUTS.items(), ids=ascii)
def test_timeout(value: bytes, seconds: float) -> None:
    """A timeout is at most 8 digits and a unit, and read in seconds."""
    headers = [(b"x", b"y"), (b"grpc-timeout", value)]
    assert read_timeout(headers) == pytest.approx(seconds, rel=1e-12)


def test_no_timeout() -> None:
    """Without the field there is no timeout."""
    assert read_timeout([(b"x-grpc-timeout", b"1S"), (b"timeout", b"1S")]) is None


TIMEOUT_FAULT = Violation(
    detail="grpc-timeout must be given once, as up to 8 digits and one of H M S m u n."
)


@pytest.mark.parametrize("value", NO_TIMEOUTS, ids=lambda value: ascii(value[:12]))
def test_malformed_timeout(value: bytes) -> None:
    """Anything else is a fault, and is not quoted."""
    with pytest.raises(MalformedRequestError) as raised:
        read_timeout([(b"grpc-timeout", value)])
    assert raised.value.violations == (TIMEOUT_FAULT,)


def test_repeated_timeout() -> None:
    """Two timeouts are a fault, even equal ones."""
    with pytest.raises(MalformedRequestError) as raised:
        read_timeout([(b"grpc-timeout", b"1S"), (b"grpc-timeout", b"1S")])
    assert raised.value.violations == (TIMEOUT_FAULT,)
