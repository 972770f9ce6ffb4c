"""Streams of responses over real sockets: how they end, who is cut off, and what the log has."""

import asyncio
import json
import socket
import uuid
from collections.abc import Mapping
from typing import Any

import pytest
from karmo.problem.v1 import problem_details_pb2 as pb

from sidecar.http_server.lingering_transport import LOOK_INTERVAL
from sidecar.problems import CATALOGUE
from tests.faults.conditions import eventually
from tests.faults.wire import reset
from tests.loops import on_each_loop, on_skipping_loop
from tests.raw_http import next_answer
from tests.recorded import Line, recorded
from tests.rest.streaming import PIECE, ask, serving
from tests.virtual_time import skip

LINES = b"Accept: application/x-ndjson"
LAST_CHUNK = b"0\r\n\r\n"
INTERNAL = CATALOGUE[pb.PROBLEM_REASON_INTERNAL]
# Bytes that the buffers between a handler and a client may take.
BUFFERS = 32 * 1024 * 1024


def problem_in(item: bytes) -> dict[str, object]:
    """Return the problem in an item of JSON."""
    problem = json.loads(item)
    assert problem["type"].startswith("http")
    return dict(problem)


# The end of a stream


@on_each_loop
async def test_a_stream_ends_with_its_last_chunk() -> None:
    """A stream that ends well ends with its last chunk, and leaves the connection open."""
    async with serving() as scene:
        client = await scene.connect(ask("/v1/watch/two") + ask("/v1/watch/two", LINES))
        chunks = await client.chunks()
        assert [item["name"] for item in json.loads(b"".join(chunks))] == ["0", "1"]
        assert [json.loads(line)["name"] for line in await client.lines()] == ["0", "1"]
        reset(client.writer)


@on_each_loop
async def test_a_failure_is_told_in_band() -> None:
    """A stream that fails has the problem as its last item, before the end of the response."""
    async with serving() as scene:
        client = await scene.connect(ask("/v1/watch/fail", LINES))
        *_, last = await client.lines()
        problem = problem_in(last)
        assert (problem["karmoCode"], problem["status"]) == (INTERNAL.karmo_code, 500)
        assert b"canary" not in last
        reset(client.writer)


@on_each_loop
async def test_content_that_fails_has_no_end() -> None:
    """The connection of a stream of content that fails ends without the last chunk."""
    async with serving() as scene:
        client = await scene.connect(ask("/v1/files/fail"))
        await client.head()
        assert await client.chunk() == PIECE
        assert await client.reader.read() == b""
        client = await scene.connect(ask("/v1/files/two", b"Connection: close"))
        await client.head()
        assert (await client.reader.read()).endswith(LAST_CHUNK)


@on_each_loop
async def test_http_1_0_is_reset_where_it_could_see_no_end() -> None:
    """A client of HTTP/1.0, which takes the end of the connection for that of a body, is reset."""
    async with serving() as scene:
        client = await scene.connect(ask("/v1/files/two", version="1.0"))
        await client.head()
        assert await client.reader.read() == 2 * PIECE
        client = await scene.connect(ask("/v1/files/fail", version="1.0"))
        with pytest.raises(ConnectionResetError):
            await client.reader.read()
        client = await scene.connect(ask("/v1/watch/fail", LINES, version="1.0"))
        await client.head()
        *_, last = (await client.reader.read()).splitlines()
        assert problem_in(last)["status"] == 500


@on_each_loop
async def test_a_stream_is_ended_with_a_reason() -> None:
    """At the end of the process an open stream is told why, and its response ends well."""
    async with serving() as scene:
        client = await scene.connect(ask("/v1/watch/wait", LINES))
        await scene.service.waiting.acquire()
        scene.admission.end_streams()
        _, last = await client.lines()
        stopping = CATALOGUE[pb.PROBLEM_REASON_SERVICE_STOPPING]
        assert problem_in(last)["karmoCode"] == stopping.karmo_code
        await scene.is_idle()
        reset(client.writer)


# Clients that leave, and slow ones


@on_each_loop
async def test_a_client_that_resets_cancels_its_stream() -> None:
    """The handler of a silent stream is cancelled as soon as the connection is reset."""
    async with serving() as scene:
        for begun in (False, True):
            client = await scene.connect(ask("/v1/watch/wait", LINES))
            await scene.service.waiting.acquire()
            if begun:
                await client.head()
            reset(client.writer)
            await scene.service.left.acquire()
        await scene.is_idle()


@on_each_loop
async def test_a_client_that_closes_cancels_its_stream() -> None:
    """A client that ends its side in a stream wants no more: its silent stream is cancelled."""
    async with serving() as scene:
        client = await scene.connect(ask("/v1/watch/wait", LINES))
        await client.head()
        await client.chunk()
        client.writer.write_eof()
        await scene.service.left.acquire()
        assert await client.reader.read() == b""
        await scene.is_idle()


@pytest.mark.parametrize("is_waiting", [False, True], ids=["with its request", "later"])
@on_each_loop
async def test_a_client_that_ends_its_side_before_the_first_message(*, is_waiting: bool) -> None:
    """A client that ends its side has left, though no message has shown that: it is cancelled."""
    async with serving() as scene:
        client = await scene.connect(ask("/v1/watch/hold"))
        if is_waiting:
            await scene.service.waiting.acquire()
        client.writer.write_eof()
        assert await client.reader.read() == b""
        await scene.is_idle()


@on_skipping_loop
async def test_a_client_that_resets_behind_what_it_sends_too_early() -> None:
    """A client may send more than is read during a stream; its reset is noticed within 5 s."""
    async with serving() as scene:
        client = await scene.connect(ask("/v1/watch/wait") + 4000 * ask("/v1/watch/two"))
        await client.head()
        (connection,) = scene.connections
        await eventually(lambda: not connection.transport._is_reading)
        reset(client.writer)
        await eventually(lambda: is_gone(connection))
        assert scene.admission.counts.streams == 1
        skip(LOOK_INTERVAL)
        await scene.service.left.acquire()
        await scene.is_idle()


def is_gone(connection: Any) -> bool:
    """Whether the system knows that the peer of `connection` is gone."""
    accepted = connection.transport.socket
    return bool(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == 7)


@on_each_loop
async def test_a_slow_client_slows_the_service() -> None:
    """A handler whose client does not read stops once the buffers between them are full."""
    async with serving() as scene:
        client = await scene.connect(ask("/v1/files/endless"))
        await client.head()
        (connection,) = scene.connections
        await eventually(lambda: not connection.transport.writable.is_set())
        for _ in range(200):
            await asyncio.sleep(0)  # A turn of the loop, in which the handler could write.
        assert scene.service.written * len(PIECE) < BUFFERS
        reset(client.writer)
        await scene.service.left.acquire()
        await scene.is_idle()


KEEP_ALIVE = {
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE): 1,
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE): 30,
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL): 10,
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT): 3,
}


@on_each_loop
async def test_the_system_asks_whether_a_peer_is_there() -> None:
    """Connections of a listener have TCP's own keep-alive, for peers that are gone in silence."""
    async with serving() as scene:
        await scene.connect(ask("/v1/watch/wait"))
        await scene.service.waiting.acquire()
        (connection,) = scene.connections
        accepted = connection.transport.socket
        assert {name: accepted.getsockopt(*name) for name in KEEP_ALIVE} == KEEP_ALIVE


# Limits


@on_each_loop
async def test_streams_take_no_place_of_a_call() -> None:
    """With as many streams open as may be, further ones are refused, and calls are served."""
    unary = ask("/v1/shelves", method="POST", body=b'{"name":"unary"}')
    search = ask("/v1/search", method="POST", body=b'{"name":"wait"}')
    async with serving(calls=1, streams=3) as scene:
        clients = [await scene.connect(search) for _ in range(3)]
        for client in clients:
            await client.head()
        assert scene.admission.counts.streams == 3
        for request in (search, ask("/v1/watch/two")):
            client = await scene.connect(request)
            refused = await next_answer(client.reader)
            assert refused.status == 503
            problem = problem_in(refused.body)
            overloaded = CATALOGUE[pb.PROBLEM_REASON_OVERLOADED]
            assert problem["karmoCode"] == overloaded.karmo_code
            assert problem["detail"] == (
                "The service has 3 open streams, its limit. Try again in a moment."
            )
            client = await scene.connect(unary)
        assert (await next_answer(client.reader)).status == 200
        assert scene.admission.counts.refused == 0
        for each in (client, *clients):
            reset(each.writer)
        await scene.is_idle()
        client = await scene.connect(ask("/v1/watch/two", LINES))
        assert len(await client.lines()) == 2
        reset(client.writer)


@on_each_loop
async def test_a_stream_of_requests_is_not_served() -> None:
    """Its route answers with a problem of its own status."""
    async with serving() as scene:
        client = await scene.connect(ask("/v1/feed", method="POST"))
        answer = await next_answer(client.reader)
        problem = problem_in(answer.body)
        assert (answer.status, problem["status"]) == (501, 501)
        unserved = CATALOGUE[pb.PROBLEM_REASON_NOT_IMPLEMENTED]
        assert (problem["title"], problem["karmoCode"]) == (unserved.title, unserved.karmo_code)
        assert str(problem["type"]).endswith(f"/problems/{unserved.slug}")
        assert problem["detail"] == "This method takes a stream of requests. Call it by gRPC."
        reset(client.writer)


# The log

WAY: Mapping[str, tuple[str, Line]] = {
    "ends": ("/v1/watch/two", {"status": 200, "messages": 2, "code": "OK"}),
    "fails": (
        "/v1/watch/fail",
        {
            "status": 200,
            "messages": 2,
            "code": "INTERNAL",
            "reason": "INTERNAL",
            "karmo_code": INTERNAL.karmo_code,
        },
    ),
    "content fails": (
        "/v1/files/fail",
        {
            "status": 200,
            "messages": 2,
            "code": "INTERNAL",
            "reason": "INTERNAL",
            "karmo_code": INTERNAL.karmo_code,
        },
    ),
    "is left": ("/v1/watch/wait", {"status": 200, "messages": 1, "code": "CANCELLED"}),
}


@pytest.mark.parametrize("name", WAY)
async def test_the_access_line(name: str) -> None:
    """The line of a stream has its messages, its code, and the reason if it has failed."""
    path, said = WAY[name]
    request_id = str(uuid.uuid4())
    async with serving() as scene:
        with recorded() as log:
            field = f"X-Request-Id: {request_id}".encode()
            client = await scene.connect(ask(path, field, b"Connection: close"))
            await client.head()
            if name == "is left":
                await client.chunk()
                reset(client.writer)
            await client.reader.read()
            line = await log.access_line(request_id)
    names = ("status", "messages", "code", "reason", "karmo_code")
    assert {each: line[each] for each in names if each in line} == said
    assert str(line["route"]).startswith("/v1/")
