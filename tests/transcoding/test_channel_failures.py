"""Failures that the channel makes itself, with the codes of services: none is told as a service's.

The server is one of HTTP/2 alone, since no server of gRPC can be made to answer so.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from google.api.http_pb2 import HttpRule
from google.protobuf.message import Message
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import StreamEnded

from sidecar.transcoding import Options, Transcoder
from tests.transcoding.asgi import Exchange, with_body
from tests.transcoding.library import method, post, service
from tests.transcoding.serving import (
    LIBRARY,
    Behavior,
    Context,
    Receipt,
    handler_of,
    refuse,
    render,
)

BOTH = service(
    method("Open", post("/v1/unary")),
    method("Watch", HttpRule(get="/v1/stream"), streams="server"),
)
ASKED = {
    "unary": with_body(b"{}", path="/v1/unary"),
    "stream": Exchange(method="GET", path="/v1/stream"),
}
# Answers one stream.
Answer = Callable[[H2Connection, int], None]


def in_http(status: int) -> Answer:
    """Return a proxy that answers without gRPC."""
    fields = [(":status", str(status)), ("content-type", "text/html")]
    return lambda http, stream: http.send_headers(stream, fields, end_stream=True)


def by_reset(code: ErrorCodes) -> Answer:
    """Return a server that resets the stream."""
    return lambda http, stream: http.reset_stream(stream, code)


def by_trailers(*fields: tuple[str, str]) -> Answer:
    """Return a server that ends the call with these fields."""
    head = [(":status", "200"), ("content-type", "application/grpc")]
    return lambda http, stream: http.send_headers(stream, [*head, *fields], end_stream=True)


@asynccontextmanager
async def answering(answer: Answer) -> AsyncIterator[grpc.aio.Channel]:
    """Yield a channel to a server that answers each call so."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http = H2Connection(H2Configuration(client_side=False))
        http.initiate_connection()
        writer.write(http.data_to_send())
        while data := await reader.read(65536):
            for event in http.receive_data(data):
                if isinstance(event, StreamEnded):
                    answer(http, event.stream_id)
            writer.write(http.data_to_send())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    # A call whose stream was refused would be tried again.
    options = [("grpc.enable_retries", 0)]
    async with (
        server,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel,
    ):
        yield channel


ENDED = "a call ended without a status of the service"
FAILURES: Mapping[str, tuple[Answer, int, int, bool]] = {
    "HTTP 401": (in_http(401), 503, 14, True),
    "HTTP 403": (in_http(403), 503, 14, True),
    "HTTP 404": (in_http(404), 503, 14, True),
    "HTTP 400": (in_http(400), 500, 13, False),
    "HTTP 502": (in_http(502), 503, 14, False),
    "cancelled": (by_reset(ErrorCodes.CANCEL), 503, 14, True),
    "too much": (by_reset(ErrorCodes.ENHANCE_YOUR_CALM), 503, 14, True),
    "not secure": (by_reset(ErrorCodes.INADEQUATE_SECURITY), 503, 14, True),
    "refused": (by_reset(ErrorCodes.REFUSED_STREAM), 503, 14, False),
    "fault": (by_reset(ErrorCodes.INTERNAL_ERROR), 500, 13, False),
    "no status": (by_trailers(), 500, 2, False),
    "no code": (by_trailers(("grpc-status", "x")), 500, 13, False),
}


@pytest.mark.parametrize("kind", ASKED)
@pytest.mark.parametrize("name", FAILURES)
async def test_a_call_without_a_status(
    name: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A call that ends without a status has no code that accuses its caller, and no text."""
    answer, status, code, is_logged = FAILURES[name]
    async with answering(answer) as channel:
        told = await ASKED[kind].run(Transcoder([BOTH], channel, render_error=render))
    assert (told.status, json.loads(told.body)) == (
        status,
        {"code": code, "message": "", "details": []},
    )
    assert [record.getMessage().startswith(ENDED) for record in caplog.records] == [
        True
    ] * is_logged


@pytest.mark.parametrize("kind", ASKED)
async def test_a_status_with_the_codes_of_the_channel(kind: str) -> None:
    """The same codes are told with their texts if it is the service that sends them."""
    for code, status in ((1, 499), (7, 403), (8, 429), (16, 401), (4, 504)):
        sent = by_trailers(("grpc-status", str(code)), ("grpc-message", "of the service"))
        async with answering(sent) as channel:
            told = await ASKED[kind].run(Transcoder([BOTH], channel, render_error=render))
        body = json.loads(told.body)
        assert (told.status, body["code"], body["message"]) == (status, code, "of the service")


@pytest.mark.parametrize("kind", ASKED)
async def test_the_deadline_passes_here(kind: str) -> None:
    """A deadline that passes in the channel is told without the text of the channel."""
    exchange = ASKED[kind]
    late = Exchange(
        method=exchange.method,
        path=exchange.path,
        headers=[*exchange.headers, ("grpc-timeout", "20m")],
        chunks=exchange.chunks,
    )
    async with answering(lambda _http, _stream: None) as channel:
        told = await late.run(Transcoder([BOTH], channel, render_error=render))
    assert (told.status, json.loads(told.body)["message"]) == (504, "")


# Limits of gRPC

LARGE, EMPTY = "a" * 20_000, with_body(b"{}")


async def tell_much(_request: Any, _context: Context) -> Message:
    """Answer with a large message."""
    return Receipt(name=LARGE)


async def tell_metadata(_request: Any, context: Context) -> Message:
    """Answer with large metadata after the message."""
    context.set_trailing_metadata((("x-a", LARGE),))
    return Receipt()


async def fail_at_length(_request: Any, context: Context) -> Message:
    """Fail with a long text."""
    await context.abort(grpc.StatusCode.NOT_FOUND, LARGE)
    raise AssertionError


@dataclass(frozen=True, slots=True, kw_only=True)
class Limited:
    """A behavior between limits of gRPC, and what is told of a request: its status, or the log."""

    behavior: Behavior = refuse
    exchange: Exchange = EMPTY
    of_server: Mapping[str, int] = field(default_factory=dict)
    of_channel: Mapping[str, int] = field(default_factory=dict)
    compression: grpc.Compression = grpc.Compression.NoCompression
    status: int = 500
    logged: str = ""


NARROW = {"grpc.max_receive_message_length": 1000}
TOLD_LARGE = "it is larger than the channel accepts"
TOLD_METADATA = "its metadata is larger than the channel accepts"
LIMITED: Mapping[str, Limited] = {
    "request and the server": Limited(
        exchange=with_body(json.dumps({"name": LARGE}).encode()), of_server=NARROW, status=413
    ),
    "request and the channel": Limited(
        exchange=with_body(json.dumps({"name": LARGE}).encode()),
        of_channel={"grpc.max_send_message_length": 1000},
        status=413,
    ),
    "header and the server": Limited(
        exchange=with_body(b"{}", headers=[("X-A", LARGE)]), status=431
    ),
    "response": Limited(behavior=tell_much, of_channel=NARROW, logged=TOLD_LARGE),
    "compressed response": Limited(
        behavior=tell_much,
        of_channel=NARROW,
        compression=grpc.Compression.Gzip,
        logged=TOLD_LARGE,
    ),
    "metadata of the response": Limited(behavior=tell_metadata, logged=TOLD_METADATA),
    "text of the status": Limited(behavior=fail_at_length, logged=TOLD_METADATA),
}


@pytest.mark.parametrize("name", LIMITED)
async def test_beyond_a_limit(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """What is beyond a limit of gRPC is no 429 of the service, and gRPC's text is not told."""
    case = LIMITED[name]
    server = grpc.aio.server(options=[*case.of_server.items()], compression=case.compression)
    server.add_generic_rpc_handlers((handler_of(case.behavior, LIBRARY),))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    options = Options(metadata_headers=frozenset({"x-a"}))
    async with grpc.aio.insecure_channel(address, options=[*case.of_channel.items()]) as channel:
        app = Transcoder([LIBRARY], channel, options=options, render_error=render)
        answer = await case.exchange.run(app)
    await server.stop(None)
    assert answer.status == case.status
    assert "larger than max" not in answer.body.decode()
    assert "exceeds" not in answer.body.decode()
    assert [case.logged in record.getMessage() for record in caplog.records] == (
        [True] if case.logged else []
    )
