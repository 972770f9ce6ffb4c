"""Streams through this transcoder and through Envoy's, in front of the same service."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc
import httpx2
import pytest
from google.protobuf.message import Message
from grpc import StatusCode

from sidecar.transcoding import Transcoder
from tests.transcoding.asgi import Wire
from tests.transcoding.envoy import envoy
from tests.transcoding.library import image
from tests.transcoding.serving import handler_of
from tests.transcoding.streams.event_stream import read_events
from tests.transcoding.streams.scene import (
    ARRAY,
    EVENTS,
    LINES,
    METHODS,
    STREAMS,
    Context,
    HttpBody,
    Receipt,
    get,
    is_ended,
)

# The options by which an Envoy has the framing that our clients choose.
OPTIONS: Mapping[str, Mapping[str, bool]] = {
    ARRAY: {},
    LINES: {"stream_newline_delimited": True},
    EVENTS: {"stream_newline_delimited": True, "stream_sse_style_delimited": True},
}
# Without what Envoy refuses to serve: a part of each message.
SCHEMA = image(*(method for method in METHODS if method.name != "Name"))
# Without messages, with two, and failures before and after a message. By path: what Envoy
# answers is also ours, or how ours differs.
PATHS = {
    "/v1/watch/0": "same",
    "/v1/watch/2": "same",
    "/v1/watch/0-fail": "status",
    "/v1/watch/1-fail": "more",
    "/v1/files/2": "same",
    "/v1/files/2-fail": "less",
}


async def answer(request: Any, context: Context) -> AsyncIterator[Message]:
    """Yield as many messages as the name says, of the kind that the method has, and maybe fail."""
    count, _, fails = request.name.partition("-")
    for number in range(int(count)):
        if request.theme == "content":
            yield HttpBody(content_type="text/x", data=b"%d;" % number)
        else:
            yield Receipt(name=f"é{number}")
    if fails:
        await context.abort(StatusCode.NOT_FOUND, "none such")


def data_of(body: bytes, framing: str) -> list[str] | bytes:
    """Return the data of events, because Envoy has no ids; any other body as it is."""
    return [event.data for event in read_events(body)] if framing == EVENTS else body


def begins_with(own: list[str] | bytes, other: list[str] | bytes) -> bool:
    """Whether `own` has all of `other`, but for the end of an array, and more."""
    rest = other.removesuffix(b"]") if isinstance(other, bytes) else other
    return own[: len(rest)] == rest and len(own) > len(other)


@pytest.mark.parametrize("framing", OPTIONS)
async def test_beside_envoy(framing: str) -> None:
    """Good streams have the same bodies; of failed ones Envoy's look good, and ours do not."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((handler_of(answer, STREAMS),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    options = {"always_print_primitive_fields": True, **OPTIONS[framing]}
    services = [STREAMS.full_name]
    try:
        async with (
            envoy(SCHEMA, services, port, print_options=options) as address,
            httpx2.AsyncClient(base_url=f"http://{address}", trust_env=False) as client,
            grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        ):
            ours = Transcoder([STREAMS], channel)
            for path, expected in PATHS.items():
                query = "theme=content" if "files" in path else ""
                theirs = await client.get(path, params=query)
                wire = Wire(get(path, framing))
                wire.scope["query_string"] = query.encode()
                await wire.serve(ours)
                assert (path, wire.answer.status) == (path, theirs.status_code)
                own, other = data_of(wire.answer.body, framing), data_of(theirs.content, framing)
                if expected == "same":
                    assert (path, own) == (path, other)
                elif expected == "more":
                    assert begins_with(own, other)
                    assert b"none such" in wire.answer.body
                    assert b"none such" not in theirs.content
                elif expected == "less":
                    bodies = (wire.answer.body, theirs.content)
                    assert (bodies, is_ended(wire)) == ((b"0;", b"0;1;"), False)
    finally:
        await server.stop(None)
