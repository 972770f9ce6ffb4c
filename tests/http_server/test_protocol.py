"""The HTTP front over real sockets: times, limits, crowds, pipelines, and every way to leave."""

import asyncio
import gc
import ssl
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import pytest
import trustme
from starlette.types import Receive, Scope, Send

from sidecar.http_server.asgi.request_cycle import RequestCycle
from sidecar.http_server.http1.chunked_body import MAX_CHUNKS
from sidecar.http_server.http1.refusal import REFUSAL, RefusedError
from sidecar.http_server.limits import Limits
from sidecar.http_server.listener import HttpListener
from sidecar.http_server.load_shedding import LoadShedding
from sidecar.http_server.protocol import HttpProtocol
from sidecar.process import sockets
from sidecar.settings.types import Address
from tests.faults.conditions import eventually
from tests.faults.wire import accepts, reset
from tests.loops import on_each_loop, on_skipping_loop, on_uvloop
from tests.patience import HANG
from tests.raw_http import Received, next_answer
from tests.recorded import recorded
from tests.virtual_time import skip, skip_until

T = TypeVar("T")
LARGE = 8 * 1024 * 1024
HOST = b"Host: a\r\n"
EARLY = {"/early": (), "/last": ((b"connection", b"close"),)}


def get(path: str = "/", *fields: bytes) -> bytes:
    """Return a request without a body."""
    head = b"".join(field + b"\r\n" for field in fields)
    return f"GET {path} HTTP/1.1\r\n".encode() + HOST + head + b"\r\n"


def post(path: str = "/", *, length: int = 0, body: bytes = b"") -> bytes:
    """Return a request with `body`, or with so much of it, if `length` tells another size."""
    size = f"Content-Length: {length or len(body)}\r\n\r\n".encode()
    return f"POST {path} HTTP/1.1\r\n".encode() + HOST + size + body


@dataclass(kw_only=True)
class App:
    """An application of one answer to each path; it notes the paths that it was asked for.

    "/" answers with the body, "/hold" when it is released, "/late" then with the content behind
    the head, "/wait" never, "/large"
    with 8 MiB, "/parts" with it in two; "/early" and "/last" before they read, the one as
    a last answer.
    What is refused has status and detail.
    """

    seen: list[str] = field(default_factory=list)
    held: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    release: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        self.seen.append(scope["path"])
        try:
            if REFUSAL in scope:
                raise scope[REFUSAL]
            await self._serve(scope["path"], receive, send)
        except RefusedError as refusal:
            await _reply(send, refusal.status, str(refusal).encode())

    async def _serve(self, path: str, receive: Receive, send: Send) -> None:
        if path in EARLY:
            await _reply(send, 413, b"too large", *EARLY[path])
            return
        if path == "/late":
            length = [(b"content-length", b"2")]
            await send({"type": "http.response.start", "status": 200, "headers": length})
            self.held.release()
            await self.release.wait()
            await send({"type": "http.response.body", "body": b"ok"})
            return
        body = await self._read(receive)
        if path == "/hold":
            self.held.release()
            await self.release.wait()
        if path == "/wait":
            self.held.release()
            await self._read(receive)
        if path == "/parts":
            await _reply_in_parts(send, (b"x" * LARGE, b"x"))
            return
        await _reply(send, 200, b"x" * LARGE if path == "/large" else body or path.encode())
        if path == "/large":
            self.held.release()

    async def _read(self, receive: Receive) -> bytes:
        body = b""
        while True:
            message: Mapping[str, Any] = await receive()
            if message["type"] == "http.disconnect":
                self.left.set()
                return b""
            body += bytes(message["body"])
            if not message["more_body"]:
                return body


async def _live(receive: Receive, send: Send) -> None:
    for phase in ("startup", "shutdown"):
        assert (await receive())["type"] == f"lifespan.{phase}"
        await send({"type": f"lifespan.{phase}.complete"})


async def _reply(send: Send, status: int, body: bytes, *fields: tuple[bytes, bytes]) -> None:
    headers = [(b"content-length", str(len(body)).encode()), *fields]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _reply_in_parts(send: Send, parts: Sequence[bytes]) -> None:
    length = str(sum(map(len, parts))).encode()
    headers = [(b"content-length", length)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for number, part in enumerate(parts):
        await send(
            {"type": "http.response.body", "body": part, "more_body": number + 1 < len(parts)}
        )


@dataclass(slots=True)
class Count:
    """How many bytes the clients of a listener have sent, and how many it has read."""

    sent: int = 0
    read: int = 0


class Counting(HttpProtocol):
    """Counts what it reads."""

    count: Count

    def data_received(self, data: bytes) -> None:
        """Read and count."""
        super().data_received(data)
        self.count.read += len(data)


class Listener(HttpListener):
    """Counts what its connections read."""

    count: Count

    def _new_protocol(self) -> HttpProtocol:
        protocol = super()._new_protocol()
        protocol.__class__ = Counting
        cast("Counting", protocol).count = self.count
        return protocol


@dataclass(frozen=True, kw_only=True)
class Client:
    """One connection of a client."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    count: Count

    async def send(self, data: bytes) -> None:
        """Send bytes, whatever they are."""
        self.count.sent += len(data)
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> Received:
        """Return the next answer."""
        return await next_answer(self.reader)

    async def ask(self, data: bytes) -> Received:
        """Send a request and return its answer."""
        await self.send(data)
        return await self.answer()

    async def end(self) -> bytes:
        """Return what comes before the end, which is no reset."""
        return await self.reader.read()

    async def is_cut(self) -> bool:
        """Wait for the end, of whatever kind, and return whether nothing came before it."""
        try:
            return await self.reader.read() == b""
        except ConnectionError:
            return True


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A listener and its application."""

    app: App
    listener: Listener
    address: Address
    trust: ssl.SSLContext | None

    @property
    def opening(self) -> int:
        """The number of connections whose handshakes have not ended."""
        return self.listener.counts.opening

    @property
    def connections(self) -> set[Any]:
        """The connections that there are."""
        return self.listener._state.connections

    def are_ending(self, ending: int) -> bool:
        """Whether so many connections, and no more, are ending."""
        return [one.transport.is_closing() for one in self.connections].count(True) == ending

    async def pass_time(self, seconds: float) -> None:
        """Let time pass on the clock, once all that clients have sent is read."""
        while self.listener.count.read < self.listener.count.sent:  # noqa: ASYNC110 nobody tells
            await asyncio.sleep(0)
        skip(seconds)
        await asyncio.sleep(0)  # what is due runs

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """Connect."""
        name = "127.0.0.1" if self.trust else None
        reader, writer = await asyncio.open_connection(
            self.address.host, self.address.port, ssl=self.trust, server_hostname=name
        )
        try:
            yield Client(reader=reader, writer=writer, count=self.listener.count)
        finally:
            writer.transport.abort()


@asynccontextmanager
async def listening(
    *, over_tls: bool = False, load_shedding: LoadShedding | None = None, **limits: float
) -> AsyncIterator[Scene]:
    """Serve, with `limits` in place of some of the usual ones."""
    app = App()
    served, trust = tls_pair() if over_tls else (None, None)
    with closing(sockets.listen(Address("127.0.0.1", 0))) as bound:
        # No connection ends because a machine was slow to read its last answer.
        chosen: Any = dict.fromkeys(("header_timeout", "request_timeout", "linger"), HANG) | limits
        listener = Listener(
            app,
            bound,
            grace=10 * HANG,
            limits=Limits(**chosen),
            tls=served,
            load_shedding=load_shedding,
        )
        listener.count = Count()
        await listener.start()
        scene = Scene(app=app, listener=listener, address=sockets.address_of(bound), trust=trust)
        try:
            yield scene
            await eventually(lambda: not scene.connections)
        finally:
            await hurried(listener.stop())


async def hurried(stop: Awaitable[None]) -> None:
    """Await the end of a listener that has nothing in hand, without its pauses."""
    stopping = asyncio.ensure_future(stop)
    await skip_until(stopping.done)
    await stopping


def tls_pair() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return the contexts of a server and of its clients."""
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


async def at_once(
    scene: Scene, cases: Mapping[str, bytes], outcome: Callable[[Client, bytes], Awaitable[T]]
) -> Mapping[str, T]:
    """Return the outcomes of all cases, each on a connection of its own, by name."""

    async def one(case: bytes) -> T:
        async with scene.client() as client:
            return await outcome(client, case)

    found = await asyncio.gather(*map(one, cases.values()))
    return dict(zip(cases, found, strict=True))


async def refusal(client: Client, data: bytes) -> tuple[int, str]:
    """Send bytes and return their refusal, after which the connection must end."""
    found = told(await client.ask(data))
    assert await client.end() == b""
    return found


def told(received: Received) -> tuple[int, str]:
    """Return the status and the detail of a refusal, which must be the last of its connection."""
    assert received.headers["connection"] == "close"
    return received.status, received.body.decode()


# Time: every limit is of minutes, which pass by `skip` alone


HEADER, WHOLE, KEEP_ALIVE = 60.0, 120.0, 180.0
TIMES: dict[str, Any] = {
    "header_timeout": HEADER,
    "request_timeout": WHOLE,
    "keep_alive": KEEP_ALIVE,
}
HEADER_LATE = (408, "The header must be complete in 60 s.")
REQUEST_LATE = (408, "The request must be complete in 120 s.")
CHUNKED = get("/", b"Transfer-Encoding: chunked")
HALVES = {
    "half a line": (b"GET / HT", HEADER_LATE),
    "half a header": (b"GET / HTTP/1.1\r\nHo", HEADER_LATE),
    "half a body": (post(length=9, body=b"1234"), REQUEST_LATE),
    "no body": (post(length=9), REQUEST_LATE),
    "half a chunk": (CHUNKED + b"9\r\n1", REQUEST_LATE),
    "no last chunk": (CHUNKED + b"1\r\n1\r\n", REQUEST_LATE),
}


@pytest.mark.parametrize("later", [False, True], ids=["first", "later"])
@on_skipping_loop
async def test_half_a_request_is_answered(*, later: bool) -> None:
    """Who stops in the middle of a request, the first or a later one, is told its time."""
    async with listening(**TIMES) as scene, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(scene.client()) for _ in HALVES]
        for client, (data, _) in zip(clients, HALVES.values(), strict=True):
            if later:
                assert (await client.ask(post(body=b"1"))).status == 200
            await client.send(data)
        await scene.pass_time(WHOLE + 1)
        found = [told(await client.answer()) for client in clients]
        assert [await client.end() for client in clients] == [b""] * len(HALVES)
    assert found == [expected for _, expected in HALVES.values()]


@on_skipping_loop
async def test_a_silent_connection_is_closed() -> None:
    """Who sends nothing gets nothing: there is no request to answer."""
    async with listening(**TIMES) as scene, scene.client() as one:
        await eventually(lambda: len(scene.connections) == 1)
        await scene.pass_time(HEADER + 1)
        assert await one.end() == b""
        assert scene.app.seen == []


@on_skipping_loop
async def test_an_idle_connection_is_closed() -> None:
    """Between requests a connection may idle longer than a header may take, and not for ever."""
    async with listening(**TIMES) as scene, scene.client() as one:
        for _ in range(2):
            assert (await one.ask(get())).headers.get("connection") is None
            await scene.pass_time(KEEP_ALIVE - 1)
        await scene.pass_time(2)
        assert await one.end() == b""


DRIPS = {
    "header": (b"GET / HTTP/1.1\r\nA: ", HEADER, HEADER_LATE),
    "body": (post(length=5000), WHOLE, REQUEST_LATE),
    "extension of a chunk": (CHUNKED + b"1;", WHOLE, REQUEST_LATE),
}


@pytest.mark.parametrize(("data", "limit", "late"), DRIPS.values(), ids=DRIPS)
@on_skipping_loop
async def test_drops_do_not_prolong(data: bytes, limit: float, late: tuple[int, str]) -> None:
    """The time of a request is counted from its first byte, however often another comes."""
    async with listening(**TIMES) as scene, scene.client() as one:
        await one.send(data)
        for _ in range(9):
            await scene.pass_time(limit / 10)
            await one.send(b"a")
        assert scene.are_ending(0)
        await scene.pass_time(limit / 10 + 1)
        assert told(await one.answer()) == late


@on_skipping_loop
async def test_the_time_of_the_header_is_part_of_the_whole() -> None:
    """Who took long for the header has the less for the body; who began later has the whole."""
    rest = post(length=9)[9:]
    async with (
        listening(header_timeout=WHOLE, request_timeout=WHOLE) as scene,
        scene.client() as first,
        scene.client() as second,
    ):
        await first.send(b"POST / HT")
        await scene.pass_time(WHOLE - 10)
        assert (await second.ask(get())).status == 200
        await first.send(rest)
        await second.send(post(length=9))
        await scene.pass_time(11)
        assert told(await first.answer()) == REQUEST_LATE
        assert (await second.ask(b"123456789")).body == b"123456789"


@on_skipping_loop
async def test_each_request_has_its_own_time() -> None:
    """What was spent on one request is not taken from the next, nor is the wait between them.

    It may come byte by byte, as long as it comes in time.
    """
    data = post(body=b"piecemeal")
    async with listening(**TIMES) as scene, scene.client() as one:
        for _ in range(3):
            for byte in data:
                await one.send(bytes((byte,)))
                await scene.pass_time((HEADER - 1) / len(data))
            assert (await one.answer()).body == b"piecemeal"
            await scene.pass_time(HEADER - 1)


@on_skipping_loop
async def test_a_request_after_an_early_answer_has_its_own_time() -> None:
    """Of a body that comes late, after its answer, nothing is taken from the request behind it."""
    async with listening(**TIMES) as scene, scene.client() as one:
        for _ in range(2):
            await one.send(post("/early", length=2, body=b"a"))
            assert (await one.answer()).status == 413
            await scene.pass_time(WHOLE - 1)
            await one.send(b"b" + get("/next")[:10])
            await scene.pass_time(HEADER - 1)  # the first began longer ago than it may take
            assert (await one.ask(get("/next")[10:])).body == b"/next"


# What is refused


BAD = {
    "no HTTP": (b"canary\r\n", 400),
    "a bare LF": (b"GET / HTTP/1.1\r\nHost: canary\n\r\n", 400),
    "a name that is none": (get("/", b"canary : x"), 400),
    "a line too long": (b"GET /" + b"canary" * 2000, 414),
    "a header too large": (get("/", *[b"a: " + b"canary" * 100] * 40), 431),
    "a header without end": (b"GET / HTTP/1.1\r\nA: " + b"canary" * 4000, 431),
    "too many fields": (get("/", *[b"canary: a"] * 100), 431),
}


@on_uvloop
async def test_a_bad_head_is_refused() -> None:
    """The application answers for it, which is asked for no path, and the connection ends."""
    cases = {name: data for name, (data, _) in BAD.items()}
    async with listening() as scene:
        found = await at_once(scene, cases, refusal)
        assert scene.app.seen == [""] * len(BAD)
    assert {name: status for name, (status, _) in found.items()} == {
        name: status for name, (_, status) in BAD.items()
    }
    assert "canary" not in str(found)


BAD_BODIES = {
    "no size": b"canary\r\n",
    "a size with a sign": b"+5\r\n12345\r\n0\r\n\r\n",
    "a hexadecimal size": b"0x5\r\n12345\r\n0\r\n\r\n",
    "a chunk too long": b"5\r\n123456\r\n0\r\n\r\n",
    "an extension without end": b"5;" + b"canary" * 4000,
    "an extension with a bare LF": b"5;\ncanary\r\n12345\r\n0\r\n\r\n",
    "an extension with a bare CR": b"1;\rcanary\r\na\r\n0\r\n\r\n",
    "no trailers, ended by a bare LF": b"0\r\n\n",
    "trailers that end with a bare LF": b"0\r\nA: canary\r\n\n",
    "a trailer that ends with a bare LF": b"0\r\nA: canary\nB: canary\r\n\r\n",
    "a trailer with a bare CR": b"0\r\nA: canary\rB: canary\r\n\r\n",
    "a folded trailer": b"0\r\nA: canary\r\n canary\r\n\r\n",
    "trailers without end": b"0\r\n" + b"A: canary\r\n" * 3000,
}


@on_uvloop
async def test_a_bad_body_is_refused() -> None:
    """A body that is not HTTP ends its request with 400, while the application reads it."""
    cases = {name: CHUNKED + data for name, data in BAD_BODIES.items()}
    async with listening() as scene:
        found = await at_once(scene, cases, refusal)
        assert scene.app.seen == ["/"] * len(cases)
    assert found == dict.fromkeys(cases, (400, "The request must be HTTP/1.1 as RFC 9112 has it."))


@on_uvloop
async def test_a_body_has_a_limit_of_chunks() -> None:
    """A body of 1,024 chunks is read, and of one more refused: each costs time, however small."""
    cases = {"the most": MAX_CHUNKS, "one more": MAX_CHUNKS + 1}
    bodies = {name: CHUNKED + b"1\r\na\r\n" * count for name, count in cases.items()}
    async with listening() as scene:
        found = await at_once(scene, bodies, answer_to_chunks)
    assert found == {
        "the most": (200, b"a" * MAX_CHUNKS),
        "one more": (413, b"The body must not come in more than 1024 chunks."),
    }


async def answer_to_chunks(client: Client, data: bytes) -> tuple[int, bytes]:
    """Send a chunked body twice, each with its end, and return the last answer."""
    received = await client.ask(data + b"0\r\n\r\n")
    if received.status == 200:
        received = await client.ask(data + b"0\r\n\r\n")
    return received.status, received.body


@on_skipping_loop
async def test_an_answer_is_not_followed_by_a_refusal() -> None:
    """A body that turns bad, or stops, when its answer is out ends the connection alone."""
    for end in (b"canary\r\n", b""):
        async with listening(**TIMES) as scene, scene.client() as one:
            await one.send(get("/early", b"Transfer-Encoding: chunked"))
            assert (await one.answer()).status == 413
            await one.send(end)
            await scene.pass_time(0 if end else WHOLE + 1)
            assert await one.end() == b""


@on_each_loop
async def test_the_end_reads_on() -> None:
    """A client that sends much behind a bad body, in its answer, is read from to the end."""
    async with listening(linger=0.1) as scene, scene.client() as one:
        await one.send(get("/late", b"Transfer-Encoding: chunked"))
        assert (await one.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        (protocol,) = scene.connections
        protocol.data_received(b"canary\r\n" + b"x" * 2**17)
        await one.send(b"x" * 2**20)
        assert await one.end() == b""
        scene.app.release.set()


@on_uvloop
async def test_a_body_that_nobody_reads_is_passed_over() -> None:
    """The rest of a body whose answer came early does not become the next request."""
    body = get("/smuggled")
    async with listening() as scene, scene.client() as one:
        assert (await one.ask(post("/early", length=len(body)))).status == 413
        assert (await one.ask(body + get("/next"))).body == b"/next"
        assert scene.app.seen == ["/early", "/next"]


@on_each_loop
async def test_only_so_much_is_passed_over() -> None:
    """Of a body that nobody reads up to 256 KiB are dropped; else the answer is the last."""
    kept = 256 * 1024
    async with listening() as scene, scene.client() as one:
        assert (await one.ask(post("/early", length=kept))).status == 413
        assert (await one.ask(b"x" * kept + get("/next"))).body == b"/next"
        for request in (
            post("/early", length=kept + 1),
            get("/early", b"Transfer-Encoding: chunked"),
        ):
            async with scene.client() as other:
                answer = await other.ask(request)
                assert (answer.status, answer.headers["connection"]) == (413, "close")
                assert await other.end() == b""


@on_each_loop
async def test_an_idle_connection_keeps_no_request() -> None:
    """What a client has sent is gone with its answer, though nobody has read its body."""
    async with listening() as scene, scene.client() as one:
        assert (await one.ask(post("/early", body=b"canary" * 10_000))).status == 413
        (connection,) = scene.connections
        gc.collect()
        cycles = [each for each in gc.get_objects() if isinstance(each, RequestCycle)]
        assert not [each for each in cycles if each._connection is connection._requests]


@on_each_loop
async def test_a_refusal_of_an_upload_is_read() -> None:
    """Who sends 10 GiB, and reads but after the first MiB, can read that it is too large."""
    async with listening() as scene, scene.client() as one:
        await one.send(post("/last", length=10 * 2**30))
        for _ in range(16):
            await one.send(b"x" * 65536)
        assert (await one.answer()).status == 413
        assert await one.end() == b""


@on_uvloop
async def test_nobody_is_asked_to_go_on_in_vain() -> None:
    """`100 Continue` comes before a body that is wanted, and not before a refusal."""
    expects = b"Expect: 100-continue"
    async with listening() as scene, scene.client() as one, scene.client() as other:
        assert (await one.ask(get("/last", expects, b"Content-Length: 9"))).status == 413
        assert (await other.ask(get("/", expects, b"Content-Length: 1"))).status == 100
        assert (await other.ask(b"1")).body == b"1"


@on_uvloop
async def test_a_body_that_may_not_come_ends_the_connection() -> None:
    """Who waits for `100 Continue` and gets a response may send a body or not: it is the last."""
    asked = get("/early", b"Expect: 100-continue", b"Content-Length: 9")
    async with listening() as scene, scene.client() as one:
        answer = await one.ask(asked)
        assert (answer.status, answer.headers["connection"]) == (413, "close")
        await one.send(get("/next"))
        assert await one.end() == b""
        assert scene.app.seen == ["/early"]


@on_each_loop
async def test_a_refusal_outlasts_the_end_of_the_client() -> None:
    """A client that ends its direction behind a bad request is told what is wrong with it."""
    async with listening() as scene, scene.client() as one:
        await one.send(get() + b"canary\r\n\r\n")
        one.writer.write_eof()
        assert [(await one.answer()).status for _ in range(2)] == [200, 400]
        assert await one.end() == b""


HEADS = {
    "two hosts": b"HEAD / HTTP/1.1\r\n" + HOST * 2 + b"\r\n",
    "a target too long": b"HEAD /" + b"a" * 9000,
    "a bad field": b"HEAD / HTTP/1.1\r\nHost : a\r\n\r\n",
    "no HTTP": b"HEAD / HTTP/9\r\n\r\n",
    "half a header": b"HEAD / HTTP/1.1\r\nHo",
    "half a body": b"HEAD / HTTP/1.1\r\n" + HOST + b"Content-Length: 9\r\n\r\n1",
    "a bad body": b"HEAD / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\ncanary\r\n",
}


@on_skipping_loop
async def test_a_refusal_of_head_has_no_body() -> None:
    """However a HEAD request is refused, no body follows the header (RFC 9110 section 9.3.2)."""
    async with listening(**TIMES) as scene, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(scene.client()) for _ in HEADS]
        for client, data in zip(clients, HEADS.values(), strict=True):
            await client.send(data)
        await scene.pass_time(WHOLE + 1)
        found = [await client.end() for client in clients]
    statuses = [int(data.split(b" ", 2)[1]) for data in found]
    assert dict(zip(HEADS, statuses, strict=True)) == {
        "two hosts": 400,
        "a target too long": 414,
        "a bad field": 400,
        "no HTTP": 400,
        "half a header": 408,
        "half a body": 408,
        "a bad body": 400,
    }
    assert [data.partition(b"\r\n\r\n")[2] for data in found] == [b""] * len(HEADS)


@on_uvloop
async def test_a_head_beyond_the_limit_of_connections_has_no_body() -> None:
    """The 503 for too many connections has no body for HEAD, and one for other methods."""
    async with listening(connections=1) as scene, held(scene, 1):
        for method, length in ((b"HEAD", 0), (b"\r\nHEAD", 0), (b"GET", 42), (b"HEADER", 42)):
            async with scene.client() as one:
                await one.send(get().replace(b"GET", method))
                head, _, body = (await one.end()).partition(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 503 ")
                assert (b"content-length: 42" in head.lower(), len(body)) == (True, length)
        scene.app.release.set()


@on_skipping_loop
async def test_a_connection_beyond_the_limit_is_refused_with_its_line() -> None:
    """Before the request line it is not known whether the 503 may have content: it waits for it."""
    async with listening(connections=1) as scene, held(scene, 1):
        async with scene.client() as one:
            for part in (b"HE", b"AD / HTTP/1.1\r\n"):
                await one.send(part)
                await scene.pass_time(0)
            head, _, content = (await one.end()).partition(b"\r\n\r\n")
            assert (head[:13], content) == (b"HTTP/1.1 503 ", b"")
        scene.app.release.set()


# Lines that mean nothing


@on_uvloop
async def test_empty_lines_are_passed_over() -> None:
    """Empty lines before a request, or behind one, are left out (RFC 9112 section 2.2)."""
    async with listening() as scene, scene.client() as one:
        await one.send(b"\r\n")
        await eventually(lambda: len(scene.connections) == 1)
        await one.send(b"\r\n" * 2 + get("/first") + b"\r\n" * 3 + post("/second") + b"\r\n")
        await one.send(get("/third"))
        answers = [await one.answer() for _ in range(3)]
        assert [received.body for received in answers] == [b"/first", b"/second", b"/third"]


@on_skipping_loop
async def test_empty_lines_do_not_prolong() -> None:
    """Who sends but empty lines has sent nothing: its connection is closed, others are served."""
    async with listening(**TIMES) as scene, scene.client() as one, scene.client() as other:
        for _ in range(10):
            await one.send(b"\r\n")
            assert (await other.ask(get())).status == 200
            await scene.pass_time(HEADER / 10)
        assert await one.end() == b""


# Crowds


@on_uvloop
async def test_who_waits_longest_makes_room() -> None:
    """Where there are too many connections, that is closed which has waited longest."""
    async with (
        listening(connections=2) as scene,
        scene.client() as first,
        scene.client() as second,
    ):
        assert (await second.ask(get())).status == 200
        assert (await first.ask(get())).status == 200
        async with scene.client() as third:
            assert (await third.ask(get())).status == 200
            assert await second.is_cut()
            assert (await first.ask(get())).status == 200


@on_uvloop
async def test_where_nobody_waits_one_more_is_refused() -> None:
    """Where every connection is busy, requests on more of them are told so, one on each."""
    detail = "There must not be more than 2 connections."
    async with listening(connections=2) as scene, held(scene, 2) as busy:
        async with scene.client() as third, scene.client() as fourth:
            for one in (third, fourth):
                assert told(await one.ask(get())) == (503, detail)
                assert await one.end() == b""
        scene.app.release.set()
        assert [(await one.answer()).status for one in busy] == [200, 200]


@asynccontextmanager
async def held(scene: Scene, count: int) -> AsyncIterator[list[Client]]:
    """Give connections whose requests are being served."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(scene.client()) for _ in range(count)]
        for client in clients:
            await client.send(get("/hold"))
            await scene.app.held.acquire()
        yield clients


# Pipelines


@on_uvloop
async def test_a_pipeline_is_answered_in_order() -> None:
    """A hundred requests at once have a hundred answers, each in its place."""
    async with listening() as scene, scene.client() as one:
        await one.send(b"".join(post(body=b"%d" % number) for number in range(1, 101)))
        answers = [await one.answer() for _ in range(100)]
        assert [int(received.body) for received in answers] == [*range(1, 101)]


@on_each_loop
async def test_a_pipeline_waits_in_the_network() -> None:
    """Of requests behind one that is served, no more is read than 64 KiB and what came with it."""
    async with listening() as scene, scene.client() as one:
        await one.send(get("/hold"))
        await scene.app.held.acquire()
        (protocol,) = scene.connections
        await one.send(get() * 5000)
        await eventually(lambda: not protocol.transport._is_reading)
        scene.app.release.set()
        assert [(await one.answer()).status for _ in range(5001)] == [200] * 5001


@on_uvloop
async def test_a_bad_request_ends_its_pipeline() -> None:
    """Those before it are answered, it is refused, and nothing behind it is read."""
    requests = [get(f"/{number}") for number in range(100)]
    requests[50] = get("/50", b"Content-Length: 9", b"Transfer-Encoding: chunked")
    async with listening() as scene, scene.client() as one:
        await one.send(b"".join(requests))
        answers = [await one.answer() for _ in range(51)]
        assert [received.status for received in answers] == [200] * 50 + [400]
        assert answers[-1].headers["connection"] == "close"
        assert await one.end() == b""
        assert scene.app.seen == [*(f"/{number}" for number in range(50)), ""]


@on_skipping_loop
async def test_half_a_request_behind_others_is_answered_too() -> None:
    """The last of a pipeline has the time of a header, from the answer before it."""
    async with listening(**TIMES) as scene, scene.client() as one:
        await one.send(get() + get() + b"GET / HT")
        assert [(await one.answer()).status for _ in range(2)] == [200, 200]
        await scene.pass_time(HEADER + 1)
        assert told(await one.answer()) == HEADER_LATE
        assert await one.end() == b""


# Leaving


@on_each_loop
async def test_who_has_said_all_is_answered() -> None:
    """A client that ends its own direction gets all of its answers, the last one as such."""
    async with listening() as scene, scene.client() as one:
        await one.send(get("/hold") + get() * 4)
        one.writer.write_eof()
        await scene.app.held.acquire()
        scene.app.release.set()
        answers = [await one.answer() for _ in range(5)]
        assert [received.status for received in answers] == [200] * 5
        last = [received.headers.get("connection") for received in answers]
        assert last == [None] * 4 + ["close"]
        assert await one.end() == b""


@pytest.mark.parametrize("behind", [b"", b"\r\n"], ids=["nothing", "an empty line"])
@pytest.mark.parametrize("path", ["/hold", "/late"])
@on_each_loop
async def test_who_has_said_all_waits_for_no_more(path: str, behind: bytes) -> None:
    """After its last answer the connection ends, also if the head of that came before the end."""
    async with listening() as scene, scene.client() as one:
        await one.send(get(path) + behind)
        one.writer.write_eof()
        await scene.app.held.acquire()
        scene.app.release.set()
        assert (await one.answer()).status == 200
        assert await one.end() == b""


ENDS = {
    "before a request": b"",
    "in a head": b"GET / HT",
    "in a body": post(length=9, body=b"1"),
    "in a chunk": CHUNKED + b"9\r\n1",
}


@on_each_loop
async def test_who_ends_in_the_middle_is_gone() -> None:
    """A client that ends before its request is whole gets no answer, and the application knows."""
    async with listening() as scene:
        assert await at_once(scene, ENDS, rest_after_the_end) == dict.fromkeys(ENDS, b"")
        await asyncio.wait_for(scene.app.left.wait(), 20)
        assert len(scene.app.seen) == 2


async def rest_after_the_end(client: Client, data: bytes) -> bytes:
    """Send bytes and the end, and return what comes then."""
    await client.send(data)
    client.writer.write_eof()
    return await client.end()


@pytest.mark.parametrize("path", ["/", "/wait"], ids=["after an answer", "before it"])
@on_each_loop
async def test_a_reset_frees_at_once(path: str) -> None:
    """After a reset the application knows, and nothing keeps what the connection held."""
    async with listening() as scene, scene.client() as one:
        await one.send(get(path))
        if path == "/wait":
            await scene.app.held.acquire()
        else:
            await one.answer()
        (protocol,) = scene.connections
        kept = weakref.ref(protocol)
        del protocol
        reset(one.writer)
        if path == "/wait":
            await asyncio.wait_for(scene.app.left.wait(), 20)
        await eventually(lambda: is_collected(kept))
        assert scene.listener.counts.idle == 0


def is_collected(kept: Callable[[], object]) -> bool:
    """Return whether an object is gone once what is not reachable is collected."""
    gc.collect()
    return kept() is None


@pytest.mark.parametrize("count", [1, 3], ids=["one", "a pipeline"])
@on_skipping_loop
async def test_who_does_not_read_is_given_up(count: int) -> None:
    """A client that leaves its answers unread does not keep its connection, nor its requests."""
    async with listening(**TIMES) as scene, scene.client() as one:
        one.writer.transport.pause_reading()  # type: ignore[attr-defined] # a socket's
        await one.send(get("/large") * count)
        await scene.app.held.acquire()
        await scene.pass_time(WHOLE + 1)
        await eventually(lambda: not scene.connections)
        await eventually(lambda: not scene.listener._state.tasks)


@on_each_loop
async def test_who_reads_in_time_goes_on() -> None:
    """A client that reads late, but in time, gets the whole, and another answer."""
    async with listening() as scene, scene.client() as one:
        one.writer.transport.pause_reading()  # type: ignore[attr-defined] # a socket's
        await one.send(get("/large") + get("/next"))
        await scene.app.held.acquire()
        one.writer.transport.resume_reading()  # type: ignore[attr-defined] # as above
        assert len((await one.answer()).body) == LARGE
        assert (await one.answer()).body == b"/next"
        (protocol,) = scene.connections
        assert protocol.transport._next_count is None


@on_skipping_loop
async def test_who_ends_and_does_not_read_is_given_up() -> None:
    """A client that ends its direction and leaves its answer unread is not waited for for ever."""
    async with listening(request_timeout=100 * HANG) as scene, scene.client() as one:
        one.writer.transport.pause_reading()  # type: ignore[attr-defined] # a socket's
        await one.send(get("/large"))
        await scene.app.held.acquire()
        (protocol,) = scene.connections
        one.writer.write_eof()
        await eventually(protocol.transport.is_closing)
        await scene.pass_time(10 * HANG + 1)
        await eventually(lambda: not scene.connections)


@on_skipping_loop
async def test_who_ends_in_a_request_and_does_not_read_is_gone() -> None:
    """A client that ends in the middle of a request is gone, though it has answers to read."""
    async with listening(request_timeout=100 * HANG) as scene, scene.client() as one:
        one.writer.transport.pause_reading()  # type: ignore[attr-defined] # a socket's
        await one.send(get("/large") + post(length=9))
        await scene.app.held.acquire()
        one.writer.write_eof()
        await eventually(lambda: not scene.connections)


@on_skipping_loop
async def test_who_does_not_read_the_last_answer_is_given_up() -> None:
    """The end of a connection does not wait for ever until its last answer is read."""
    async with listening(request_timeout=100 * HANG) as scene, scene.client() as one:
        one.writer.transport.pause_reading()  # type: ignore[attr-defined] # a socket's
        await one.send(get("/large", b"Connection: close"))
        await scene.app.held.acquire()
        await scene.pass_time(10 * HANG + 1)
        await eventually(lambda: not scene.connections)


# The end


@on_uvloop
async def test_an_old_connection_is_told_to_end() -> None:
    """A connection of some age ends with its next answer, for the client to come anew."""
    async with listening(age=-1.0) as scene, scene.client() as one:
        assert (await one.ask(get())).headers["connection"] == "close"
        assert await one.end() == b""


@on_uvloop
async def test_a_listener_that_retires_ends_connections_with_answers() -> None:
    """It goes on to accept and to answer, but each answer is the last of its connection."""
    async with listening() as scene, scene.client() as one:
        assert (await one.ask(get())).headers.get("connection") is None
        scene.listener.retire()
        async with scene.client() as other:
            for client in (one, other):
                assert (await client.ask(get())).headers["connection"] == "close"
                assert await client.end() == b""


@on_skipping_loop
async def test_a_listener_that_stops_answers_what_is_in_hand() -> None:
    """It waits for the answers, closes who asks nothing, and then takes nobody."""
    async with listening() as scene, scene.client() as idle, held(scene, 1) as (busy,):
        stopping = asyncio.create_task(scene.listener.stop())
        await skip_until(lambda: scene.are_ending(1))
        assert await idle.end() == b""
        assert not stopping.done()
        scene.app.release.set()
        assert (await busy.answer()).headers["connection"] == "close"
        await leave(scene, idle, busy)
        await hurried(stopping)


@on_skipping_loop
async def test_a_request_in_the_last_moment_is_answered() -> None:
    """A request that was on its way when the listener stopped has its answer, however late."""
    async with listening() as scene, scene.client() as one:
        await eventually(lambda: len(scene.connections) == 1)
        (protocol,) = scene.connections
        scene.listener.retire()
        protocol.shutdown()
        await one.send(get("/hold"))
        await scene.app.held.acquire()
        await scene.pass_time(HANG + 1)
        scene.app.release.set()
        assert (await one.answer()).headers["connection"] == "close"
        assert await one.end() == b""


@on_skipping_loop
async def test_a_listener_that_is_cut_ends_now() -> None:
    """What waits is closed, and what is served is ended."""
    async with listening() as scene, scene.client() as idle, held(scene, 1) as (busy,):
        await eventually(lambda: len(scene.connections) == 2)
        stopping = asyncio.create_task(scene.listener.stop())
        scene.listener.cut(HANG)
        assert (await busy.answer()).status == 500
        assert await idle.end() == b""
        await leave(scene, idle, busy)
        await hurried(stopping)


STOPPED = (503, "The service stopped before the request was complete.")


@on_uvloop
async def test_a_request_that_has_not_begun_is_ended_with_an_answer() -> None:
    """A request that is read in the turn of the cut, before its task begins, is answered."""
    async with listening() as scene, scene.client() as one:
        await eventually(lambda: len(scene.connections) == 1)
        (protocol,) = scene.connections
        stopping = asyncio.create_task(scene.listener.stop())
        await asyncio.sleep(0)
        protocol.data_received(get("/hold"))
        scene.listener.cut(HANG)
        assert (await one.answer()).status == 500
        await leave(scene, one)
        await stopping


@on_skipping_loop
async def test_incomplete_requests_are_refused_at_the_cut() -> None:
    """Half a head, half a body, and each that comes after the cut, are answered at once."""
    cases = {name: data for name, (data, _) in HALVES.items()}
    async with listening() as scene, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(scene.client()) for _ in range(2 * len(cases))]
        await eventually(lambda: len(scene.connections) == len(clients))
        before, after = clients[: len(cases)], clients[len(cases) :]
        for client, data in zip(before, cases.values(), strict=True):
            await client.send(data)
        await scene.pass_time(0)
        stopping = asyncio.create_task(scene.listener.stop())
        await asyncio.sleep(0)
        scene.listener.cut(HANG)
        for client, data in zip(after, cases.values(), strict=True):
            await client.send(data)
        answers = [told(await client.answer()) for client in (*before, *after)]
        await leave(scene, *clients)
        await hurried(stopping)
    assert answers == [STOPPED] * len(clients)


@on_uvloop
async def test_who_does_not_read_is_aborted_after_the_cut() -> None:
    """A client that neither reads nor leaves keeps the listener no longer than the cut allows."""
    async with listening() as scene, scene.client() as one:
        await one.send(get("/large"))
        await scene.app.held.acquire()
        stopping = asyncio.create_task(scene.listener.stop())
        await asyncio.sleep(0)
        scene.listener.cut(0.1)
        await stopping
        assert not scene.connections


async def leave(scene: Scene, *clients: Client) -> None:
    """Hang up, and wait until the listener knows."""
    for client in clients:
        client.writer.transport.abort()
    await eventually(lambda: not scene.connections)


async def no_app(_scope: Scope, receive: Receive, send: Send) -> None:
    """Be an application that cannot start."""
    await receive()
    await send({"type": "lifespan.startup.failed", "message": ""})


@on_uvloop
async def test_an_application_that_does_not_start_is_told() -> None:
    """A listener whose application cannot start raises, and serves nothing."""
    bound = sockets.listen(Address("127.0.0.1", 0))
    with (
        closing(bound),
        pytest.raises(RuntimeError, match="the application did not complete its startup"),
    ):
        await HttpListener(no_app, bound, grace=1).start()


# TLS


@on_each_loop
async def test_tls_serves_and_ends_well() -> None:
    """Over TLS requests are answered, and so is what is refused, before the end."""
    async with listening(over_tls=True) as scene, scene.client() as one:
        assert (await one.ask(post(body=b"1"))).body == b"1"
        assert told(await one.ask(b"canary\r\n"))[0] == 400
        assert await one.end() == b""


@on_each_loop
async def test_tls_has_no_half_close() -> None:
    """Over TLS a client that ends its direction is gone: the application knows."""
    with recorded() as log:
        async with listening(over_tls=True) as scene, scene.client() as one:
            await one.send(get("/wait"))
            await scene.app.held.acquire()
            one.writer.close()
            await asyncio.wait_for(scene.app.left.wait(), 20)
    assert "eof_received" not in log.text  # what asyncio writes if it is asked to go on


@on_skipping_loop
async def test_a_silent_handshake_is_ended() -> None:
    """Who does not shake hands has the time of a header, and holds no connection of ours."""
    async with listening(over_tls=True, **TIMES) as scene:
        began = asyncio.get_running_loop().time()
        reader, writer = await connect(scene)
        await skip_until(reader.at_eof)
        assert HEADER <= asyncio.get_running_loop().time() - began < 2 * HEADER
        writer.close()
        await eventually(lambda: not scene.opening)


@on_skipping_loop
async def test_a_silent_handshake_does_not_keep_the_end() -> None:
    """A listener that stops gives a handshake the linger time, and then ends it."""
    async with listening(over_tls=True, linger=1.0) as scene:
        reader, writer = await connect(scene)
        await eventually(lambda: scene.opening == 1)
    assert await is_closed(reader)
    await eventually(lambda: not scene.opening)
    writer.close()


@on_each_loop
async def test_handshakes_are_bounded() -> None:
    """Of silent handshakes there are as many as of connections: the oldest ends for a new one."""
    async with listening(over_tls=True, connections=3) as scene:
        silent = [await connect(scene) for _ in range(6)]
        for reader, _ in silent[:3]:
            assert await is_closed(reader)
        await eventually(lambda: scene.opening == 3)
        async with scene.client() as one:
            assert (await one.ask(get())).status == 200
            assert await is_closed(silent[3][0])
        for _, writer in silent:
            reset(writer)
        await eventually(lambda: not scene.opening)


@on_uvloop
async def test_handshakes_that_fail_are_forgotten() -> None:
    """Whatever is sent in place of a handshake, nothing is left of it."""
    async with listening(over_tls=True, connections=3) as scene:
        gc.disable()
        try:
            for data in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b"") * 3:
                reader, writer = await connect(scene)
                writer.write(data)
                writer.write_eof()
                assert await is_closed(reader)
                writer.close()
            await eventually(lambda: not scene.opening)
        finally:
            gc.enable()


async def connect(scene: Scene) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect, without a handshake."""
    return await asyncio.open_connection(scene.address.host, scene.address.port)


async def is_closed(reader: asyncio.StreamReader) -> bool:
    """Wait for the end of a connection, of whatever kind, and return that it came."""
    with suppress(ConnectionError):
        await reader.read()
    return True


@on_each_loop
async def test_a_handshake_in_progress_is_served() -> None:
    """Who has begun to shake hands when a listener stops can go on, and is answered."""
    async with listening(over_tls=True) as scene:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        assert scene.trust
        tls = scene.trust.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
        reader, writer = await connect(scene)
        with suppress(ssl.SSLWantReadError):
            tls.do_handshake()
        writer.write(outgoing.read())
        incoming.write(await reader.read(65536))
        stopping = asyncio.create_task(scene.listener.stop())
        await eventually(lambda: not accepts(str(scene.address)))
        tls.do_handshake()
        tls.write(get())
        writer.write(outgoing.read())
        received = b""
        while b"200" not in received:
            incoming.write(await reader.read(65536))
            with suppress(ssl.SSLWantReadError):
                received += tls.read()
        assert not stopping.done()
        writer.close()
        await hurried(stopping)


@on_uvloop
async def test_a_handshake_does_not_outlast_the_cut() -> None:
    """A client that connects by TLS and says nothing does not keep a listener that is cut."""
    async with listening(over_tls=True) as scene:
        reader, writer = await connect(scene)
        await eventually(lambda: scene.opening == 1)
        stopping = asyncio.create_task(scene.listener.stop())
        await asyncio.sleep(0)
        scene.listener.cut(0.1)
        await stopping
        writer.close()
        assert await is_closed(reader)
