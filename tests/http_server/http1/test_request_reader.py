"""The reader of requests: where each ends, however it comes, and what belongs to none."""

from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.http_server.http1.chunked_body import MAX_CHUNKS, MAX_OVERHEAD
from sidecar.http_server.http1.refusal import RefusedError
from sidecar.http_server.http1.request_reader import RequestReader
from tests.fuzz import targets
from tests.properties import many

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"


def read_all(parts: Iterable[bytes]) -> tuple[list[bytes], bytes]:
    """Return the bodies of the requests that come in `parts`, and what is left of them."""
    reader = RequestReader()
    bodies: list[bytes] = []
    body = b""
    for part in parts:
        reader.receive(part)
        while reader.head is not None or reader.read_head():
            body += reader.read_body()
            if not reader.is_complete:
                break
            bodies.append(body)
            body = b""
            reader.finish()
    return bodies, reader.rest


BODIES = {
    "no body": (HEAD + b"\r\n", b""),
    "a length": (HEAD + b"Content-Length: 3\r\n\r\na=b", b"a=b"),
    "one chunk": (CHUNKED + b"3\r\na=b\r\n0\r\n\r\n", b"a=b"),
    "no chunk": (CHUNKED + b"0\r\n\r\n", b""),
    "two chunks": (CHUNKED + b"1\r\na\r\n2\r\n=b\r\n0\r\n\r\n", b"a=b"),
    "sizes of any form": (
        CHUNKED + b"0a\r\n0123456789\r\nA\r\n0123456789\r\n00\r\n\r\n",
        b"0123456789" * 2,
    ),
    "extensions": (CHUNKED + b'3;a;b=c;d="e f"\r\na=b\r\n0;x\r\n\r\n', b"a=b"),
    "ends of lines in a chunk": (CHUNKED + b"8\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n" * 4),
    "a last chunk in a chunk": (CHUNKED + b"7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n", b"\r\n0\r\n\r\n"),
    "trailers": (CHUNKED + b"3\r\na=b\r\n0\r\nX-A: b\r\nX-C:\r\n\r\n", b"a=b"),
    "HTTP/2 is offered, with a length": (
        HEAD + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"
        b"Content-Length: 3\r\n\r\na=b",
        b"a=b",
    ),
    "HTTP/2 is offered, in chunks": (
        HEAD + b"Connection: Upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3\r\na=b\r\n0\r\n\r\n",
        b"a=b",
    ),
    "HTTP/2 is offered, without a body": (
        HEAD + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("data", "body"), BODIES.values(), ids=BODIES)
def test_a_body_ends_where_it_ends(data: bytes, body: bytes) -> None:
    """A request has its body, and the one behind it is the next, however both are divided."""
    both = data + NEXT
    for size in range(1, len(both) + 1):
        parts = [both[start : start + size] for start in range(0, len(both), size)]
        assert read_all(parts) == ([body, b""], b"")


def test_trailers_are_no_fields() -> None:
    """A field behind the body, after all checks, is dropped (RFC 9110 section 6.5.1)."""
    reader = RequestReader()
    trailers = b"X-Forwarded-For: 192.0.2.1\r\nAuthorization: Basic eDp5\r\nHost: b\r\n"
    reader.receive(CHUNKED + b"0\r\n" + trailers + b"\r\n" + NEXT)
    head = reader.read_head()
    assert head is not None
    reader.read_body()
    assert (reader.is_complete, reader.rest) == (True, NEXT)
    assert [name for name, _ in head.fields] == [b"host", b"transfer-encoding"]


BAD_TRAILERS = [b"Content-Length: 3", b"Transfer-Encoding: chunked"]


@pytest.mark.parametrize("trailer", BAD_TRAILERS)
def test_no_trailer_says_where_the_body_ends(trailer: bytes) -> None:
    """A trailer that would frame the body once more is refused (RFC 9110 section 6.5.1)."""
    with pytest.raises(RefusedError, match="RFC 9112"):
        read_all([CHUNKED + b"0\r\n" + trailer + b"\r\n\r\n"])


def test_two_thousand_requests_in_one_read() -> None:
    """Each is read by itself, in its order; none is begun before the one before it has ended."""
    reader = RequestReader()
    reader.receive(b"".join(HEAD + b"Content-Length: 4\r\n\r\n%04d" % n for n in range(2000)))
    for number in range(2000):
        assert reader.read_head() is not None
        assert reader.read_body() == b"%04d" % number
        assert reader.is_complete
        reader.finish()
    assert (reader.rest, reader.has_part) == (b"", False)


def test_a_head_behind_chunks_is_checked() -> None:
    """The head of a request that comes with the end of a chunked one is read as strictly."""
    with pytest.raises(RefusedError, match="one Host field"):
        read_all([CHUNKED + b"0\r\n\r\n" + b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"])


BAD_PARTS = {
    "a bare CR": HEAD + b"A: b\rc",
    "two CR": HEAD + b"A: b\r\r",
    "a bare LF": HEAD + b"A: b\nC",
    "a folded line": HEAD + b"A: b\r\n ",
    "no request line": b"canary\r\n",
}


@pytest.mark.parametrize("data", BAD_PARTS.values(), ids=BAD_PARTS)
def test_a_bad_part_is_refused_at_its_last_byte(data: bytes) -> None:
    """What no head may begin with is refused as soon as it is here, wherever it is divided."""
    for start in range(1, len(data)):
        with pytest.raises(RefusedError):
            read_all([data[:start], *(bytes((byte,)) for byte in data[start:])])


LONG_PARTS = {
    "a line": (b"", 8 * 1024, 414),
    "a field": (HEAD + b"A: ", 16 * 1024, 431),
}


@pytest.mark.parametrize(("start", "most", "status"), LONG_PARTS.values(), ids=LONG_PARTS)
def test_a_limit_is_kept_in_parts(start: bytes, most: int, status: int) -> None:
    """A line or a field that goes on in small parts is refused at its limit."""
    size = most - len(start)
    assert read_all([start, *[b"a" * 16] * (size // 16)]) == ([], start + b"a" * (size // 16 * 16))
    with pytest.raises(RefusedError) as caught:
        read_all([start, *[b"a" * 16] * (size // 16 + 1)])
    assert caught.value.status == status


OVERHEADS = {
    "an extension": b"1;" + b"a" * MAX_OVERHEAD,
    "a size": b"0" * MAX_OVERHEAD + b"1\r\n",
    "trailers": b"0\r\n" + b"A: a\r\n" * (MAX_OVERHEAD // 6 + 1),
    "extensions of many chunks": (b"1;" + b"a" * 1000 + b"\r\na\r\n") * 17,
}


@pytest.mark.parametrize("data", OVERHEADS.values(), ids=OVERHEADS)
def test_what_is_no_content_has_a_limit(data: bytes) -> None:
    """Sizes, extensions and trailers are refused beyond 16 KiB, at once or byte by byte."""
    for parts in ([CHUNKED + data], [CHUNKED, *(bytes((byte,)) for byte in data)]):
        with pytest.raises(RefusedError, match="RFC 9112"):
            read_all(parts)


def test_the_limit_of_chunks() -> None:
    """The last, empty chunk does not count."""
    chunks = CHUNKED + b"1\r\na\r\n" * MAX_CHUNKS
    assert read_all([chunks + b"0\r\n\r\n"]) == ([b"a" * MAX_CHUNKS], b"")
    with pytest.raises(RefusedError, match="1024 chunks"):
        read_all([chunks + b"1\r\na\r\n"])


def test_a_response_to_head_has_no_body() -> None:
    """The method is known from the first line on, and from the head (RFC 9110 section 9.3.2)."""
    reader = RequestReader()
    found = []
    for part in (b"HEA", b"D / HTTP/1.1\r\n", b"Host: a\r\n\r\n"):
        reader.receive(part)
        found.append((reader.is_head_method, reader.read_head() is not None))
    assert found == [(False, False), (True, False), (True, True)]
    assert reader.is_head_method
    reader.finish()
    assert not reader.is_head_method


pieces = st.sampled_from(
    [
        *(CHUNKED, NEXT, HEAD + b"Content-Length: 4\r\n\r\n", b"0\r\n\r\n", b"\r\n", b"0\r\n"),
        *(b"1\r\n", b"a", b"4\r\n\r\n\r\n\r\n", b"A: b\r\n", b"\n", b"\r", b"2;x\r\nab\r\n"),
        *(b"0", b"\x00"),
    ]
)  # fmt: skip


@many
@given(st.lists(pieces, max_size=12).map(b"".join))
@example(CHUNKED + b"0\r\n\r\n" + NEXT)
def test_h11_finds_the_same_requests(data: bytes) -> None:
    """What is read as requests is that to h11, and it is the same in whatever parts it comes."""
    targets.connection(data)
