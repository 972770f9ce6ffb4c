"""Methods with streams of responses, over the neutral schema, and what their handlers do."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from google.api.http_pb2 import HttpRule
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc import StatusCode

from tests.faults.conditions import eventually
from tests.transcoding.asgi import Exchange, Wire
from tests.transcoding.library import descriptor, method, post, service

METHODS = (
    method("Watch", HttpRule(get="/v1/watch/{name}"), streams="server"),
    method("Search", post("/v1/search"), streams="server"),
    method("Name", HttpRule(get="/v1/names/{name}", response_body="name"), streams="server"),
    method("Know", HttpRule(get="/v1/known/{name}"), gives="Known", streams="server"),
    method("Read", HttpRule(get="/v1/files/{name}"), gives="google.api.HttpBody", streams="server"),
    method(
        "Part",
        HttpRule(get="/v1/parts/{name}", response_body="content"),
        gives="Document",
        streams="server",
    ),
)
STREAMS = service(*METHODS)
Receipt = GetMessageClass(descriptor("Receipt", of=STREAMS))
Known = GetMessageClass(descriptor("Known", of=STREAMS))
HttpBody = GetMessageClass(STREAMS.methods_by_name["Read"].output_type)
Document = GetMessageClass(descriptor("Document", of=STREAMS))
ARRAY, LINES, EVENTS = "application/json", "application/x-ndjson", "text/event-stream"
FRAMINGS = (ARRAY, LINES, EVENTS)
# Any: the messages are made at run time.
Context = grpc.aio.ServicerContext[Any, Any]
Streaming = Callable[[Any, Context], AsyncIterator[Message]]


def get(path: str = "/v1/watch/a", accept: str = "", **headers: str) -> Exchange:
    """Return a GET of `path` that accepts `accept`, with `headers` by their names in Python."""
    fields = [(name.replace("_", "-"), value) for name, value in headers.items()]
    if accept:
        fields.append(("Accept", accept))
    return Exchange(method="GET", path=path, headers=fields)


def receipts(*names: str, fail: StatusCode | None = None) -> Streaming:
    """Return a handler that yields a receipt of each name, and then fails if it shall."""

    async def behavior(_request: Any, context: Context) -> AsyncIterator[Message]:
        for name in names:
            yield Receipt(name=name)
        if fail is not None:
            await context.abort(fail, "none such")

    return behavior


def contents(*pieces: bytes, fail: StatusCode | None = None) -> Streaming:
    """Return a handler that yields pieces of content; the first one has the media type."""

    async def behavior(_request: Any, context: Context) -> AsyncIterator[Message]:
        for number, piece in enumerate(pieces):
            yield HttpBody(content_type="text/x" if not number else "text/other", data=piece)
        if fail is not None:
            await context.abort(fail, "none such")

    return behavior


class Silent:
    """A handler that yields `count` receipts and then waits, and says what becomes of it."""

    def __init__(self, count: int) -> None:
        self.waiting = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.freed = asyncio.Event()
        self._count = count

    async def serve(self, _request: Any, _context: Context) -> AsyncIterator[Message]:
        """Yield the receipts, wait until `freed`, and yield one more."""
        for number in range(self._count):
            yield Receipt(name=str(number))
        self.waiting.set()
        try:
            await self.freed.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        yield Receipt(name="last")


class SlowWire(Wire):
    """A request whose client reads one part of the response for each release of `reads`."""

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(exchange)
        self.reads = asyncio.Semaphore(0)

    async def _send(self, message: Any) -> None:
        await self.reads.acquire()
        await super()._send(message)


def is_ended(wire: Wire) -> bool:
    """Whether the last part of a response was sent."""
    last = wire.sent[-1]
    return last["type"] == "http.response.body" and not last.get("more_body")


def names_in(body: bytes) -> list[str]:
    """Return the names of the receipts in an array, and for each problem its code."""
    items = json.loads(body)
    return [item["name"] if "name" in item else str(item["code"]) for item in items]


async def has_sent(wire: Wire, parts: int) -> None:
    """Wait until so many parts were sent, the header being one and each receipt another.

    Receipts that are ready together are sent together.
    """

    def count() -> int:
        bodies: list[bytes] = [part["body"] for part in wire.sent[1:]]
        return len(wire.sent[:1]) + sum(body.count(b'"name":') for body in bodies)

    await eventually(lambda: count() >= parts)


async def settled(turns: int = 200) -> None:
    """Let everything run that can: as many turns of the loop."""
    for _ in range(turns):
        await asyncio.sleep(0)
