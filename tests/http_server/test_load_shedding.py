"""Shedding over real sockets: who is answered unread, in what words, and what stays as it was."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from sidecar.http_server.load_shedding import NO_REQUEST_ID, LoadShedding
from tests.faults.conditions import eventually
from tests.faults.wire import host_and_port, reset
from tests.http_server.test_protocol import (
    HEADER,
    KEEP_ALIVE,
    LARGE,
    TIMES,
    WHOLE,
    App,
    Client,
    get,
    listening,
    post,
)
from tests.loops import on_skipping_loop
from tests.patience import HANG
from tests.raw_http import FORM, Received, next_answer
from tests.recorded import recorded
from tests.upstream import Hold
from tests.virtual_time import VirtualLoop
from tests.ways import Deployment, open_deployment

ANSWER = (
    f"HTTP/1.1 503 No\r\nX-Request-Id: {NO_REQUEST_ID}\r\nContent-Length: 4\r\n\r\nfull".encode()
)
BODY = b"grant_type=client_credentials&client_id=partner&client_secret=secret"


@dataclass(slots=True, kw_only=True)
class Room:
    """Whether there is room for calls, and with how many begun that was asked."""

    most: int = 0
    begun: int = 0

    def is_full(self, begun: int) -> bool:
        """Return whether as many are begun as there may be."""
        self.begun = begun
        return begun >= self.most


@asynccontextmanager
async def shedding(room: Room) -> AsyncIterator[tuple[App, Client]]:
    """Connect to a listener that sheds while `room` is full."""
    async with (
        listening(load_shedding=LoadShedding(room.is_full, ANSWER)) as scene,
        scene.client() as client,
    ):
        yield scene.app, client


@on_skipping_loop
async def test_a_whole_request_is_shed() -> None:
    """With no room a call is answered without the application, and its connection goes on."""
    async with shedding(Room()) as (app, client):
        for _ in range(3):
            answer = await client.ask(post(body=b"a=b"))
            assert (answer.status, answer.body) == (503, b"full")
        assert app.seen == []


@on_skipping_loop
async def test_there_is_room_again() -> None:
    """The connection of a call that was shed serves the next one, as soon as there is room."""
    room = Room()
    async with shedding(room) as (app, client):
        assert (await client.ask(post(body=b"a=b"))).status == 503
        room.most = 1
        answer = await client.ask(post(body=b"a=b"))
        assert (answer.status, answer.body) == (200, b"a=b")
        room.most = 0
        assert (await client.ask(post(body=b"a=b"))).status == 503
        assert app.seen == ["/"]


@pytest.mark.parametrize(
    "data",
    [
        get(),
        post(body=b"a=b").replace(b"Host", b"Connection: close\r\nHost"),
        post(body=b"a=b").replace(b"Content-Length: 3", b"Transfer-Encoding: chunked")[:-3]
        + b"3\r\na=b\r\n0\r\n\r\n",
    ],
    ids=["another method", "the last of its connection", "chunks"],
)
@on_skipping_loop
async def test_what_is_not_plain_is_for_the_application(data: bytes) -> None:
    """A request that needs to be read is read, room or not."""
    async with shedding(Room()) as (app, client):
        assert (await client.ask(data)).status == 200
        assert app.seen == ["/"]


@on_skipping_loop
async def test_requests_that_follow_each_other_at_once_are_read() -> None:
    """Of a pipeline each is answered in its order, by the application."""
    async with shedding(Room()) as (app, client):
        await client.send(post("/a", body=b"1") + post("/b", body=b"2"))
        assert [(await client.answer()).body for _ in range(2)] == [b"1", b"2"]
        assert app.seen == ["/a", "/b"]


@on_skipping_loop
async def test_a_request_in_parts_is_read() -> None:
    """What follows on the beginning of a request is no request of its own."""
    async with shedding(Room()) as (app, client):
        await client.send(post(length=40))
        await eventually(lambda: app.seen == ["/"])
        inner = post(body=b"a=b")
        await client.send(inner[:40])
        assert (await client.answer()).body == inner[:40]
        assert app.seen == ["/"]


@on_skipping_loop
async def test_what_comes_behind_a_request_in_hand_is_not_shed() -> None:
    """An answer cannot overtake the one before it."""
    async with (
        listening(load_shedding=LoadShedding(Room().is_full, ANSWER)) as scene,
        scene.client() as client,
        scene.client() as other,
    ):
        await client.send(get("/hold"))
        await scene.app.held.acquire()
        await client.send(post(body=b"a=b"))
        await other.ask(get())  # by now what was sent before has been received
        scene.app.release.set()
        assert [(await client.answer()).body for _ in range(2)] == [b"/hold", b"a=b"]


@on_skipping_loop
async def test_those_on_their_way_are_counted() -> None:
    """A call counts from when it was read to its answer, or until its client is gone."""
    room = Room(most=2)
    async with (
        listening(load_shedding=LoadShedding(room.is_full, ANSWER)) as scene,
        scene.client() as one,
        scene.client() as other,
    ):
        async with scene.client() as third:
            await one.send(post("/hold", body=b"1"))
            await scene.app.held.acquire()
            await third.send(post("/wait", body=b"2"))
            await scene.app.held.acquire()
            assert (await other.ask(post(body=b"3"))).status == 503
            assert room.begun == 2
            reset(third.writer)
        await scene.app.left.wait()
        assert (await other.ask(post(body=b"3"))).body == b"3"
        assert room.begun == 1
        scene.app.release.set()
        assert (await one.answer()).body == b"1"
        assert (await other.ask(post(body=b"3"))).body == b"3"
        assert room.begun == 0


@on_skipping_loop
async def test_a_connection_that_was_shed_has_its_time() -> None:
    """The time for the first header ends with an answer, of whatever kind; to idle has its own."""
    shed = LoadShedding(Room().is_full, ANSWER)
    async with listening(load_shedding=shed, **TIMES) as scene, scene.client() as client:
        for _ in range(2):
            assert (await client.ask(post(body=b"a=b"))).status == 503
            await scene.pass_time(HEADER + 1)
        await scene.pass_time(KEEP_ALIVE - HEADER)
        assert await client.end() == b""


@on_skipping_loop
async def test_the_end_is_told() -> None:
    """While a listener retires, calls are read, so that their answers are the last."""
    room = Room()
    async with (
        listening(load_shedding=LoadShedding(room.is_full, ANSWER)) as scene,
        scene.client() as client,
    ):
        assert (await client.ask(post(body=b"a=b"))).status == 503
        scene.listener.retire()
        answer = await client.ask(post(body=b"a=b"))
        assert (answer.status, answer.headers["connection"]) == (200, "close")


@on_skipping_loop
async def test_who_does_not_read_is_not_answered_for_ever() -> None:
    """Once answers pile up that a client does not take, it is given up like any other."""
    long = ANSWER.replace(b"4", b"%d" % LARGE).replace(b"full", b"f" * LARGE)
    shed = LoadShedding(Room().is_full, long)
    async with listening(load_shedding=shed, **TIMES) as scene, scene.client() as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined] # a transport both ways
        while not scene.app.seen:
            await client.send(post(body=b"a=b"))
            await scene.pass_time(0)
        while scene.connections:  # its system may have taken a little more at first
            await scene.pass_time(WHOLE + 1)


@on_skipping_loop
async def test_who_does_not_read_holds_no_place() -> None:
    """A call whose answer is not read is not begun any more: others have its place."""
    room = Room(most=1)
    async with (
        listening(load_shedding=LoadShedding(room.is_full, ANSWER), **TIMES) as scene,
        scene.client() as one,
        scene.client() as other,
    ):
        one.writer.transport.pause_reading()  # type: ignore[attr-defined] # a transport both ways
        await one.send(post("/parts", body=b"1"))
        await eventually(
            lambda: any(not each.transport.writable.is_set() for each in scene.connections)
        )
        assert len(scene.listener._state.tasks) == 1  # the answer is not out
        assert (await other.ask(post(body=b"2"))).body == b"2"
        assert room.begun == 0


@on_skipping_loop
async def test_a_call_after_head_has_its_body() -> None:
    """A HEAD request, which is read though there is no room, takes no body from the next answer."""
    room = Room()
    async with shedding(room) as (app, client):
        await client.send(get("/head").replace(b"GET", b"HEAD"))
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert b"content-length: 5" in head.lower()
        assert (await client.ask(post(body=b"a=b"))).body == b"full"
        room.most = 1
        assert (await client.ask(post(body=b"a=b"))).body == b"a=b"
        assert app.seen == ["/head", "/"]


# Whose answer it is


async def test_the_identity_is_kept() -> None:
    """A request id that is a UUID is in the answer, in every place."""
    identity = str(uuid.uuid4())
    shed = answered(identity)
    assert shed == ANSWER.replace(NO_REQUEST_ID.encode(), identity.encode())


@pytest.mark.parametrize("value", ["", "canary", NO_REQUEST_ID + "0"])
async def test_no_other_text_is_given_back(value: str) -> None:
    """Without a UUID each answer has a new one."""
    answers = {answered(value) for _ in range(2)}
    assert len(answers) == 2
    for answer in answers:
        identity = answer.split(b"X-Request-Id: ")[1][:36].decode()
        assert str(uuid.UUID(identity)) == identity != NO_REQUEST_ID


def answered(value: str) -> bytes:
    """Return the answer to a request with this X-Request-Id, and leave no line behind."""
    shed = LoadShedding(Room().is_full, ANSWER)
    try:
        return shed.respond([(b"x-request-id", value.encode())])
    finally:
        shed.report()


# The log


def test_those_of_a_second_have_one_line() -> None:
    """What was refused is counted, in a line after a second, and another one at the end."""
    shed = LoadShedding(Room().is_full, ANSWER)
    with recorded() as log, VirtualLoop() as loop:
        for _ in range(3):
            loop.call_soon(shed.respond, ())
        loop.advance(0.9)
        assert "calls refused" not in log.text
        loop.advance(5)
        loop.call_soon(shed.respond, ())
        loop.settle()
        shed.report()
        loop.advance(5)
    lines = [entry for entry in log.entries if entry["message"] == "calls refused"]
    said = [(line["level"], line["reason"], line["count"]) for line in lines]
    assert said == [("warning", "OVERLOADED", count) for count in (3, 1)]


# A whole sidecar


async def ask(deployment: Deployment, *fields: bytes) -> Received:
    """Exchange a token by REST, with a request that has `fields`."""
    head = (b"POST /v1/oauth/token HTTP/1.1", b"Host: sidecar.test", FORM, *fields)
    body = BODY if any(b"Content-Length" in field for field in fields) else b"0\r\n\r\n"
    reader, writer = await asyncio.open_connection(*host_and_port(str(deployment.addresses.rest)))
    try:
        writer.write(b"\r\n".join(head) + b"\r\n\r\n" + body)
        return await next_answer(reader)
    finally:
        writer.close()


async def test_what_is_shed_hears_the_same_as_what_is_read() -> None:
    """The answer that was ready is that of the application, but for its date and identity."""
    length = b"Content-Length: %d" % len(BODY)
    async with asyncio.timeout(HANG), open_deployment(max_in_flight="1") as deployment:
        hold = Hold()
        deployment.upstream.script = hold.script
        call = asyncio.create_task(ask(deployment, length))
        await hold.wait_for(1)
        with recorded() as log:
            shed = await ask(deployment, length)
            read = await ask(deployment, b"Transfer-Encoding: chunked")
        hold.release.set()
        assert (await call).status == 200
        assert (await ask(deployment, length)).status == 200
    assert "calls refused" not in log.text  # but a second later, or at the end
    assert log.text.count('"reason": "OVERLOADED"') == 1  # the access line of what was read
    assert (shed.status, shed.headers["content-type"]) == (503, "application/problem+json")
    documents = [json.loads(answer.body) for answer in (shed, read)]
    for answer, document in zip((shed, read), documents, strict=True):
        assert document.pop("instance") == f"urn:uuid:{answer.headers.pop('x-request-id')}"
    read.headers.pop("date")
    read.headers.pop("vary")
    shed.headers.pop("vary")
    assert documents[0] == documents[1]
    assert shed.headers == read.headers
