"""Failures that the channel makes itself, with the codes of services: none is told as a service's.

The server is one of HTTP/2 alone, since no server of gRPC can be made to answer so.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import grpc
import pytest
from google.api.http_pb2 import HttpRule
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import StreamEnded

from sidecar.transcoding import Transcoder
from tests.transcoding.asgi import Exchange, with_body
from tests.transcoding.library import method, post, service
from tests.transcoding.serving import LIBRARY, handler_of, refuse, render

BOTH = service(
    method("Open", post("/v1/unary")),
    method("Watch", HttpRule(get="/v1/stream"), streams="server"),
)
ASKED = {
    "unary": with_body(b"{}", path="/v1/unary"),
    "stream": Exchange(method="GET", path="/v1/stream"),
}
Limits = Mapping[str, int]
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


@pytest.mark.parametrize(
    ("of_server", "of_channel"),
    [({"grpc.max_receive_message_length": 1000}, {}), ({}, {"grpc.max_send_message_length": 1000})],
    ids=["server", "channel"],
)
async def test_a_request_too_large(of_server: Limits, of_channel: Limits) -> None:
    """A request beyond a limit of the channel or of the server is 413: the service refused none."""
    server = grpc.aio.server(options=[*of_server.items()])
    server.add_generic_rpc_handlers((handler_of(refuse, LIBRARY),))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    async with grpc.aio.insecure_channel(address, options=[*of_channel.items()]) as channel:
        exchange = with_body(json.dumps({"name": "a" * 2000}).encode())
        answer = await exchange.run(Transcoder([LIBRARY], channel, render_error=render))
    await server.stop(None)
    told = {"error": "MessageTooLargeError", "faults": []}
    assert (answer.status, json.loads(answer.body)) == (413, told)
