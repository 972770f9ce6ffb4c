"""The format of JSON that a service has, in unary responses and streams, over both channels."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc import StatusCode

from sidecar.in_process import InProcessChannel
from sidecar.transcoding import JsonFormat, Options, Transcoder
from tests.transcoding.asgi import Exchange, with_body
from tests.transcoding.library import image, method, post, services_in
from tests.transcoding.serving import Context, Serve, handler_of
from tests.transcoding.streams.event_stream import read_events
from tests.transcoding.streams.scene import ARRAY, EVENTS, FRAMINGS, LINES, get

EVERY = JsonFormat(enum_numbers=True, proto_names=True, omit_defaults=True, int64_numbers=True)
METHODS = (
    method("Open", post("/v1/receipts")),
    method("Part", HttpRule(get="/v1/copies", response_body="copies")),
    method("Watch", HttpRule(get="/v1/watch"), streams="server"),
)


def libraries() -> tuple[ServiceDescriptor, ServiceDescriptor]:
    """Return two services of the same messages, whose paths begin with the name of the service."""
    files = FileDescriptorSet.FromString(image().SerializeToString())
    file = files.file[-1]
    file.service[0].method.extend(METHODS)
    other = file.service.add(name="Other")
    other.method.add().CopyFrom(method("Open", post("/v1/other")))
    one, two = services_in(files)
    return one, two


LIBRARY, OTHER = libraries()
Receipt = GetMessageClass(LIBRARY.methods_by_name["Open"].output_type)
SENT: dict[str, Any] = {"shelf_code": "a", "copies": 2**60, "mood": 1}


async def give(_request: Any, _context: Context) -> Message:
    """Return a receipt with a value of each kind that formats differ in."""
    return Receipt(**SENT)


def give_two(*, fails: bool = False) -> Any:
    """Return a handler that yields the same receipt twice, and then fails if it shall."""

    async def behavior(_request: Any, context: Context) -> AsyncIterator[Message]:
        for _ in range(2):
            yield Receipt(**SENT)
        if fails:
            await context.abort(StatusCode.NOT_FOUND, "none such")

    return behavior


def items_of(body: bytes, media_type: str) -> list[Any]:
    """Return the items in `body`, by its framing."""
    if media_type == EVENTS:
        return [json.loads(event.data) for event in read_events(body)]
    return json.loads(body) if media_type == ARRAY else [*map(json.loads, body.splitlines())]


async def test_unary(serve: Serve) -> None:
    """A response is in the format of the service; one field as the response too."""
    app = await serve(give, library=LIBRARY, json_format=EVERY)
    whole = await with_body(b"{}", path="/v1/receipts").run(app)
    part = await Exchange(method="GET", path="/v1/copies").run(app)
    assert json.loads(whole.body) == SENT
    assert part.body == b"%d" % 2**60


@pytest.mark.parametrize("accept", FRAMINGS)
async def test_stream(serve: Serve, accept: str) -> None:
    """Each message of a stream is in the format of the service, in every framing."""
    app = await serve(give_two(), library=LIBRARY, json_format=EVERY)
    answer = await get("/v1/watch", accept).run(app)
    assert items_of(answer.body, accept) == [SENT, SENT]


@pytest.mark.parametrize("accept", [ARRAY, LINES, EVENTS])
async def test_problem_of_a_stream(serve: Serve, accept: str) -> None:
    """The problem of a failed stream is what it always is: formats are for messages."""
    app = await serve(give_two(fails=True), library=LIBRARY, json_format=EVERY)
    *_, problem = items_of((await get("/v1/watch", accept).run(app)).body, accept)
    assert problem == {"code": 5, "message": "none such", "details": []}


async def test_requests_are_read_as_ever(serve: Serve) -> None:
    """Whatever the format, a request may have either name, and numbers or text."""

    async def echo(request: Any, _context: Context) -> Message:
        return Receipt(shelf_code=request.shelf_code)

    app = await serve(echo, library=LIBRARY, json_format=EVERY)
    for name in (b"shelfCode", b"shelf_code"):
        answer = await with_body(b'{"%b":"b"}' % name, path="/v1/receipts").run(app)
        assert json.loads(answer.body) == {"shelf_code": "b"}


async def test_two_services() -> None:
    """Each service has a format of its own, also for the same type."""
    options = {LIBRARY.full_name: Options(json_format=EVERY)}
    channel = InProcessChannel()
    channel.add_generic_rpc_handlers((handler_of(give, LIBRARY), handler_of(give, OTHER)))
    async with channel:
        app = Transcoder([LIBRARY, OTHER], channel, options=options)
        first, second = [
            json.loads((await with_body(b"{}", path=path).run(app)).body)
            for path in ("/v1/receipts", "/v1/other")
        ]
    assert first == SENT
    assert (second["copies"], second["mood"], second["lent"]) == (str(2**60), "MOOD_MERRY", False)
