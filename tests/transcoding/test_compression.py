"""Compression by gzip: which client gets it, of which response, and with which header fields."""

import gzip
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from google.api.http_pb2 import HttpRule
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc import StatusCode
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import Response

from sidecar.transcoding import Options
from sidecar.transcoding.compression import chooses_gzip, compress
from tests.properties import any_text, many
from tests.transcoding.asgi import Answer, Exchange, Wire, with_body
from tests.transcoding.library import method, service
from tests.transcoding.serving import Behavior, Context, Receipt, Serve
from tests.transcoding.streams.scene import FRAMINGS, STREAMS, get, receipts

# By the Accept-Encoding fields of a client: whether a large response is compressed for it, and
# whether a small one is.
CLIENTS: Mapping[str | tuple[str, ...], tuple[bool, bool]] = {
    (): (False, False),
    "": (False, False),
    "gzip": (True, False),
    "GZip": (True, False),
    "x-gzip": (True, False),
    "gzip, deflate, br": (True, False),
    "br;q=1.0, gzip;q=0.8, *;q=0.1": (True, False),
    ("br", "gzip"): (True, False),
    "*": (True, False),
    "gzip;q=0.001": (True, False),
    " gzip ; q=1.000 ": (True, False),
    "gzip;Q=0.5": (True, False),
    "gzip;q=0": (False, False),
    "gzip;q=0.000": (False, False),
    "gzip;q=0, *": (False, False),
    "deflate, br": (False, False),
    "identity": (False, False),
    "*;q=0": (False, False),
    # The weight of identity
    "gzip;q=0.5, identity": (False, False),
    "gzip;q=0.5, identity;q=0.5": (True, False),
    "gzip;q=0.5, identity;q=0.4": (True, False),
    "gzip, identity;q=0": (True, True),
    "*, identity;q=0": (True, True),
    "gzip, *;q=0": (True, True),
    "gzip, *;q=0, identity;q=0.1": (True, False),
    "identity;q=0": (False, False),
    "br, identity;q=0": (False, False),
    # Malformed elements are none.
    "gzip;q=2": (False, False),
    "gzip;q=0.0001": (False, False),
    "gzip;level=1": (False, False),
    "gzip q=1": (False, False),
    "gzip;q=2, gzip;q=0.1": (True, False),
    ",, gzip,": (True, False),
}


@pytest.mark.parametrize("fields", CLIENTS, ids=repr)
def test_which_client(fields: str | tuple[str, ...]) -> None:
    """Only a client that accepts gzip gets it, and with a small response one that must."""
    sent = (fields,) if isinstance(fields, str) else fields
    found = (chooses_gzip(sent, is_small=False), chooses_gzip(sent, is_small=True))
    assert found == CLIENTS[fields]


# Accept-Encoding fields, and whether Envoy's filter `compressor` compresses a response of JSON:
# https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/http/http_filters/compressor_filter
ENVOY = {
    (): False,
    ("deflate",): False,
    ("gzip;q=0",): False,
    ("gzip;q=0,*;q=1",): False,
    ("*;q=0,gzip;q=1",): True,
    ("*",): True,
    ("gzip",): True,
}


@pytest.mark.parametrize("fields", ENVOY, ids=repr)
def test_as_envoy_documents_it(fields: tuple[str, ...]) -> None:
    """The clients that get gzip from Envoy, by its documentation, get it here."""
    assert chooses_gzip(fields, is_small=False) is ENVOY[fields]


@many
@given(st.lists(any_text | st.text("gzip;q=01.,* "), max_size=3))
def test_any_fields(fields: list[str]) -> None:
    """No Accept-Encoding fields raise an error, and small content needs more than large one."""
    assert chooses_gzip(fields, is_small=True) <= chooses_gzip(fields, is_small=False)


def compressed(length: int, **fields: str) -> Response:
    """Return a response of this length with such fields, for a client that accepts gzip."""
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    response = Response(b"a" * length, headers=headers)
    accept = [(b"accept-encoding", b"gzip")]
    compress(response, Request({"type": "http", "headers": accept}), 100)
    return response


@pytest.mark.parametrize(
    ("length", "coding"), [(99, None), (100, "gzip"), (101, "gzip"), (10**6, "gzip")]
)
def test_size(length: int, coding: str | None) -> None:
    """From the size in the option on a response is compressed; its length is that of the bytes."""
    response = compressed(length, cache_control="private")
    assert response.headers.get("content-encoding") == coding
    assert response.headers["content-length"] == str(len(response.body))
    content = bytes(response.body)
    assert (gzip.decompress(content) if coding else content) == b"a" * length
    assert response.headers.getlist("vary") == ["Accept-Encoding"]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"cache_control": "no-store"},
        {"cache_control": "No-Store"},
        {"cache_control": "private, max-age=0,no-store"},
        {"cache_control": "public, no-transform"},
        {"cache_control": "max-age=5", "etag": '"strong"'},
    ],
    ids=repr,
)
def test_which_response_is_not_compressed(fields: dict[str, str]) -> None:
    """What must not be stored or changed, or is not said to be storable, is never compressed."""
    response = compressed(1000, **fields)
    assert response.body == b"a" * 1000
    assert not {"content-encoding", "vary"} & {*response.headers}


def test_no_store_in_a_second_field() -> None:
    """Several Cache-Control fields are one list (RFC 9110 section 5.3)."""
    response = Response(b"a" * 1000, headers={"Cache-Control": "private"})
    response.headers.append("Cache-Control", "no-store")
    compress(response, Request({"type": "http", "headers": [(b"accept-encoding", b"gzip")]}), 1)
    assert "content-encoding" not in response.headers


def test_a_weak_entity_tag() -> None:
    """A weak tag is the same for each coding, and stays as it is."""
    response = compressed(1000, cache_control="no-cache", etag='W/"a"')
    assert (response.headers["content-encoding"], response.headers["etag"]) == ("gzip", 'W/"a"')


# Through the transcoder

NAMES = frozenset({"cache-control", "vary", "etag"})
STORABLE = (("cache-control", "private, max-age=60"), ("vary", "accept-language"))
DOWNLOADS = service(
    method("Download", HttpRule(get="/v1/files"), gives="google.api.HttpBody"),
)
Content = GetMessageClass(DOWNLOADS.methods_by_name["Download"].output_type)


def storable(message: Message) -> Behavior:
    """Return a handler of a unary method, whose response may be stored."""

    async def behavior(_request: Any, context: Context) -> Message:
        await context.send_initial_metadata(STORABLE)
        return message

    return behavior


def storable_stream(*names: str) -> Behavior:
    """Return a handler that yields a receipt of each name, in a response that may be stored."""

    async def behavior(request: Any, context: Context) -> AsyncIterator[Message]:
        if names:
            await context.send_initial_metadata(STORABLE)
        else:  # then the initial metadata may be lost (`tests.channels.announcing`)
            context.set_trailing_metadata(STORABLE)
        async for message in receipts(*names)(request, context):
            yield message

    return behavior


LARGE = Receipt(name="a" * 5000)


def asking(accept: str = "gzip", **members: Any) -> Exchange:
    """Return a request of a client with this Accept-Encoding field."""
    return with_body(b"{}", headers=[("Accept-Encoding", accept)], **members)


def coding(answer: Answer) -> str | None:
    """Return the content coding of a response."""
    return answer.headers.get("content-encoding")


async def test_response(serve: Serve) -> None:
    """A client that accepts gzip gets the same JSON as any other, and caches keep them apart."""
    app = await serve(storable(LARGE), gzip_min_bytes=1000, response_headers=NAMES)
    plain, coded = Wire(asking("identity")), Wire(asking())
    for wire in (plain, coded):
        await wire.serve(app)
        varies = [value for name, value in wire.sent[0]["headers"] if name == b"vary"]
        assert varies == [b"Accept", b"accept-language", b"Accept-Encoding"]
    assert (coding(plain.answer), coding(coded.answer)) == (None, "gzip")
    assert coded.answer.headers["content-type"] == "application/json"
    assert len(coded.answer.body) < 200
    assert gzip.decompress(coded.answer.body) == plain.answer.body


async def test_head(serve: Serve) -> None:
    """HEAD has the fields that GET has (RFC 9110 section 9.3.2)."""
    app = await serve(storable(LARGE), gzip_min_bytes=1000, response_headers=NAMES)
    answers = [await asking(method=method).run(app) for method in ("GET", "HEAD")]
    assert answers[0].headers == answers[1].headers
    assert coding(answers[1]) == "gzip"


async def test_without_the_option(serve: Serve) -> None:
    """Without the option nothing is compressed, and nothing depends on Accept-Encoding."""
    app = await serve(storable(LARGE), response_headers=NAMES - {"vary"})
    answer = await asking().run(app)
    assert (coding(answer), answer.headers["vary"]) == (None, "Accept")


async def test_an_error(serve: Serve) -> None:
    """Problems are never compressed, neither of requests nor of calls."""

    async def fail(_request: Any, context: Context) -> Message:
        await context.send_initial_metadata(STORABLE)
        await context.abort(StatusCode.NOT_FOUND, "x" * 5000)
        raise AssertionError

    app = await serve(fail, gzip_min_bytes=1, response_headers=NAMES)
    for exchange, status in ((asking(), 404), (asking(query=b"x"), 400)):
        answer = await exchange.run(app)
        assert (answer.status, coding(answer)) == (status, None)


@pytest.mark.parametrize("accept", FRAMINGS)
@pytest.mark.parametrize("names", [(), ("a" * 5000,)], ids=["empty", "a message"])
async def test_a_stream(serve: Serve, accept: str, names: tuple[str, ...]) -> None:
    """Streams are never compressed: a compressor would hold messages back."""
    app = await serve(
        storable_stream(*names), library=STREAMS, gzip_min_bytes=1, response_headers=NAMES
    )
    answer = await get(accept=accept, accept_encoding="gzip, identity;q=0").run(app)
    assert (answer.status, coding(answer)) == (200, None)
    assert answer.headers["cache-control"] == "private, max-age=60"


async def test_content(serve: Serve) -> None:
    """The content of an HttpBody is never compressed: its bytes are the choice of the service."""
    behavior = storable(Content(data=b"a" * 5000))
    app = await serve(behavior, library=DOWNLOADS, gzip_min_bytes=1, response_headers=NAMES)
    answer = await get("/v1/files", accept_encoding="gzip").run(app)
    assert (answer.body, coding(answer)) == (b"a" * 5000, None)


def test_the_option_needs_the_field() -> None:
    """Without cache-control among the response headers nothing could be compressed."""
    with pytest.raises(ValueError, match=r"^gzip_min_bytes needs cache-control among the"):
        Options(gzip_min_bytes=1)
