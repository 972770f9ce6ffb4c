"""The writer of responses: the head, where the content ends, and what is no response."""

import re
from typing import Any

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.http_server.http1.response_writer import ResponseWriter
from tests.properties import many

Fields = list[tuple[bytes, bytes]]


def write(
    *parts: bytes,
    status: int = 200,
    fields: Fields | None = None,
    version: str = "1.1",
    is_head: bool = False,
    closes: bool = False,
) -> tuple[bytes, ResponseWriter]:
    """Return the bytes of a response with `parts` of content, without its date, and its writer."""
    response = ResponseWriter(version, is_head=is_head)
    response.start(status, fields or [], closes=closes)
    last = len(parts) - 1
    data = b"".join(response.write(part, is_last=n == last) for n, part in enumerate(parts))
    return re.sub(rb"date: [^\r]+ GMT\r\n", b"", data, count=1), response


LENGTH: Fields = [(b"content-length", b"3")]
OK = b"HTTP/1.1 200 OK\r\n"
RESPONSES = {
    "a length": (write(b"abc", fields=LENGTH), OK + b"content-length: 3\r\n\r\nabc", False),
    "a length, in parts": (
        write(b"a", b"bc", b"", fields=LENGTH),
        OK + b"content-length: 3\r\n\r\nabc",
        False,
    ),
    "chunks": (
        write(b"a", b"", b"0123456789", b""),
        OK + b"transfer-encoding: chunked\r\n\r\n1\r\na\r\na\r\n0123456789\r\n0\r\n\r\n",
        False,
    ),
    "a chunk that is the last part": (
        write(b"a"),
        OK + b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        False,
    ),
    "HTTP/1.0": (write(b"a", b"b", version="1.0"), OK + b"Connection: close\r\n\r\nab", True),
    "HTTP/1.0 with a length": (
        write(b"abc", fields=LENGTH, version="1.0"),
        OK + b"content-length: 3\r\n\r\nabc",
        False,
    ),
    "HEAD": (write(b"", fields=LENGTH, is_head=True), OK + b"content-length: 3\r\n\r\n", False),
    "HEAD with content": (write(b"abc", is_head=True), OK + b"\r\n", False),
    "204": (write(b"", status=204), b"HTTP/1.1 204 No Content\r\n\r\n", False),
    "204 with a length": (
        write(b"", status=204, fields=LENGTH), b"HTTP/1.1 204 No Content\r\n\r\n", False
    ),
    "205": (
        write(b"", status=205), b"HTTP/1.1 205 Reset Content\r\ncontent-length: 0\r\n\r\n", False
    ),
    "304": (
        write(b"", status=304, fields=[(b"etag", b'"a"')]),
        b'HTTP/1.1 304 Not Modified\r\netag: "a"\r\n\r\n',
        False,
    ),
    "an unknown status": (write(b"", status=299, fields=[(b"content-length", b"0")]),
        b"HTTP/1.1 299 \r\ncontent-length: 0\r\n\r\n", False),
    "the last one": (
        write(b"abc", fields=LENGTH, closes=True),
        OK + b"content-length: 3\r\nConnection: close\r\n\r\nabc",
        True,
    ),
    "the last one, to the application": (
        write(b"abc", fields=[(b"Connection", b"Close"), *LENGTH]),
        OK + b"content-length: 3\r\nConnection: close\r\n\r\nabc",
        True,
    ),
    "the last one, among other options": (
        write(b"abc", fields=[(b"Connection", b"x-a, Close"), *LENGTH]),
        OK + b"content-length: 3\r\nConnection: close\r\n\r\nabc",
        True,
    ),
    "a coding of the application": (
        write(b"abc", fields=[(b"Transfer-Encoding", b"gzip"), *LENGTH]),
        OK + b"content-length: 3\r\n\r\nabc",
        False,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("written", "data", "closes"), RESPONSES.values(), ids=RESPONSES)
def test_what_is_written(
    written: tuple[bytes, ResponseWriter], data: bytes, *, closes: bool
) -> None:
    """The content ends by its length, by a last chunk or with the connection (RFC 9112 6.3)."""
    assert (written[0], written[1].closes) == (data, closes)


def test_what_ends_by_the_end_of_the_connection() -> None:
    """Only a response of HTTP/1.0 without a length does."""
    assert write(b"", version="1.0")[1].ends_by_close
    assert not write(b"abc", version="1.0", fields=LENGTH)[1].ends_by_close
    assert not write(b"")[1].ends_by_close


def test_the_head_comes_with_the_first_part() -> None:
    """Nothing is written before there is content, or its end: both are one write."""
    response = ResponseWriter("1.1", is_head=False)
    response.start(200, LENGTH, closes=False)
    assert response.write(b"a", is_last=False).endswith(b"\r\n\r\na")
    assert response.write(b"bc", is_last=True) == b"bc"


def test_every_response_has_a_date() -> None:
    """The date is that of now (RFC 9110 section 6.6.1)."""
    response = ResponseWriter("1.1", is_head=False)
    response.start(200, [], closes=False)
    date = rb"\r\ndate: [A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT\r\n"
    assert re.search(date, response.write(b"", is_last=True))


def test_a_date_of_the_application_is_the_only_one() -> None:
    """A field that has one value is not written twice (RFC 9110 section 5.3)."""
    response = ResponseWriter("1.1", is_head=False)
    response.start(200, [(b"Date", b"Thu, 01 Jan 1970 00:00:00 GMT")], closes=False)
    assert response.write(b"", is_last=True).lower().count(b"date: ") == 1


@pytest.mark.parametrize("status", [0, 100, 101, 103, 199, 600, 1000, "200 OK\r\nX: y"])
def test_no_final_status(status: Any) -> None:
    """What is no status of a final response is not written."""
    with pytest.raises(ValueError, match="the status of a response must be from 200 to 599"):
        write(b"", status=status)


def test_a_reset_has_no_content() -> None:
    """A 205 with content is no response (RFC 9110 section 15.3.6)."""
    with pytest.raises(ValueError, match="as long as Content-Length says"):
        write(b"abc", status=205, fields=LENGTH)


@pytest.mark.parametrize("parts", [(b"ab",), (b"abcd",), (b"a", b"bcd"), (b"abc", b"d", b"")])
def test_content_of_another_length_is_no_response(parts: tuple[bytes, ...]) -> None:
    """Content that is shorter or longer than its length would be read as something else."""
    with pytest.raises(ValueError, match="as long as Content-Length says"):
        write(*parts, fields=LENGTH)


@pytest.mark.parametrize("bad", [b"a\r\nX-Forged: b", b"a\nb", b"a\rb", b"a\0b", b"\r\n"])
def test_no_field_brings_another(bad: bytes) -> None:
    """A name or value with a line end or NUL is no field (RFC 9110 section 5.5)."""
    for field in ((b"x-a", bad), (b"x" + bad, b"a")):
        with pytest.raises(ValueError, match="HTTP does not allow"):
            write(b"", fields=[field])


@pytest.mark.parametrize("name", [b"", b" x", b"x ", b"x y", b"x:y", b"x\ty", b"\xe9", b"(x)"])
def test_a_name_is_a_token(name: bytes) -> None:
    """A name that is no token is no field (RFC 9110 section 5.1)."""
    with pytest.raises(ValueError, match="HTTP does not allow"):
        write(b"", fields=[(name, b"a")])


@pytest.mark.parametrize(
    "values", [[b"+3"], [b"-3"], [b"1_0"], [b""], [b"3, 3"], [b"3", b"3"], [b"3", b"4"]]
)
def test_a_length_is_one_number(values: list[bytes]) -> None:
    """Two lengths, or what is no number, would be read differently (RFC 9112 section 6.3)."""
    with pytest.raises(ValueError, match="one number"):
        write(b"abc", fields=[(b"Content-Length", value) for value in values])


names = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1).map(str.encode)
values = st.text("abc ,;=/\"'()0189", max_size=30).map(lambda text: text.strip().encode())


@many
@given(
    fields=st.lists(st.tuples(names.map(lambda name: b"x-" + name), values), max_size=8),
    parts=st.lists(st.binary(max_size=40), min_size=1, max_size=5),
    sized=st.booleans(),
)
def test_h11_reads_the_same(fields: Fields, parts: list[bytes], *, sized: bool) -> None:
    """h11 finds the fields and the content of any response, and its end."""
    length = (b"content-length", b"%d" % len(b"".join(parts)))
    data, _ = write(*parts, fields=[*fields, length] if sized else fields)
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    begun = client.next_event()
    assert isinstance(begun, h11.Response)
    framing = length if sized else (b"transfer-encoding", b"chunked")
    assert list(begun.headers) == [*fields, framing]
    body = b""
    while isinstance(event := client.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert (body, client.trailing_data) == (b"".join(parts), (b"", False))
