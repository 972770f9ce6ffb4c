"""The ends of streams over real sockets: the drain, a deadline, HEAD, and clients of HTTP/1.0."""

import asyncio
import json
import ssl

import pytest
import trustme
from karmo.problem.v1 import problem_details_pb2 as pb

from sidecar.problems import CATALOGUE
from tests.faults.conditions import eventually
from tests.faults.wire import reset
from tests.loops import on_each_loop
from tests.raw_http import next_answer
from tests.rest.streaming import Client, Scene, ask, serving

LINES = b"Accept: application/x-ndjson"
STOPPING = CATALOGUE[pb.PROBLEM_REASON_SERVICE_STOPPING].karmo_code
LAST_CHUNK = b"0\r\n\r\n"


def codes_in(body: bytes) -> list[str]:
    """Return the name of each message in lines, and the karmoCode of a problem."""
    items = [json.loads(line) for line in body.splitlines() if line.startswith(b"{")]
    return [item.get("karmoCode") or item["name"] for item in items]


async def drain(scene: Scene) -> asyncio.Task[None]:
    """Begin the drain, as the process does, and return its end."""
    ending = asyncio.create_task(scene.listener.stop())
    await asyncio.sleep(0)
    scene.admission.end_streams()
    return ending


# The end of the process


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@on_each_loop
async def test_the_drain_waits_for_no_stream(version: str) -> None:
    """An open stream is told of the drain, and its connection closes: the drain ends by itself."""
    async with serving() as scene:
        client = await scene.connect(ask("/v1/watch/wait", LINES, version=version))
        await scene.service.waiting.acquire()
        ending = await drain(scene)
        await client.head()
        body = await client.reader.read()
        assert codes_in(body) == ["0", STOPPING]
        assert version == "1.0" or body.endswith(LAST_CHUNK)
        await ending
        assert scene.admission.counts.streams == 0


@on_each_loop
async def test_a_stream_that_has_no_message_at_the_drain() -> None:
    """A stream that is silent until the drain is refused with the status of the reason."""
    async with serving() as scene:
        client = await scene.connect(ask("/v1/watch/hold"))
        await scene.service.waiting.acquire()
        ending = await drain(scene)
        answer = await next_answer(client.reader)
        assert (answer.status, json.loads(answer.body)["karmoCode"]) == (503, STOPPING)
        await ending


@on_each_loop
async def test_a_stream_in_the_drain_is_refused() -> None:
    """A request for a stream that comes after the streams were ended has the same problem."""
    async with serving() as scene:
        scene.admission.end_streams()
        client = await scene.connect(ask("/v1/watch/two"))
        answer = await next_answer(client.reader)
        assert (answer.status, json.loads(answer.body)["karmoCode"]) == (503, STOPPING)
        reset(client.writer)


async def hang(scene: Scene) -> Client:
    """Return a client that does not read an endless stream, whose handler waits for it."""
    client = await scene.connect(ask("/v1/files/endless"))
    await client.head()
    await scene.is_unread()
    return client


@pytest.mark.parametrize("path", ["/v1/files/endless", "/v1/watch/stubborn"])
@on_each_loop
async def test_the_cut_ends_what_the_drain_could_not(path: str) -> None:
    """A client that does not read, or a handler that ignores its end, has until the cut."""
    async with serving() as scene:
        if path == "/v1/files/endless":
            client = await hang(scene)
        else:
            client = await scene.connect(ask(path, LINES))
            await scene.service.waiting.acquire()
        ending = await drain(scene)
        if path != "/v1/files/endless":
            await scene.service.waiting.acquire()  # it has ignored the drain
        assert scene.admission.counts.streams == 1
        assert not ending.done()
        scene.listener.cut(0.1)
        await ending
        await scene.service.left.acquire()
        assert scene.admission.counts.streams == 0
        assert not (await client.reader.read()).endswith(LAST_CHUNK)


# Clients that leave


@pytest.fixture(scope="module", name="contexts")
def _contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return the TLS contexts of a server and of its clients."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


@pytest.mark.parametrize("path", ["/v1/watch/hold", "/v1/watch/wait", "/v1/files/endless"])
@pytest.mark.parametrize("how", ["closes", "resets"])
@on_each_loop
async def test_a_client_leaves_over_tls(
    how: str, path: str, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    """Over TLS a client that leaves cancels its stream: before, after and during a message."""
    server, own = contexts
    async with serving(tls=server) as scene:
        client = await scene.connect(ask(path, LINES), own)
        if path == "/v1/files/endless":
            await client.head()
            await scene.is_unread()
        else:
            await scene.service.waiting.acquire()
        if how == "closes":
            client.writer.close()
        else:
            reset(client.writer)
        await scene.service.left.acquire()
        await scene.is_idle()


@on_each_loop
async def test_clients_that_leave_at_once() -> None:
    """Clients that leave with their request, or at any byte of it, leave no stream open."""
    request = ask("/v1/watch/wait", LINES)
    async with serving(streams=1) as scene:
        for end in range(0, len(request) + 1, 7):
            client = await scene.connect(request[:end])
            await asyncio.sleep(0)
            reset(client.writer)
        client = await scene.connect(request)
        await asyncio.sleep(0)
        reset(client.writer)
        await eventually(lambda: not scene.connections)
        await scene.is_idle()
        client = await scene.connect(ask("/v1/watch/two", LINES))
        assert len(await client.chunks()) == 2


# What other clients send


@on_each_loop
async def test_head_leaves_the_connection_open() -> None:
    """HEAD has the header of GET without a body, cancels the call, and the next request is served.

    A client of HTTP/1.0 that asks for it does not keep the connection: it would see no end.
    """
    head, get = (ask("/v1/watch/wait", LINES, method=each) for each in ("HEAD", "GET"))
    async with serving() as scene:
        client = await scene.connect(head + get)
        fields = without_variable(await client.head())
        await scene.service.left.acquire()
        assert without_variable(await client.head()) == fields
        assert json.loads(await client.chunk())["name"] == "0"
        reset(client.writer)
        old = ask("/v1/watch/two", LINES, b"Connection: keep-alive", method="HEAD", version="1.0")
        client = await scene.connect(old)
        assert b"\r\nconnection: close\r\n" in (await client.head()).lower()
        assert await client.reader.read() == b""


def without_variable(head: bytes) -> list[bytes]:
    """Return the lines of a header that are the same for HEAD and GET.

    HEAD may lack the coding of the body (RFC 9110 section 9.3.2).
    """
    variable = (b"date:", b"x-request-id:", b"transfer-encoding:")
    return [line for line in head.splitlines() if not line.lower().startswith(variable)]


@pytest.mark.timing("the service waits for ever, so the deadline passes whenever that is")
@on_each_loop
async def test_a_deadline() -> None:
    """A client's deadline ends its stream with a problem, and its place is free again."""
    async with serving(streams=1) as scene:
        client = await scene.connect(ask("/v1/watch/hold", b"grpc-timeout: 50m"))
        assert (await next_answer(client.reader)).status == 504
        await scene.service.left.acquire()
        await scene.is_idle()
        reset(client.writer)
