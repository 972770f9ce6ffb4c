"""Streams through this transcoder and through Envoy's, in front of the same service."""

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import grpc
import httpx2
import pytest
from google.protobuf.message import Message
from grpc import StatusCode

from sidecar.transcoding import Transcoder
from tests.transcoding.asgi import Wire, with_body
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

pytestmark = pytest.mark.unmeasured

# The options by which an Envoy has the framing that our clients choose.
OPTIONS: Mapping[str, Mapping[str, bool]] = {
    ARRAY: {},
    LINES: {"stream_newline_delimited": True},
    EVENTS: {"stream_newline_delimited": True, "stream_sse_style_delimited": True},
}
# Without what Envoy refuses to serve: a part of each message.
SCHEMA = image(*(method for method in METHODS if method.name != "Name"))
SEARCH, NAMED = "/v1/search", b'{"name":"2"}'
# Text that ends a line for some readers, and what JSON escapes; numbers at their limits; bytes.
ODD: Sequence[Mapping[str, Any]] = (
    {"name": 'a\r\nb\u0085\u2028\u2029\t"\\\0'},
    {"name": "\U0001f600é\ufeff", "tags": ["", "data: x\n\nid: 9"]},
    {"copies": 2**63 - 1, "pages": -(2**31)},
    {"cover": bytes(range(256)), "mood": 2},
    {"shelf": {"name": "[", "theme": "]"}},
    {"mood": 7, "lent": True},
)


async def answer(request: Any, context: Context) -> AsyncIterator[Message]:
    """Yield as many messages as the name says, of the kind that the method has, and maybe fail."""
    count, _, fails = request.name.partition("-")
    for number in range(int(count)):
        if request.theme == "content":
            yield HttpBody(content_type="text/x", data=b"%d;" % number)
        elif request.theme == "odd":
            yield Receipt(**ODD[number])
        else:
            yield Receipt(name=f"é{number}" * (20_000 if request.theme else 1))
    if fails:
        await context.abort(StatusCode.NOT_FOUND, "none such")


def data_of(body: bytes, framing: str) -> list[str] | bytes:
    """Return the data of events, because Envoy has no ids; any other body as it is."""
    return [event.data for event in read_events(body)] if framing == EVENTS else body


async def ask_envoy(client: httpx2.AsyncClient, target: str) -> httpx2.Response:
    """Return the response of an Envoy."""
    if target == SEARCH:
        return await client.post(target, content=NAMED, headers={"Content-Type": ARRAY})
    return await client.get(target)


async def ask_ours(app: Transcoder, framing: str, target: str) -> Wire:
    """Return the response of our transcoder."""
    path, _, query = target.partition("?")
    exchange = get(path, framing)
    if target == SEARCH:
        exchange = with_body(NAMED, path=path, headers=exchange.headers)
    wire = Wire(replace(exchange, query=query.encode()))
    await wire.serve(app)
    return wire


def items_of(data: list[str] | bytes) -> list[Any]:
    """Return the items of an array or of lines, or those in the data of events."""
    if isinstance(data, list):
        return [json.loads(text) for text in data]
    if data.startswith(b"["):
        return list(json.loads(data))
    return [json.loads(line) for line in data.split(b"\n")[:-1]]


class Answers(NamedTuple):
    """The whole answers of both to a request, and the data in them."""

    target: str
    wire: Wire
    theirs: httpx2.Response
    own: list[str] | bytes
    other: list[str] | bytes


def are_equal(answers: Answers) -> None:
    """Both have the same data."""
    assert answers.own == answers.other


def have_equal_items(answers: Answers) -> None:
    """Both have the same items, maybe with other escapes."""
    assert items_of(answers.own) == items_of(answers.other)


def have_equal_status(_answers: Answers) -> None:
    """Compare no more than the status."""


def ours_has_the_failure(answers: Answers) -> None:
    """Ours has all of Envoy's, but for the end of an array, and the failure."""
    own, other = answers.own, answers.other
    rest = other.removesuffix(b"]") if isinstance(other, bytes) else other
    assert own[: len(rest)] == rest
    assert b"none such" in answers.wire.answer.body
    assert b"none such" not in answers.theirs.content


def ours_has_no_end(answers: Answers) -> None:
    """Envoy's looks complete. Ours has no end, and lacks the last message."""
    assert (answers.wire.answer.body, answers.theirs.content) == (b"0;", b"0;1;")
    assert not is_ended(answers.wire)


# Without messages, with few, many and large ones, and failures before and after a message. By
# target: how the answers are compared. Each request is a GET, but that to SEARCH.
REQUESTS: Mapping[str, Callable[[Answers], None]] = {
    "/v1/watch/0": are_equal,
    "/v1/watch/2": are_equal,
    "/v1/watch/500": are_equal,
    "/v1/watch/3?theme=large": are_equal,
    "/v1/watch/6?theme=odd": have_equal_items,
    "/v1/watch/0-fail": have_equal_status,
    "/v1/watch/1-fail": ours_has_the_failure,
    SEARCH: are_equal,
    "/v1/files/1?theme=content": are_equal,
    "/v1/files/2?theme=content": are_equal,
    "/v1/files/500?theme=content": are_equal,
    "/v1/files/0-fail?theme=content": have_equal_status,
    "/v1/files/2-fail?theme=content": ours_has_no_end,
}


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
            for target, compare in REQUESTS.items():
                theirs = await ask_envoy(client, target)
                wire = await ask_ours(ours, framing, target)
                assert (target, wire.answer.status) == (target, theirs.status_code)
                own, other = data_of(wire.answer.body, framing), data_of(theirs.content, framing)
                compare(Answers(target, wire, theirs, own, other))
    finally:
        await server.stop(None)
