"""The parser of responses: what it accepts, where a response ends, and what it refuses."""

from collections.abc import Iterable, Mapping
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.auth_api.transport.errors import TransportError
from sidecar.auth_api.transport.response_parser import (
    MAX_BODY,
    MAX_FIELDS,
    MAX_HEAD,
    MAX_INTERIM,
    ResponseParser,
)
from tests.properties import many

OK = b"HTTP/1.1 200 OK\r\n"
GOOD = OK + b"Content-Length: 2\r\n\r\nab"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n1;x=y\r\nb\r\n0\r\n\r\n"
TRAILERS = CHUNKED[:-2] + b"X-Trailer: 99\r\n\r\n"
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"


def parsed(data: Iterable[bytes]) -> ResponseParser:
    """Return a parser that was fed with `data`."""
    parser = ResponseParser()
    for part in data:
        parser.feed(part)
    return parser


# The bytes, and whether their connection may be used again.
WHOLE: Mapping[str, tuple[bytes, bool]] = {
    "by length": (GOOD, True),
    "by chunks": (CHUNKED, True),
    "trailers": (TRAILERS, True),
    "after interim responses": (INTERIM * MAX_INTERIM + GOOD, True),
    "the options of the connection": (
        GOOD.replace(b"\r\n\r\n", b"\r\nConnection: keep-alive, x\r\n\r\n"),
        True,
    ),
    "closed after it": (GOOD.replace(b"\r\n\r\n", b"\r\nConnection: x, Close\r\n\r\n"), False),
    "closed, by a second field": (
        GOOD.replace(b"\r\n\r\n", b"\r\nConnection: x\r\nconnection: close\r\n\r\n"),
        False,
    ),
    "HTTP/1.0": (GOOD.replace(b"1.1", b"1.0"), False),
    "HTTP/1.0 that keeps": (
        GOOD.replace(b"1.1", b"1.0").replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n"),
        False,
    ),
}


@pytest.mark.parametrize(("data", "can_reuse"), WHOLE.values(), ids=WHOLE)
def test_whole(data: bytes, can_reuse: bool) -> None:
    """A response is the same however its bytes are cut, and complete with its last one."""
    for cuts in ([data], [data[:-1], data[-1:]], [data[i : i + 1] for i in range(len(data))]):
        parser = parsed(cuts[:-1])
        before = parser.is_complete
        parser.feed(cuts[-1])
        assert (before, parser.is_complete) == (False, True)
        assert (parser.status, bytes(parser.body)) == (200, b"ab")
        assert parser.can_reuse == can_reuse
        assert (b"x-trailer", b"99") not in parser.fields


@given(st.data())
@many
def test_any_cuts(data: st.DataObject) -> None:
    """Wherever the bytes are cut, the response is the same."""
    whole, can_reuse = data.draw(st.sampled_from(list(WHOLE.values())))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(whole) - 1), max_size=5)))
    parts = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    parser = parsed(parts)
    assert (parser.is_complete, parser.can_reuse) == (True, can_reuse)
    assert bytes(parser.body) == b"ab"


LEFT_OVER = {
    "an empty line": b"\r\n",
    "a line feed": b"\n",
    "a byte": b"x",
    "NUL": b"\0",
    "a whole response": GOOD,
    "half a response": GOOD[:20],
    "an interim response": INTERIM,
    "too large a head": OK + b"A: " + b"a" * MAX_HEAD,
}


@pytest.mark.parametrize("more", LEFT_OVER.values(), ids=LEFT_OVER)
@pytest.mark.parametrize("data", [GOOD, CHUNKED], ids=["by length", "by chunks"])
def test_left_over(data: bytes, more: bytes) -> None:
    """Whatever follows in the same read, the response counts and its connection does not."""
    for parts in ([data + more], [data[:-1], data[-1:] + more]):
        parser = parsed(parts)
        assert (parser.is_complete, parser.can_reuse) == (True, False)
        assert (parser.status, bytes(parser.body)) == (200, b"ab")


REFUSAL = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 3\r\n\r\nnay"


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [(GOOD, REFUSAL, (200, b"ab")), (REFUSAL, GOOD, (401, b"nay"))],
    ids=["a refusal after a token", "a token after a refusal"],
)
def test_a_second_response(first: bytes, second: bytes, told: tuple[int, bytes]) -> None:
    """A second response in the same read changes neither the status nor the body of the first."""
    parser = parsed([first + second])
    assert (parser.status, bytes(parser.body)) == told
    assert (parser.is_complete, parser.can_reuse) == (True, False)


@pytest.mark.parametrize("status", [204, 304])
def test_no_body(status: int) -> None:
    """A response that has no body ends with its head; a length says that something follows."""
    head = b"HTTP/1.1 %d X\r\n" % status
    assert parsed([head + b"\r\n"]).can_reuse
    parser = parsed([head + b"Content-Length: 2\r\n\r\n"])
    assert (parser.is_complete, parser.can_reuse) == (True, False)


UNTIL_THE_END = OK + b"\r\nab"


def test_until_the_end() -> None:
    """A response without a length ends with its connection."""
    parser = parsed([UNTIL_THE_END])
    assert not parser.is_complete
    parser.feed_eof()
    assert (parser.is_complete, parser.can_reuse, bytes(parser.body)) == (True, False, b"ab")


@pytest.mark.parametrize("data", [b"", OK, GOOD[:-1], CHUNKED[:-1], INTERIM])
def test_cut_off(data: bytes) -> None:
    """An end before the whole response is a closed connection."""
    parser = parsed([data] if data else [])
    with pytest.raises(TransportError) as raised:
        parser.feed_eof()
    assert raised.value.name == "closed"
    assert parser.has_begun == bool(data)


BROKEN: Mapping[str, bytes] = {
    "no HTTP": b"SSH-2.0-x\r\n",
    "an empty line first": b"\r\n" + GOOD,
    "another protocol": b"ICY 200 OK\r\n\r\n",
    "HTTP/0.9": GOOD.replace(b"1.1", b"0.9"),
    "HTTP/2": GOOD.replace(b"1.1", b"2.0"),
    "a status of letters": GOOD.replace(b"200", b"2OO"),
    "a status of zeros": GOOD.replace(b"200", b"000"),
    "a status below 100": GOOD.replace(b"200", b"099"),
    "a bare line feed": GOOD.replace(b"OK\r\n", b"OK\n"),
    "a folded field": GOOD.replace(b"\r\n\r\n", b"\r\nA: b\r\n c\r\n\r\n"),
    "NUL": GOOD.replace(b"OK\r\n", b"OK\r\nA: \0\r\n"),
    "a space before the colon": GOOD.replace(b"Length:", b"Length :"),
    "a length with a sign": GOOD.replace(b": 2", b": +2"),
    "a length of many digits": GOOD.replace(b": 2", b": " + b"9" * 30),
    "two lengths": GOOD.replace(b"\r\n\r\n", b"\r\nContent-Length: 2\r\n\r\n"),
    "a length and chunks": CHUNKED.replace(b"OK\r\n", b"OK\r\nContent-Length: 2\r\n"),
    "another coding": CHUNKED.replace(b"chunked", b"gzip"),
    "two codings": CHUNKED.replace(b"chunked", b"gzip, chunked"),
    "chunks twice": CHUNKED.replace(b"chunked", b"chunked, chunked"),
    "no chunk size": CHUNKED.replace(b"1\r\na", b"z\r\na"),
    "a chunk that ends early": CHUNKED.replace(b"1\r\na", b"2\r\na"),
    "a line feed after a chunk size": CHUNKED.replace(b"1\r\na", b"1\na"),
    "an upgrade": b"HTTP/1.1 101 X\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n" + GOOD,
    "a plain 101": b"HTTP/1.1 101 X\r\n\r\n" + GOOD,
    "a flood of interim responses": INTERIM * (MAX_INTERIM + 1) + GOOD,
    "too many fields": OK + b"A: b\r\n" * (MAX_FIELDS + 2),
    "too large a field": OK + b"A: " + b"b" * MAX_HEAD,
    "too large an interim response": INTERIM[:-2] + b"A: " + b"b" * MAX_HEAD,
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_broken(data: bytes) -> None:
    """A response that parsers could read differently, or without end, is refused."""
    for size in (len(data), 1000):
        with pytest.raises(TransportError) as raised:
            parsed(data[i : i + size] for i in range(0, len(data), size))
        assert raised.value.name == "bad_http"


CHUNKS = b"Transfer-Encoding: chunked\r\n\r\n"
BODY = f"a body of more than {MAX_BODY} bytes"
FRAMING = f"a head, chunk headers and trailers of more than {MAX_HEAD} bytes"
# What follows the status line, and what is too large of it.
LARGE: Mapping[str, tuple[bytes, str]] = {
    "by length": (b"Content-Length: 999999\r\n\r\n" + b"x" * (MAX_BODY + 1), BODY),
    "by chunks": (CHUNKS + b"fffff\r\n" + b"x" * (MAX_BODY + 1), BODY),
    "small chunks": (CHUNKS + b"1\r\nx\r\n" * (MAX_HEAD // 2), FRAMING),
    "a chunk extension": (CHUNKS + b"1;" + b"x" * MAX_HEAD, FRAMING),
    "until the end": (b"\r\n" + b"x" * (MAX_BODY + 1), BODY),
    "trailers": (CHUNKS + b"0\r\nA: " + b"x" * MAX_HEAD, FRAMING),
}


@pytest.mark.parametrize(("data", "detail"), LARGE.values(), ids=LARGE)
def test_too_large(data: bytes, detail: str) -> None:
    """A token with too much of anything is refused; of an error the status and the head count."""
    for size in (len(data), 4000):
        parts = [data[i : i + size] for i in range(0, len(data), size)]
        with pytest.raises(TransportError) as raised:
            parsed([OK, *parts])
        assert (raised.value.name, raised.value.detail) == ("too_large", detail)
        parser = ResponseParser()
        for part in (OK.replace(b"200", b"503"), *parts):
            if not parser.is_complete:
                parser.feed(part)
        assert (parser.status, parser.is_complete, parser.can_reuse) == (503, True, False)
        assert parser.body == b""


def test_the_largest_body() -> None:
    """A body of the largest size is read, and its connection kept."""
    parser = parsed([OK + b"Content-Length: %d\r\n\r\n" % MAX_BODY + b"x" * MAX_BODY])
    assert (parser.is_complete, parser.can_reuse) == (True, True)
    assert len(parser.body) == MAX_BODY


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=20))
@many
def test_any_bytes(parts: list[bytes]) -> None:
    """Whatever comes, no error but TransportError leaves the parser."""
    parser = ResponseParser()
    with suppress(TransportError):
        for part in [b"HTTP/1.1 2", *parts]:
            if not parser.is_complete:
                parser.feed(part)
        parser.feed_eof()
