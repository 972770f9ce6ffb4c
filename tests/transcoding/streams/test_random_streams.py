"""Random streams: both kinds of channel give the same response, which has every message."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from google.api.http_pb2 import HttpRule
from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc import StatusCode
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.transcoding import Options, Transcoder
from tests.channels import announcing, in_process, over_a_socket
from tests.properties import many
from tests.transcoding.asgi import Wire
from tests.transcoding.library import method, service
from tests.transcoding.openapi.described import document_of, violations
from tests.transcoding.samples import arguments, characters
from tests.transcoding.serving import Behavior, handler_of, render
from tests.transcoding.streams.event_stream import read_events
from tests.transcoding.streams.scene import (
    ARRAY,
    EVENTS,
    FRAMINGS,
    LINES,
    Context,
    get,
    is_ended,
)

SERVICE = service(
    method("Watch", HttpRule(get="/v1/watch"), gives="Book", streams="server"),
    method("Read", HttpRule(get="/v1/files"), gives="google.api.HttpBody", streams="server"),
)
# An error type that no message of ours looks like, so that a message is described as itself.
API = document_of({SERVICE: Options()}, errors=[SERVICE.file.message_types_by_name["Note"]])
DESCRIBED = API["paths"]["/v1/watch"]["get"]["responses"]["200"]["content"]
Book = GetMessageClass(SERVICE.methods_by_name["Watch"].output_type)
HttpBody = GetMessageClass(SERVICE.methods_by_name["Read"].output_type)


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """What a handler does: metadata, messages, and a status if it is not OK."""

    initial: tuple[tuple[str, str], ...]
    trailing: tuple[tuple[str, str], ...]
    messages: tuple[Message, ...]
    code: StatusCode | None
    details: str

    async def perform(self, context: Context, arrived: asyncio.Event) -> AsyncIterator[Message]:
        """Handle a call; its initial metadata must have `arrived` before it can end."""
        if self.initial:
            await context.send_initial_metadata(self.initial)
            await arrived.wait()
        context.set_trailing_metadata(self.trailing)
        for message in self.messages:
            yield message
        if self.code is not None:
            await context.abort(self.code, self.details)


class Stage:
    """Transcoders over both kinds of channel, in front of the handler of one play at a time."""

    def __init__(self) -> None:
        self.play: Play | None = None
        self.transcoders: list[Transcoder] = []

    async def open(self, stack: AsyncExitStack) -> None:
        """Open both channels until `stack` is closed."""
        options = Options(response_headers=frozenset({"x-cost"}))
        for open_ in (in_process, over_a_socket):
            arrived = asyncio.Event()
            handler = handler_of(self._performing(arrived), SERVICE)
            channel = announcing(await stack.enter_async_context(open_(handler)), arrived)
            self.transcoders.append(
                Transcoder([SERVICE], channel, options=options, render_error=render)
            )

    def _performing(self, arrived: asyncio.Event) -> Behavior:
        async def perform(_request: Any, context: Context) -> AsyncIterator[Message]:
            assert self.play is not None
            async for message in self.play.perform(context, arrived):
                yield message

        return perform

    async def show(self, play: Play, path: str, accept: str) -> Wire:
        """Return the one response that both transcoders give."""
        self.play = play
        wires = [Wire(get(path, accept)) for _ in self.transcoders]
        for wire, transcoder in zip(wires, self.transcoders, strict=True):
            await wire.serve(transcoder)
        one, other = map(told, wires)
        assert one == other
        return wires[0]


def told(wire: Wire) -> tuple[Any, ...]:
    """Return a response, and what the transcoder has left in the scope, in a form to compare.

    Maps have no order, and messages that are ready together may be sent in one part.
    """
    start, *parts = wire.sent
    body = b"".join(part["body"] for part in parts)
    notes = wire.scope.get("transcoding.messages"), wire.scope.get("transcoding.code")
    return start["status"], sorted(start["headers"]), sorted(body), is_ended(wire), notes


@pytest.fixture(scope="module")
async def stage() -> AsyncIterator[Stage]:
    """Yield a stage."""
    async with AsyncExitStack() as stack:
        made = Stage()
        await made.open(stack)
        yield made


costs = st.lists(st.tuples(st.just("x-cost"), st.sampled_from("123")), max_size=2).map(tuple)
books = arguments(SERVICE.methods_by_name["Watch"].output_type).map(lambda made: Book(**made))
pieces = st.builds(
    HttpBody, content_type=st.sampled_from(["", "text/x"]), data=st.binary(max_size=20)
)


CODES = [code for code in StatusCode if code is not StatusCode.OK]


def plays(messages: st.SearchStrategy[Message], *, fail: bool) -> st.SearchStrategy[Play]:
    """Return plays of `messages`, which all end well, or all fail."""
    return st.builds(
        Play,
        initial=costs,
        trailing=costs,
        messages=st.lists(messages, max_size=4).map(tuple),
        code=st.sampled_from(CODES) if fail else st.none(),
        details=st.text(characters.filter(lambda each: each.isprintable()), max_size=8),
    )


def comparable(tree: Any) -> str:
    """Return JSON in a form where 1 is 1.0, but not true, and -0 is not 0."""
    return json.dumps(json.loads(json.dumps(tree), parse_int=float), sort_keys=True)


def by_library(message: Message) -> Any:
    """Return what protobuf's own library makes of a message."""
    return json_format.MessageToDict(
        message,
        always_print_fields_with_no_presence=True,
        descriptor_pool=SERVICE.file.pool,
    )


def items_of(body: bytes, accept: str) -> list[Any]:
    """Return the items in `body`, by its framing."""
    if accept == ARRAY:
        return list(json.loads(body))
    texts = [event.data for event in read_events(body)] if accept == EVENTS else []
    if accept == LINES:
        texts = body.decode().split("\n")[:-1]
        assert texts == body.decode().splitlines()
    return [json.loads(text) for text in texts]


@pytest.mark.parametrize("accept", FRAMINGS)
@pytest.mark.parametrize("fail", [False, True], ids=["ends", "fails"])
@settings(many, max_examples=15)
@given(data=st.data())
async def test_messages(stage: Stage, fail: bool, accept: str, data: st.DataObject) -> None:
    """A stream of messages is the same over both channels: each of them, and the status."""
    play = data.draw(plays(books, fail=fail))
    wire = await stage.show(play, "/v1/watch", accept)
    answer = wire.answer
    assert is_ended(wire)
    problem = None if play.code is None else play.code.value[0]
    if not play.messages and problem:
        assert json.loads(answer.body)["code"] == problem
        return
    assert answer.status == 200
    items = items_of(answer.body, accept)
    if problem is not None:
        assert items.pop()["code"] == problem
    assert list(map(comparable, items)) == [comparable(by_library(one)) for one in play.messages]
    whole = items if accept == ARRAY else None
    for value in items if whole is None else [whole]:
        assert violations(API, DESCRIBED[accept]["schema"], value) == []


@pytest.mark.parametrize("fail", [False, True], ids=["ends", "fails"])
@settings(many, max_examples=30)
@given(data=st.data(), accept=st.sampled_from(["", *FRAMINGS]))
async def test_content(stage: Stage, fail: bool, data: st.DataObject, accept: str) -> None:
    """A stream of content is the same over both channels: its bytes, or all but the last piece."""
    play = data.draw(plays(pieces, fail=fail))
    wire = await stage.show(play, "/v1/files", accept)
    sent = [piece.data for piece in play.messages]  # type: ignore[attr-defined] # made at run time
    if not fail:
        assert (wire.answer.status, wire.answer.body) == (200, b"".join(sent))
    elif sent:
        assert wire.answer.body == b"".join(sent[:-1])
    assert is_ended(wire) == (not fail or not sent)
