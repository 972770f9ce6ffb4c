"""The head of a request: one that parsers could read differently is refused, and not quoted."""

import time
from collections.abc import Iterable
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.http_server.http1 import request_head
from sidecar.http_server.http1.refusal import RefusedError
from sidecar.http_server.http1.request_head import MAX_BYTES, MAX_FIELDS, MAX_LINE_BYTES
from tests.fuzz import targets
from tests.properties import many

LINE = b"POST / HTTP/1.1\r\n"
HOST = b"Host: a\r\n"


def head(*fields: bytes, line: bytes = LINE) -> bytes:
    """Return a head with a Host field and `fields`."""
    return line + HOST + b"".join(field + b"\r\n" for field in fields) + b"\r\n"


def hosted(value: bytes) -> bytes:
    """Return a head with that Host field alone."""
    return LINE + b"Host: " + value + b"\r\n\r\n"


def long_line(size: int) -> bytes:
    """Return a request line of `size` bytes."""
    return b"GET /" + b"a" * (size - len(b"GET / HTTP/1.1\r\n")) + b" HTTP/1.1\r\n"


def padded(size: int) -> bytes:
    """Return a head of `size` bytes."""
    return head(b"A: " + b"a" * (size - len(head(b"A: "))))


def fields(count: int) -> bytes:
    """Return a head of `count` fields."""
    return head(*[b"A: a"] * (count - 1))


GOOD = {
    "nothing": b"",
    "half a line": b"POST / HT",
    "a line and half its end": b"POST / HTTP/1.1\r",
    "a line": LINE,
    "half a field": LINE + b"Ho",
    "a field and half its end": LINE + b"Host: a\r",
    "no end yet": LINE + HOST,
    "half an end": LINE + HOST + b"\r",
    "a head": head(),
    "a body behind": head(b"Content-Length: 9") + b"\n\n\r bytes\x00",
    "a next head behind": head() + b"what is no head\n\n",
    "length": head(b"Content-Length: 10"),
    "chunked": head(b"Transfer-Encoding: chunked"),
    "Chunked in capitals": head(b"TRANSFER-ENCODING:\tCHUNKED \t"),
    "no space behind the colon": head(b"Content-Length:10"),
    "an empty value": head(b"A:"),
    "bytes beyond ASCII in a value": head(b"A: \xff\x80"),
    "HTTP/1.0 without a host": b"GET / HTTP/1.0\r\n\r\n",
    "HTTP/1.0 with a host": head(line=b"GET / HTTP/1.0\r\n"),
    "HTTP/1.0 with a length": head(b"Content-Length: 1", line=b"GET / HTTP/1.0\r\n"),
    "absolute form": head(line=b"GET http://a/b?c HTTP/1.1\r\n"),
    "authority form": head(line=b"CONNECT a:443 HTTP/1.1\r\n"),
    "asterisk form": head(line=b"OPTIONS * HTTP/1.1\r\n"),
    "a method of any token": head(line=b"!#$%&'*+.^_`|~0aZ- / HTTP/1.1\r\n"),
    "an empty host": hosted(b""),
    "a host with a port": hosted(b"a.test:8080"),
    "a host with an empty port": hosted(b"a.test:"),
    "an address of IPv4": hosted(b"127.0.0.1:8080"),
    "an address of IPv6": hosted(b"[2001:db8::1]:8080"),
    "an address of IPv4 in IPv6": hosted(b"[::ffff:127.0.0.1]"),
    "an escaped host": hosted(b"a%20b"),
    "the longest line": long_line(MAX_LINE_BYTES) + HOST + b"\r\n",
    "the longest part of a line": b"a" * MAX_LINE_BYTES,
    "the largest head": padded(MAX_BYTES),
    "the most fields": fields(MAX_FIELDS),
}


@pytest.mark.parametrize("data", GOOD.values(), ids=GOOD)
def test_good_heads_pass(data: bytes) -> None:
    """What is well-formed passes, whole or in part, up to each limit."""
    request_head.read(data)


NO_LINE = (400, "The request line must be a method, a target and HTTP/1.1.")
LONG_LINE = (414, "The request line must not be longer than 8192 bytes.")
LARGE = (431, "The header fields must not be larger than 16384 bytes.")
MANY = (431, "There must not be more than 64 header fields.")
LINE_END = (400, "Each header field must be one line that ends with CR LF.")
NO_HOST = (400, "There must be one Host field, which names a host.")
LENGTH = (400, "The length of the body must be given once, by a number or by chunks.")
CODING = (400, "The only Transfer-Encoding must be chunked, in HTTP/1.1.")
NO_HTTP = (400, "The request must be HTTP/1.1 as RFC 9112 has it.")


def each(
    expected: tuple[int, str], cases: Iterable[tuple[str, bytes]]
) -> Iterable[tuple[str, bytes, tuple[int, str]]]:
    """Yield the rows of the cases that end alike."""
    return [(name, data, expected) for name, data in cases]


BAD = [
    *each(
        NO_LINE,
        [
            ("an empty line", b"\r\n"),
            ("HTTP/0.9", b"GET /\r\n"),
            ("HTTP/0.9 with a bare LF", b"GET /\n"),
            ("HTTP/1.2", b"GET / HTTP/1.2\r\n"),
            ("HTTP/2.0", b"GET / HTTP/2.0\r\n"),
            ("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
            ("http in small letters", b"GET / http/1.1\r\n"),
            ("a bare LF behind the line", b"GET / HTTP/1.1\n"),
            ("two CR behind the line", b"GET / HTTP/1.1\r\r\n"),
            ("a bare CR for the line's end", b"GET / HTTP/1.1\rHost: a\r\n"),
            ("two spaces", b"GET  / HTTP/1.1\r\n"),
            ("a tab", b"GET\t/ HTTP/1.1\r\n"),
            ("a space in the target", b"GET /a b HTTP/1.1\r\n"),
            ("a space before the line", b" GET / HTTP/1.1\r\n"),
            ("a space behind the line", b"GET / HTTP/1.1 \r\n"),
            ("no target", b"GET HTTP/1.1\r\n"),
            ("no method", b" / HTTP/1.1\r\n"),
            ("a method that is no token", b"GE(T / HTTP/1.1\r\n"),
            ("NUL in the target", b"GET /\x00 HTTP/1.1\r\n"),
            ("DEL in the target", b"GET /\x7f HTTP/1.1\r\n"),
            ("bytes beyond ASCII in the target", b"GET /\xc3\xa9 HTTP/1.1\r\n"),
            ("bytes beyond ASCII in the method", b"G\xc3\x89T / HTTP/1.1\r\n"),
            ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n"),
        ],
    ),
    *each(
        LONG_LINE,
        [
            ("a line of one byte too many", long_line(MAX_LINE_BYTES + 1)),
            ("a whole head with such a line", long_line(MAX_LINE_BYTES + 1) + HOST + b"\r\n"),
            ("a line that does not end", b"a" * (MAX_LINE_BYTES + 1)),
            ("a method that does not end", b"A" * 10 * 1024),
        ],
    ),
    *each(
        LARGE,
        [
            ("a head of one byte too many", padded(MAX_BYTES + 1)),
            ("a field that does not end", LINE + b"A: " + b"a" * MAX_BYTES),
            ("a name that does not end", LINE + b"a" * MAX_BYTES),
        ],
    ),
    *each(
        MANY,
        [
            ("one field too many", fields(MAX_FIELDS + 1)),
            ("fields without end", LINE + b"A:\r\n" * 1000),
        ],
    ),
    *each(
        NO_HTTP,
        [
            ("a length of 21 digits", head(b"Content-Length: " + b"1" * 21)),
            ("a length of 5,000 digits", head(b"Content-Length: " + b"1" * 5000)),
            ("a space before the colon", head(b"Content-Length : 1")),
            ("a tab before the colon", head(b"Transfer-Encoding\t: chunked")),
            ("no name", head(b": a")),
            ("no colon", head(b"a")),
            ("NUL in a value", head(b"A: a\x00b")),
            ("a control character in a value", head(b"A: a\x01b")),
            ("DEL in a value", head(b"A: a\x7fb")),
            ("chunked and a vertical tab", head(b"Transfer-Encoding: \x0bchunked")),
            ("NUL in a name", head(b"A\x00: a")),
            ("a name beyond ASCII", head(b"\xc3\xa9: a")),
            ("a name in parentheses", head(b"(a): a")),
        ],
    ),
    *each(
        LINE_END,
        [
            ("a bare LF behind a field", LINE + b"A: a\nHost: a\r\n\r\n"),
            ("a bare LF for the end", LINE + HOST + b"\n"),
            ("two bare LF", LINE + b"Host: a\n\n"),
            ("a bare CR in a value", head(b"A: a\rContent-Length: 1")),
            ("two CR behind a field", LINE + b"Host: a\r\r\n\r\n"),
            ("a folded line", head(b"A: a", b" b")),
            ("a line folded by a tab", head(b"A: a", b"\tb")),
            ("a folded first field", LINE + b" Host: a\r\n\r\n"),
            ("a folded line in half a head", LINE + HOST + b" "),
        ],
    ),
    *each(
        NO_HOST,
        [
            ("no host", LINE + b"A: a\r\n\r\n"),
            ("no field", LINE + b"\r\n"),
            ("no host for an absolute form", b"GET http://a/ HTTP/1.1\r\n\r\n"),
            ("two hosts", head(b"Host: b")),
            ("twice the same host", head(b"HOST: a")),
            ("two hosts in HTTP/1.0", head(b"Host: b", line=b"GET / HTTP/1.0\r\n")),
            ("a host of HTTP/1.0 that is none", b"GET / HTTP/1.0\r\nHost: a/b\r\n\r\n"),
            ("a path in the host", hosted(b"a/b")),
            ("a user in the host", hosted(b"user@a")),
            ("a space in the host", hosted(b"a b")),
            ("bytes beyond ASCII in the host", hosted(b"\xc3\xa9")),
            ("a port that is none", hosted(b"a:b")),
            ("two ports", hosted(b"a:1:2")),
            ("an open bracket", hosted(b"[::1")),
        ],
    ),
    *each(
        LENGTH,
        [
            ("two lengths", head(b"Content-Length: 1", b"Content-Length: 2")),
            ("twice the same length", head(b"Content-Length: 1", b"content-length: 1")),
            ("a list of lengths", head(b"Content-Length: 1, 1")),
            ("a list of two lengths", head(b"Content-Length: 1, 2")),
            ("a negative length", head(b"Content-Length: -1")),
            ("a length with a sign", head(b"Content-Length: +5")),
            ("a hexadecimal length", head(b"Content-Length: 0x5")),
            ("a length with an underscore", head(b"Content-Length: 1_0")),
            ("a fraction", head(b"Content-Length: 1.0")),
            ("no length", head(b"Content-Length:")),
            ("a length and a coding", head(b"Content-Length: 1", b"Transfer-Encoding: chunked")),
            ("a coding and a length", head(b"Transfer-Encoding: chunked", b"Content-Length: 1")),
            ("chunked twice", head(*[b"Transfer-Encoding: chunked"] * 2)),
            ("two codings", head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: x")),
            ("a length and an unknown coding", head(b"Content-Length: 1", b"Transfer-Encoding: x")),
        ],
    ),
    *each(
        CODING,
        [
            ("an unknown coding", head(b"Transfer-Encoding: xchunked")),
            ("identity", head(b"Transfer-Encoding: identity")),
            ("an empty coding", head(b"Transfer-Encoding:")),
            ("chunked, then identity", head(b"Transfer-Encoding: chunked, identity")),
            ("identity, then chunked", head(b"Transfer-Encoding: identity, chunked")),
            ("gzip, then chunked", head(b"Transfer-Encoding: gzip, chunked")),
            ("chunked in quotes", head(b'Transfer-Encoding: "chunked"')),
            ("chunked with a parameter", head(b"Transfer-Encoding: chunked;a=b")),
            (
                "chunked in HTTP/1.0",
                head(b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.0\r\n"),
            ),
        ],
    ),
]


@pytest.mark.parametrize(
    ("data", "expected"), [row[1:] for row in BAD], ids=[row[0] for row in BAD]
)
def test_bad_heads_are_refused(data: bytes, expected: tuple[int, str]) -> None:
    """What is read in two ways, or is too large, is refused with its status and detail."""
    with pytest.raises(RefusedError) as caught:
        request_head.read(data)
    assert (caught.value.status, caught.value.detail) == expected
    assert str(caught.value) == caught.value.detail


def refusal_of(data: bytes) -> tuple[int, str] | None:
    """Return the status and the detail that refuse `data`, or None if it passes."""
    try:
        request_head.read(data)
    except RefusedError as error:
        return error.status, error.detail
    return None


REFUSALS = {expected for _, _, expected in BAD}
pieces = st.sampled_from(
    [
        *(LINE, HOST, b"GET / HTTP/1.0\r\n", b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b"\x00"),
        *(b"Content-Length: 1\r\n", b"Transfer-Encoding: chunked\r\n", b"A: \xff\r\n", b"a" * 5000),
    ]
)
heads = st.binary() | st.lists(pieces | st.binary(max_size=4), max_size=8).map(b"".join)


@many
@given(heads)
@example(head() + b"behind")
@example(head(b"Transfer-Encoding: chunked", b"Upgrade: h2c") + b"0\r\n\r\n")
def test_any_bytes(data: bytes) -> None:
    """Any bytes are refused in our words alone, or h11 and httptools read the same head in them."""
    refusal = refusal_of(data)
    assert refusal in {None, *REFUSALS}
    targets.head(data)


@many
@given(heads, st.integers(min_value=0))
def test_any_part(data: bytes, size: int) -> None:
    """What passes whole passes in any part, so that it does not matter how it comes."""
    if refusal_of(data) is None:
        assert refusal_of(data[: size % (len(data) + 1)]) is None


# Time


def test_no_head_keeps_the_loop_busy() -> None:
    """Whatever fills a head that is not too large, to check it a hundred times takes no second.

    The bound catches what grows with the square of the length: a second was one check.
    """
    fillings = [b" ", b"\t", b" \t", b",", b":", b"a ", b"%41"]
    heads = [
        b"GET / HTTP/1.1\r\nHost: h\r\nX: a" + (filling * 16_000)[:16_000] + b"b\r\n\r\n"
        for filling in fillings
    ]
    heads += [b"GET / HTTP/1.1\r\nHost: " + (b"[:" * 8_000)[:16_000] + b"b\r\n\r\n"]
    start = time.perf_counter()
    for data in heads * 100:
        with suppress(RefusedError):
            request_head.read(data)
    assert time.perf_counter() - start < 10


# What is read


def test_what_is_read() -> None:
    """A head has a size, a method, a target, a version and fields, in lower case and stripped."""
    data = head(
        b"X-A:\t b c \t", b"x-a: \xff", b"Content-Length: 07", line=b"PUT /a?b HTTP/1.1\r\n"
    )
    assert request_head.read(data + b"behind") == request_head.RequestHead(
        size=len(data),
        method="PUT",
        target=b"/a?b",
        version="1.1",
        fields=[(b"host", b"a"), (b"x-a", b"b c"), (b"x-a", b"\xff"), (b"content-length", b"07")],
        length=7,
        closes=False,
        expects_continue=False,
        is_plain=False,
    )


def found(data: bytes) -> request_head.RequestHead:
    """Return the head that `data` is."""
    read = request_head.read(data)
    assert read is not None
    assert read.size == len(data)
    return read


LENGTHS = {
    "no body": (head(), 0),
    "a length": (head(b"Content-Length: 10"), 10),
    "a length of 20 digits": (head(b"Content-Length: " + b"9" * 20), 10**20 - 1),
    "chunks": (head(b"Transfer-Encoding: chunked"), None),
}


@pytest.mark.parametrize(("data", "length"), LENGTHS.values(), ids=LENGTHS)
def test_the_length_of_the_body(data: bytes, length: int | None) -> None:
    """The body has the length of its field, none without one, or comes in chunks."""
    assert found(data).length == length


CLOSES = {
    "HTTP/1.1": (head(), False),
    "keep-alive": (head(b"Connection: keep-alive"), False),
    "close": (head(b"Connection: close"), True),
    "close among others": (head(b"Connection: x ,\tCLOSE, y"), True),
    "close in another line": (head(b"Connection: x", b"connection: close"), True),
    "another word": (head(b"Connection: closed"), False),
    "HTTP/1.0": (head(line=b"GET / HTTP/1.0\r\n"), True),
    "HTTP/1.0 and keep-alive": (head(b"Connection: keep-alive", line=b"GET / HTTP/1.0\r\n"), True),
}


@pytest.mark.parametrize(("data", "closes"), CLOSES.values(), ids=CLOSES)
def test_whether_the_connection_closes(data: bytes, *, closes: bool) -> None:
    """A connection ends after a request with the option close, and after one of HTTP/1.0."""
    assert found(data).closes == closes


EXPECTS = {
    "nothing": (head(), False),
    "100-continue": (head(b"Content-Length: 1", b"Expect: 100-continue"), True),
    "in capitals": (head(b"Content-Length: 1", b"EXPECT: 100-Continue"), True),
    "before chunks": (head(b"Transfer-Encoding: chunked", b"Expect: 100-continue"), True),
    "without a body": (head(b"Expect: 100-continue"), False),
    "something else": (head(b"Content-Length: 1", b"Expect: 200-ok"), False),
    "in HTTP/1.0": (head(b"Expect: 100-continue", line=b"GET / HTTP/1.0\r\n"), False),
}


@pytest.mark.parametrize(("data", "expects"), EXPECTS.values(), ids=EXPECTS)
def test_what_is_expected(data: bytes, *, expects: bool) -> None:
    """`100-continue` is one in HTTP/1.1 alone, before a body (RFC 9110 section 10.1.1)."""
    assert found(data).expects_continue == expects


SIZED = b"Content-Length: 3"
PLAIN = {
    "a form": (head(SIZED, b"Content-Type: application/x-www-form-urlencoded"), True),
    "no body": (head(b"Content-Length: 0"), True),
    "keep-alive": (head(SIZED, b"Connection: keep-alive"), True),
    "Keep-Alive in capitals": (head(SIZED, b"CONNECTION:Keep-Alive \t"), True),
    "any other field": (head(SIZED, b"Expected: a", b"Connections: close"), True),
    "another method": (head(SIZED, line=b"PUT / HTTP/1.1\r\n"), False),
    "HTTP/1.0": (head(SIZED, line=b"POST / HTTP/1.0\r\n"), False),
    "chunks": (head(b"Transfer-Encoding: chunked"), False),
    "no length": (head(), False),
    "an expectation": (head(SIZED, b"Expect: 100-continue"), False),
    "an upgrade": (head(SIZED, b"Upgrade: h2c"), False),
    "the last of its connection": (head(SIZED, b"Connection: close"), False),
    "more than keep-alive": (head(SIZED, b"Connection: keep-alive, X-Own"), False),
}


@pytest.mark.parametrize(("data", "is_plain"), PLAIN.values(), ids=PLAIN)
def test_what_is_plain(data: bytes, *, is_plain: bool) -> None:
    """A POST with a length is plain unless it asks for more than a response."""
    assert found(data).is_plain == is_plain
