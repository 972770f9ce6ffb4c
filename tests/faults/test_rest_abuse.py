"""What clients may do to REST (rows R1, R3 to R6 and R11 to R17 of the fault matrix).

Rows R7 to R10 and R18 are about what a well-formed request says; they are tested
where that is read. R2 is in `test_protocol`, and R5 in `test_smuggling`.
"""

import asyncio
import itertools
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest
import pytest_asyncio

from tests.faults.abused import BODY, PROBLEM, Scene, abused, answers_to, exchange, identity
from tests.faults.conditions import MIB, Margin, footprint, recovers
from tests.faults.wire import reset
from tests.raw_http import FORM, GUARD, Received, answer_to, next_answer, sent
from tests.tls.test_reloading import EXPIRED, ME, OLD, STRANGER, Mount, ancient, client, pair, trust
from tests.upstream import TOKEN, Hold
from tests.ways import Deployment, Sent, basic

CONNECTIONS = 100
CLOSE = b"Connection: close"


@pytest_asyncio.fixture(scope="module", name="_scene")
async def _open_scene() -> AsyncIterator[Scene]:
    async with abused(max_connections=str(CONNECTIONS), max_in_flight="60") as scene:
        yield scene


@pytest.fixture
def scene(_scene: Scene) -> Scene:
    """Give the process, its auth-api as new."""
    _scene.upstream.reset()
    return _scene


def problem(received: Received) -> tuple[int, str]:
    """Return the status and the detail of an answer, which must be a problem document."""
    assert received.headers["content-type"] == PROBLEM
    told = json.loads(received.body)
    assert told["status"] == received.status
    return received.status, told["detail"]


async def last_problem(scene: Scene, data: bytes) -> tuple[int, str]:
    """Return the one problem that `data` is answered with, before the connection ends."""
    (received,) = await answers_to(scene.rest, data)
    assert received.headers["connection"] == "close"
    return problem(received)


# Row R1: connections that say nothing.


async def test_r01_idle_connections(scene: Scene) -> None:
    """Of 600 silent connections no more than the limit stay, and others are served meanwhile."""
    async with recovers(scene.good, pid=scene.sidecar.pid, margin=Margin(descriptors=5)):
        before = footprint(scene.sidecar.pid)
        host, port = scene.rest.host, scene.rest.port
        silent = []
        for _ in range(6):
            silent += [await asyncio.open_connection(host, port) for _ in range(CONNECTIONS)]
            await scene.good()
            used = footprint(scene.sidecar.pid).descriptors
            assert used <= before.descriptors + CONNECTIONS + 50
        assert footprint(scene.sidecar.pid).memory < before.memory + 32 * MIB
        async with asyncio.timeout(GUARD):  # those that have waited longest
            ends = [await rest_of(reader) for reader, _ in silent[:-CONNECTIONS]]
        for _, writer in silent:
            writer.close()
    assert ends == [b""] * 5 * CONNECTIONS


async def rest_of(reader: asyncio.StreamReader) -> bytes:
    """Return what comes before the end, which may be a reset."""
    try:
        return await reader.read()
    except ConnectionError:
        return b""


# Row R2, slow clients, is in test_http_front.


# Row R3: floods.


NO_HTTP = (400, "The request must be HTTP/1.1 as RFC 9112 has it.")
CHUNKED = (
    b"POST /v1/oauth/token HTTP/1.1\r\nHost: a\r\n"
    + FORM
    + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
)
START = b"POST / HTTP/1.1\r\nHost: a\r\n"
FLOODS: Mapping[str, tuple[bytes, bytes, int]] = {
    "fields": (START, b"A: a\r\n", 431),
    "a value": (START + b"A: ", b"a" * 1000, 431),
    "a name": (START, b"a" * 1000, 431),
    "a request line": (b"GET /", b"a" * 1000, 414),
    "a method": (b"", b"A" * 1000, 414),
    "an extension": (CHUNKED + b"1;", b"a" * 1000, 400),
    "a size": (CHUNKED, b"0" * 1000, 400),
    "trailers": (CHUNKED + b"0\r\n", b"A: a\r\n", 400),
    "chunks": (CHUNKED, b"1\r\na\r\n", 413),
    "a body": (exchange(body=b"", length=10 * 2**30), b"a" * 1000, 413),
}


async def test_r03_floods(scene: Scene) -> None:
    """Clients send 10 MiB of one thing each: refused at the limit, and others are served."""
    async with recovers(scene.good, pid=scene.sidecar.pid, margin=Margin(memory=8 * MIB)):
        flooding = asyncio.gather(
            *(flood(scene, head, piece) for head, piece, _ in FLOODS.values() for _ in range(2))
        )
        served = 2
        while not flooding.done():
            await scene.good()
            served += 1
        assert await flooding == [status for *_, status in FLOODS.values() for _ in range(2)]
    assert len(scene.upstream.requests) == served


async def flood(scene: Scene, head: bytes, piece: bytes) -> int:
    """Send up to 10 MiB as fast as they are taken, and return the status of the problem."""
    async with asyncio.timeout(3 * GUARD):
        reader, writer = await asyncio.open_connection(scene.rest.host, scene.rest.port)
        writer.write(head)
        sending = asyncio.create_task(pour(writer, piece * (65536 // len(piece))))
        try:
            return problem(await next_answer(reader))[0]
        finally:
            sending.cancel()
            reset(writer)


async def pour(writer: asyncio.StreamWriter, piece: bytes) -> None:
    """Send 10 MiB, or as much as is taken before the end."""
    for _ in range(160):
        writer.write(piece)
        await writer.drain()


# Row R4: lengths.


TOO_LARGE = (413, "The body must not be larger than 16384 bytes.")
BAD_LENGTH = (400, "The length of the body must be given once, by a number or by chunks.")
LENGTHS: Mapping[str, tuple[bytes, tuple[int, str]]] = {
    "10 GiB": (exchange(length=10 * 2**30), TOO_LARGE),
    "10 GiB, expecting 100": (exchange(b"Expect: 100-continue", length=10 * 2**30), TOO_LARGE),
    "one byte too many, expecting 100": (
        exchange(b"Expect: 100-continue", body=b"", length=16 * 1024 + 1),
        TOO_LARGE,
    ),
    "20 digits": (exchange(length=10**20 - 1), TOO_LARGE),
    "21 digits": (exchange(length=10**20), NO_HTTP),
    "chunks over the limit": (CHUNKED + b"4001\r\n" + b"a" * 0x4001, TOO_LARGE),
    "a chunk of 2^64 bytes": (CHUNKED + b"FFFFFFFFFFFFFFFF\r\n" + b"a" * 0x4001, TOO_LARGE),
    **{
        f"of {length.decode()}": (
            b"POST /v1/oauth/token HTTP/1.1\r\nHost: a\r\nContent-Length: %s\r\n\r\n" % length,
            BAD_LENGTH,
        )
        for length in (b"-1", b"+5", b"0x5", b"1_0", b"1e1", b"5.0", b"5 5", b"5,5", b"")
    },
    "two": (exchange(b"Content-Length: 5"), BAD_LENGTH),
    "twice the same": (exchange(b"Content-Length: %d" % len(BODY)), BAD_LENGTH),
}


async def test_r04_lengths(scene: Scene) -> None:
    """What is too large is refused unread and without `100 Continue`, what is no length as such."""
    found = {name: await last_problem(scene, data) for name, (data, _) in LENGTHS.items()}
    assert found == {name: expected for name, (_, expected) in LENGTHS.items()}
    assert scene.upstream.requests == []
    await scene.good()


async def test_r04_more_than_told(scene: Scene) -> None:
    """What follows a body is the next request, here a bad one; it is no part of the body."""
    good, bad = await answers_to(scene.rest, exchange() + b"&client_secret=another\r\n")
    assert good.status == 200
    assert problem(bad)[0] == 400
    assert scene.upstream.requests[0].endswith(b"client_secret=canary-secret-of-the-abuse")


# Row R6: pipelines.


async def test_r06_pipeline(scene: Scene) -> None:
    """A hundred exchanges at once are answered in their order, each once."""
    names = [identity() for _ in range(100)]
    data = b"".join(exchange(request_id=name) for name in names)
    answers = await answers_to(scene.rest, data, ends=True)
    assert [received.status for received in answers] == [200] * 100
    assert [received.headers["x-request-id"].encode() for received in answers] == names
    assert len(scene.upstream.requests) == 100


async def test_r06_pipeline_with_a_bad_request(scene: Scene) -> None:
    """A bad request ends its pipeline: those before it are served, and those behind it not."""
    names = [identity() for _ in range(100)]
    requests = [exchange(request_id=name) for name in names]
    requests[50] = exchange(b"Transfer-Encoding: chunked")
    *served, refused = await answers_to(scene.rest, b"".join(requests))
    assert [received.headers["x-request-id"].encode() for received in served] == names[:50]
    assert (problem(refused), refused.headers["connection"]) == (BAD_LENGTH, "close")
    await scene.good()
    assert len(scene.upstream.requests) == 51
    assert names[51].decode() not in "".join(scene.sidecar.log.seen)


# Row R11: methods and paths.


NO_LINE = "The request line must be a method, a target and HTTP/1.1."
TOKEN_PATH = "/v1/oauth/token"
LINES: Mapping[str, int] = {
    **{f"{method} {TOKEN_PATH}": 405 for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE")},
    **{f"{method} {TOKEN_PATH}": 405 for method in ("TRACE", "post", "Post", "CANARY")},
    f"OPTIONS {TOKEN_PATH}": 204,
    f"{'A' * 8000} {TOKEN_PATH}": 405,
    f"{'A' * 10 * 1024} {TOKEN_PATH}": 414,
    "CONNECT sidecar.test:443": 404,
    f"CONNECT {TOKEN_PATH}": 405,
    "OPTIONS *": 404,
    "POST *": 404,
    "POST //v1/oauth/token": 404,
    "POST /v1//oauth/token": 404,
    "POST /v1/oauth/token/": 404,
    "POST /v1/oauth%2ftoken": 404,
    "POST /v1/oauth/./token": 404,
    "POST /v1/x/../oauth/token": 404,
    "POST /v1/oauth/token;x": 404,
    "POST /v1/oauth/token%00": 400,
    "POST /v1/oauth/token%": 400,
    "POST /v1/oauth/token%0d%0a": 404,
    "POST /v1\\oauth\\token": 404,
    "GET /readyz": 404,
    "GET /v1/../readyz": 404,
    "GET /../../etc/passwd": 404,
    "GET /%2e%2e/readyz": 404,
    "GET http://127.0.0.1:9090/readyz": 404,
    "POST /drain": 404,
    "POST http://other.test/v1/oauth/token": 200,
    "POST token": 404,
    f"POST /{'a' * 10 * 1024}": 414,
}


async def test_r11_methods_and_paths(scene: Scene) -> None:
    """Another method is 405 with Allow, another path 404, however it is written."""
    found = {line: await answer_to_line(scene, line) for line in LINES}
    assert {line: received.status for line, received in found.items()} == LINES
    refused = [received for received in found.values() if received.status == 405]
    assert {received.headers.get("allow") for received in refused} == {"POST, OPTIONS"}


async def answer_to_line(scene: Scene, line: str) -> Received:
    """Return the answer to a good exchange but for its request line."""
    data = exchange(CLOSE).split(b"\r\n", 1)[1]
    return await answer_to(scene.rest, f"{line} HTTP/1.1\r\n".encode() + data)


async def test_r11_control_characters(scene: Scene) -> None:
    """A control character in the request line is no HTTP."""
    for sign in (b"\x00", b"\x0b", b"\x7f", b"\x80", b"\r", b"\n", b"\t", b" "):
        data = exchange().replace(b"/token", b"/to" + sign + b"ken")
        assert await last_problem(scene, data) == (400, NO_LINE)


# Row R12: clients that reset.


async def test_r12_reset_at_each_byte(scene: Scene) -> None:
    """A client that resets after any byte of its request leaves nothing, and fails nothing."""
    data = exchange()
    async with recovers(scene.good, pid=scene.sidecar.pid):
        for size in range(len(data) + 1):
            async with sent(scene.rest, data[:size], resets=True):
                pass


async def test_r12_reset_while_the_auth_api_works(scene: Scene) -> None:
    """After 200 resets during the exchange there is room for as many calls as ever."""
    hold = Hold()
    async with recovers(scene.good, pid=scene.sidecar.pid):
        scene.upstream.script = hold.script
        for _ in range(4):
            await abort(scene, hold, 50)
        hold.release.set()
        scene.upstream.reset()
    statuses = [(await answer_to(scene.rest, exchange(CLOSE))).status for _ in range(5)]
    assert statuses == [200] * 5


async def abort(scene: Scene, hold: Hold, count: int) -> None:
    """Make so many calls at once, and reset all of them when the auth-api has them."""
    names = [identity() for _ in range(count)]
    async with AsyncExitStack() as stack:
        for name in names:
            data = exchange(CLOSE, request_id=name)
            await stack.enter_async_context(sent(scene.rest, data, resets=True))
        await hold.wait_for(count)
    lines = [await scene.line(name) for name in names]
    assert {line["status"] for line in lines} == {499}


# Row R13: half-closed connections.


async def test_r13_half_close(scene: Scene) -> None:
    """A client that ends its direction, while it waits, gets its answer, and the end."""
    hold = Hold()
    scene.upstream.script = hold.script
    asking = asyncio.create_task(answers_to(scene.rest, exchange(), ends=True))
    await hold.wait_for(1)
    hold.release.set()
    (received,) = await asking
    assert (received.status, received.headers["connection"]) == (200, "close")
    assert json.loads(received.body) == dict(TOKEN)


# Row R14: fields of proxies and of tracing.


UNTRUSTED: Mapping[str, bytes] = {
    "X-Request-Id of 10 KiB": b"X-Request-Id: " + b"canary" * 1700,
    "X-Request-Id beyond ASCII": b"X-Request-Id: canary\xc3\xa9",
    "X-Request-Id that is escaped": b"X-Request-Id: canary%0d%0acanary",
    "X-Request-Id of another form": b"X-Request-Id: canary",
    "X-Request-Id twice": b"X-Request-Id: canary\r\nX-Request-Id: canary",
    "no X-Request-Id": b"X-Request-Id:",
    "traceparent": b"traceparent: 00-canary-canary-01",
    "traceparent of 10 KiB": b"traceparent: " + b"canary" * 1700,
    "tracestate": b"tracestate: canary=canary",
    "X-Forwarded-For": b"X-Forwarded-For: 198.51.100.77",
    "X-Forwarded-For of 10 KiB": b"X-Forwarded-For: " + b"198.51.100.77, " * 600,
    "X-Forwarded-Host": b"X-Forwarded-Host: canary.test",
    "X-Forwarded-Proto": b"X-Forwarded-Proto: canary",
    "Forwarded": b"Forwarded: for=198.51.100.77;host=canary;proto=canary",
    "Host": b"X-Host: canary",
}


async def test_r05_the_log_tells_what_was_wrong(scene: Scene) -> None:
    """The line of a request that is refused before it is one has the words of its answer."""
    for data in (b"GET /\r\n", b"GET / HTTP/1.1\r\n\r\n"):
        received = await answer_to(scene.rest, data)
        line = await scene.line(received.headers["x-request-id"].encode())
        assert line["refusal"] == json.loads(received.body)["detail"]


async def test_r14_fields_of_strangers(scene: Scene) -> None:
    """What only a proxy may tell changes nothing, and is neither answered, logged nor sent on."""
    for name, field in UNTRUSTED.items():
        received = await answer_to(scene.rest, exchange(CLOSE, field))
        assert received.status == 200, name
        line = await scene.line(received.headers["x-request-id"].encode())
        assert "client_address" not in line
        for shown in (str(received), str(line), scene.upstream.requests[-1].decode("latin-1")):
            signs = ("canary.", "canary%", "198.51.100.77", "canaryc")
            assert not any(sign in shown for sign in signs), name


async def test_r14_identity_with_a_line_end(scene: Scene) -> None:
    """A line end in a field's value is no part of it, and the request no HTTP."""
    for sign in (b"\r", b"\n", b"\x00"):
        data = exchange(b"X-Request-Id: canary" + sign + b"X-Injected: canary")
        assert (await last_problem(scene, data))[0] == 400


# Row R15: line ends in what reaches the auth-api.


GOOD = {"grant_type": "client_credentials", "client_id": "partner", "client_secret": "secret"}
SIGNS = ("\r\n", "\n", "\r", "\x00")
INJECTIONS = [
    *(
        Sent(fields={**GOOD, name: f"canary{sign}X-Injected: canary"})
        for name in GOOD
        for sign in SIGNS
    ),
    *(
        Sent(
            fields={"grant_type": "client_credentials"},
            authorization=(basic(f"canary{sign}X-Injected: canary", f"canary{sign}canary"),),
        )
        for sign in SIGNS
    ),
]


async def test_r15_line_ends(deployment: Deployment) -> None:
    """By every way in, what holds a line end or NUL is refused, and the auth-api hears nothing."""
    for injected, way in itertools.product(INJECTIONS, deployment.ways.values()):
        outcome = await way(injected)
        assert outcome.problem
        assert outcome.problem["status"] in {400, 401}
        assert not any("Injected" in f"{name}{value}" for name, value in outcome.headers.items())
    assert deployment.upstream.requests == []


# Row R16: browsers of other origins.


async def test_r16_other_origins(scene: Scene) -> None:
    """No other origin is let in: neither a preflight nor an answer says so, for any."""
    origin = b"Origin: https://other.test"
    preflight = (
        b"OPTIONS /v1/oauth/token HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        b"Access-Control-Request-Method: POST\r\n" + origin + b"\r\n\r\n"
    )
    asked = await answer_to(scene.rest, preflight)
    served = await answer_to(scene.rest, exchange(CLOSE, origin))
    assert (asked.status, served.status) == (204, 200)
    names = {*asked.headers, *served.headers}
    assert not any(name.startswith("access-control-") for name in names)


# Row R17: TLS. Each server by itself, and each client certificate, is in test_tls.


async def test_r17_tls(tmp_path: Path) -> None:
    """Whoever comes with old TLS or a bad certificate is ended, and others are served."""
    mount = Mount(tmp_path, pair(ME) | trust(OLD))
    files = {
        "rest_tls_certificate": str(tmp_path / "tls.crt"),
        "rest_tls_key": str(tmp_path / "tls.key"),
        "rest_tls_client_ca": str(tmp_path / "ca.crt"),
    }
    assert mount.folder == tmp_path
    good, data = client(own=ME), exchange(CLOSE)
    refused = [
        ancient(ssl.TLSVersion.TLSv1),
        ancient(ssl.TLSVersion.TLSv1_1),
        client(),
        client(own=EXPIRED),
        client(own=STRANGER),
    ]
    async with abused(**files) as scene:
        assert await ask(scene, good, data) == 200
        async with recovers(lambda: ask(scene, good, data), pid=scene.sidecar.pid):
            assert [await ask(scene, context, data) for context in refused] == [None] * 5
        assert len(scene.upstream.requests) == 3


async def ask(scene: Scene, context: ssl.SSLContext, data: bytes) -> int | None:
    """Return the status of an answer by TLS, or None if there is none."""
    with suppress(OSError, asyncio.IncompleteReadError):
        async with asyncio.timeout(GUARD), AsyncExitStack() as stack:
            opening = asyncio.open_connection(scene.rest.host, scene.rest.port, ssl=context)
            reader, writer = await opening
            stack.callback(writer.transport.abort)
            writer.write(data)
            return (await next_answer(reader)).status
    return None
