"""Tests of requests as values: what they may hold, and how the transcoder gets them."""

import io
from pathlib import Path
from types import SimpleNamespace

import pytest

from sidecar.transcoding.explanation.http_request import HttpRequest, parse


def test_scope() -> None:
    """The scope is that of a server: names in lower case, the raw path, and the length."""
    request = HttpRequest(
        method="POST",
        target="/v1/a%20b?x=1?&y=%zz",
        headers=(("Content-Type", " text/plain\t"), ("X-Tag", "é")),
        body=b"abc",
    )
    scope = request.scope()
    assert (scope["method"], scope["path"], scope["raw_path"]) == (
        "POST",
        "/v1/a b",
        b"/v1/a%20b",
    )
    assert scope["query_string"] == b"x=1?&y=%zz"
    assert scope["headers"] == [
        (b"content-type", b"text/plain"),
        (b"x-tag", "é".encode()),
        (b"content-length", b"3"),
    ]


def test_no_body() -> None:
    """Without a body no length is announced."""
    assert HttpRequest(method="GET", target="/").scope()["headers"] == []


@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding"])
def test_the_length_is_announced_once(name: str) -> None:
    """A header that announces the body stays the only one that does."""
    request = HttpRequest(method="POST", target="/", headers=((name, "7"),), body=b"abc")
    assert request.scope()["headers"] == [(name.lower().encode(), b"7")]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"method": ""}, "the method must be"),
        ({"method": "PO ST"}, "the method must be"),
        ({"target": "canary"}, "the target must be"),
        ({"target": "https://host/canary"}, "the target must be"),
        ({"target": "/canary b"}, "the target must be"),
        ({"target": "/canary\n"}, "the target must be"),
        ({"target": "/é"}, "the target must be"),
        ({"headers": (("", "canary"),)}, "a header must have a name"),
        ({"headers": (("a b", "canary"),)}, "a header must have a name"),
        ({"headers": (("A", "canary\r\nB: c"),)}, "a header must have no line end"),
        ({"headers": (("A", "canary\0"),)}, "a header must have no line end"),
    ],
)
def test_what_no_request_holds(
    members: dict[str, str | tuple[tuple[str, str], ...]], message: str
) -> None:
    """A value that HTTP/1.1 cannot carry is an error, which does not quote it."""
    right = {"method": "GET", "target": "/"}
    with pytest.raises(ValueError, match=message) as raised:
        HttpRequest(**(right | members))  # type: ignore[arg-type]  # each has its type
    assert "canary" not in str(raised.value)


def test_parse(tmp_path: Path) -> None:
    """Headers are as curl has them, and the body is that of a file."""
    file = tmp_path / "body"
    file.write_bytes(b"a=b\n")
    request = parse("POST", "/v1", ["A: b:c", "D:"], str(file), max_body_bytes=9)
    assert request.headers == (("A", " b:c"), ("D", ""))
    assert request.body == b"a=b\n"
    assert parse("POST", "/v1", [], None, max_body_bytes=9).body == b""


def test_a_large_body_is_read_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an endless input only one byte beyond the limit is read."""
    endless = io.BytesIO(b"x" * 100)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=endless))
    assert len(parse("POST", "/", [], "-", max_body_bytes=9).body) == 10
    assert endless.tell() == 10


@pytest.mark.parametrize("header", ["canary", "canary;", "a b: canary"])
def test_a_header_without_a_name(header: str) -> None:
    """A header needs a name and a colon."""
    with pytest.raises(ValueError, match="must have a name and a colon"):
        parse("GET", "/", [header], None, max_body_bytes=9)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file is an error with its reason."""
    with pytest.raises(ValueError, match="cannot read the body: No such file"):
        parse("POST", "/", [], str(tmp_path / "none"), max_body_bytes=9)
