"""Receiving: raw paths, bodies with and without a length, and their limit."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from google.api.http_pb2 import HttpRule
from google.protobuf.message import Message
from starlette.applications import Starlette
from starlette.routing import Mount

from tests.transcoding.asgi import Exchange, Wire, in_chunks, with_body
from tests.transcoding.library import method, service
from tests.transcoding.serving import FORM, Context, Receipt, Serve, refuse, told

LOST: Mapping[str, tuple[str, dict[str, object], int]] = {
    "absent": ("/v1/shelves", {}, 200),
    "none": ("/v1/shelves", {"raw_path": None}, 200),
    "empty": ("/v1/shelves", {"raw_path": b""}, 200),
    "percent sign that was one before decoding": ("/v1/shel%76es", {}, 404),
    "a verb": ("/v1/shelves:shut", {}, 200),
    "what a path may have as it is": ("/v1/odd/!$&'()*+,;=:@~-._", {}, 200),
}
BELOW: Mapping[str, tuple[str, str, int]] = {
    "a root": ("/api", "/api/v1/shelves", 200),
    "a root of two segments": ("/api/a b", "/%61pi/a%20b/v1/shelves", 200),
    "a path that is not below it": ("/api", "/v1/shelves", 200),
    "a path that only begins alike": ("/api", "/apiv1/v1/shelves", 404),
    "the root itself": ("/v1/shelves", "/v1/shelves", 200),
    "a slash that is no separator": ("/api", "/api%2Fv1/shelves", 404),
}


@pytest.mark.parametrize(("path", "raw_path", "status"), LOST.values(), ids=LOST)
async def test_server_that_lost_the_raw_path(
    serve: Serve, path: str, raw_path: dict[str, object], status: int
) -> None:
    """ASGI leaves the raw path optional: without it the decoded one is taken."""
    wire = Wire(Exchange(path=path))
    del wire.scope["raw_path"]
    wire.scope |= raw_path
    await wire.serve(await serve())
    assert wire.answer.status == status


@pytest.mark.parametrize("name", BELOW)
async def test_application_in_another_one(serve: Serve, name: str) -> None:
    """The path of an application around this one (ASGI: root_path) is not part of the path."""
    root, path, status = BELOW[name]
    wire = Wire(Exchange(path=path))
    wire.scope["root_path"] = root
    await wire.serve(await serve())
    assert wire.answer.status == status


async def test_mounted_application(serve: Serve) -> None:
    """A transcoder may be mounted in an application of Starlette."""
    app = Starlette(routes=[Mount("/api", app=await serve())])
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app)) as client:
        answers = [
            await client.post(f"http://library.test{path}", data={"name": "a"})
            for path in ("/api/v1/shelves", "/api/v1/%73helves", "/v1/shelves", "/api/api/v1")
        ]
    assert [answer.status_code for answer in answers] == [200, 200, 404, 404]


# The limit of the body


async def test_body_at_the_limit(serve: Serve) -> None:
    """A body as large as the limit is read, by length and in chunks."""
    app = await serve(max_body_bytes=10)
    for exchange in (
        with_body(b"name=12345", FORM),
        in_chunks(b"name=", b"12345", content_type=FORM),
    ):
        assert json.loads((await exchange.run(app)).body)["name"] == "12345"


@pytest.mark.parametrize(("size", "status"), [(1024**2, 200), (1024**2 + 1, 413)])
async def test_default_limit(serve: Serve, size: int, status: int) -> None:
    """Without another limit a MiB is read."""
    exchange = with_body(b"name=" + b"x" * (size - 5), FORM)
    assert (await exchange.run(await serve())).status == status


@pytest.mark.parametrize(
    ("exchange", "unread"),
    [(with_body(b"x" * 11, FORM), 1), (in_chunks(*[b"xxxx"] * 1000, content_type=FORM), 997)],
    ids=["by length", "in chunks"],
)
async def test_too_large_a_body_is_not_read(serve: Serve, exchange: Exchange, unread: int) -> None:
    """A length over the limit is refused at once, and chunks where they pass it."""
    wire = Wire(exchange)
    await wire.serve(await serve(refuse, max_body_bytes=10))
    assert (wire.answer.status, wire.unread) == (413, unread)


async def test_huge_length(serve: Serve) -> None:
    """A length of many digits is a length over the limit."""
    headers = [("Content-Type", FORM), ("Content-Length", "9" * 20)]
    assert (await Exchange(headers=headers).run(await serve(refuse))).status == 413


@pytest.mark.parametrize("length", ["abc", "-5", "+5", "1_0", "1, 1", "", " 5", "9" * 21, "\u0665"])
async def test_length_that_is_none(serve: Serve, length: str) -> None:
    """A length is digits; what a server has let through otherwise is refused."""
    answer = await Exchange(headers=[("Content-Length", length)]).run(await serve(refuse))
    told = "Content-Length must be given once, as digits."
    assert (answer.status, json.loads(answer.body)["faults"]) == (400, [[told, None]])


async def test_two_lengths(serve: Serve) -> None:
    """Two lengths are a fault, even equal ones."""
    headers = [("Content-Length", "0"), ("Content-Length", "0")]
    assert (await Exchange(headers=headers).run(await serve(refuse))).status == 400


# Versions of HTTP

FILES = service(
    method("Put", HttpRule(put="/v1/files/{name=**}", body="content"), takes="Document"),
    method("Read", HttpRule(get="/v1/files/{name=**}")),
)


async def tell_content(request: Any, _context: Context) -> Message:
    """Tell what of a document has arrived."""
    content = request.content
    return Receipt(
        name=request.name,
        lent=request.HasField("content"),
        tags=[content.content_type],
        cover=content.data,
    )


NO_LENGTH: Mapping[str, tuple[Exchange, int]] = {
    "a body": (Exchange(headers=[("Content-Type", FORM)], chunks=(b"name=", b"a")), 200),
    "a body of no media type": (Exchange(chunks=(b"name=a",)), 415),
    "none": (Exchange(chunks=(b"",)), 200),
    "none, of any media type": (Exchange(headers=[("Content-Type", "text/plain")]), 200),
    "one over the limit": (Exchange(headers=[("Content-Type", FORM)], chunks=(b"x" * 101,)), 413),
}


@pytest.mark.parametrize("content_type", [[], [("Content-Type", "text/plain")]], ids=str)
async def test_chunks_of_nothing(serve: Serve, content_type: list[tuple[str, str]]) -> None:
    """A body of no length is none, however that is told: it needs no media type."""
    headers = [*content_type, ("Transfer-Encoding", "chunked")]
    answer = await Exchange(headers=headers, chunks=(b"", b"")).run(await serve())
    assert (answer.status, json.loads(answer.body)) == (200, told())


async def test_media_type_of_chunks(serve: Serve) -> None:
    """A body of another type is refused with its first chunk, and no other is read."""
    headers = [("Content-Type", "text/plain"), ("Transfer-Encoding", "chunked")]
    wire = Wire(Exchange(headers=headers, chunks=(b"", b"x", b"x" * 1000, b"x")))
    await wire.serve(await serve(refuse, max_body_bytes=10))
    assert (wire.answer.status, wire.unread) == (415, 2)


@pytest.mark.parametrize("name", NO_LENGTH)
async def test_body_that_nothing_announces(serve: Serve, name: str) -> None:
    """In HTTP/2 a body needs neither a length nor a coding to be there."""
    exchange, status = NO_LENGTH[name]
    wire = Wire(exchange)
    wire.scope["http_version"] = "2"
    await wire.serve(await serve(max_body_bytes=100))
    assert wire.answer.status == status
    # RFC 9113 section 8.2.2: there is no such field.
    assert "connection" not in wire.answer.headers
    if exchange.chunks == (b"name=", b"a"):
        assert json.loads(wire.answer.body) == told(name="a")


@pytest.mark.parametrize(
    ("exchange", "content_type", "cover"),
    [
        (with_body(b"\0\xff", "image/png; q=1"), "image/png; q=1", "AP8="),
        (
            with_body(b"{", "application/json; charset=utf-16"),
            "application/json; charset=utf-16",
            "ew==",
        ),
        (with_body(b"", "text/plain"), "text/plain", ""),
        (Exchange(), "", ""),
    ],
    ids=["content", "what is no JSON", "no content", "no body"],
)
async def test_body_of_any_type(
    serve: Serve, exchange: Exchange, content_type: str, cover: str
) -> None:
    """An HttpBody takes content as it is, with its media type, also where there is none."""
    app = await serve(tell_content, library=FILES)
    answer = await replace(exchange, method="PUT", path="/v1/files/a/b%2Fc").run(app)
    expected = told(name="a/b%2Fc", copies="0", lent=True, tags=[content_type], cover=cover)
    assert (answer.status, json.loads(answer.body)) == (200, expected)


@pytest.mark.parametrize(
    ("exchange", "status"),
    [
        (Exchange(), 200),
        (with_body(b"", "text/plain"), 200),
        (in_chunks(b""), 200),
        (with_body(b"{}"), 400),
        (with_body(b"x", "text/plain"), 400),
        (in_chunks(b"", b" "), 400),
    ],
)
async def test_rule_without_a_body(serve: Serve, exchange: Exchange, status: int) -> None:
    """Where the rule has no body the request has none, and one that has is refused."""
    app = await serve(tell_name, library=FILES)
    answer = await replace(exchange, method="GET", path="/v1/files/a").run(app)
    assert answer.status == status
    if status == 400:
        assert json.loads(answer.body) == {"error": "MalformedRequestError", "faults": []}


async def tell_name(request: Any, _context: Context) -> Message:
    """Tell the name."""
    return Receipt(name=request.name)
