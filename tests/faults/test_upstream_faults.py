"""The auth-api cannot be reached, or goes away: callers of both protocols are told, and soon.

Rows U1 to U8 of the fault matrix.
"""

import asyncio
import contextlib
import itertools
import logging
import random
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psutil
import pytest

from tests.faults import scripted
from tests.faults.conditions import eventually
from tests.faults.flow import SILENT, Fault
from tests.faults.upstream_scene import (
    BOTH,
    GRANT,
    GUARD,
    LOST,
    MOST,
    SENT,
    TIMEOUT,
    UNAVAILABLE,
    Scene,
    assert_token,
    assert_told,
    delay_of,
    open_scene,
    url_of,
)
from tests.faults.wire import LOOPBACK, held_port, host_and_port
from tests.process import Sidecar, started
from tests.upstream import TOKEN, answer
from tests.ways import Sent, open_house

# With this seed the waits before second tries are long: more than 40 ms of at most 50.
LONG_WAITS = 34530
NAME = "auth-api.test"
DOWN = "not tried: it is down"

# Nobody listens


@pytest.mark.parametrize("way", BOTH)
async def test_u01_port_closed(way: str) -> None:
    """A refused connection is tried once more, after a moment, and then told with a delay."""
    async with open_scene() as scene:
        scene.chaos.refuse()
        outcome = await scene.fails(way, UNAVAILABLE)
        line = await scene.line_of(outcome)
        assert delay_of(outcome) == 1
        assert line["upstream_fault"] == "ConnectError: ConnectionRefusedError"
        assert line["upstream_tries"] == 2
        assert line["upstream_ms"] < 1000
        await scene.chaos.accept()
        await scene.works_in_full()


async def test_u01_every_address_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with several addresses, all of which refuse, is one that refuses."""
    find = socket.getaddrinfo

    def find_two(host: bytes | str, port: int, *rest: Any, **options: Any) -> Any:
        if host not in {NAME, NAME.encode()}:
            return find(host, port, *rest, **options)
        stream = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [(*stream, (address, port)) for address in (LOOPBACK, "127.0.0.2")]

    monkeypatch.setattr(socket, "getaddrinfo", find_two)
    with held_port() as port:
        async with open_scene(auth_api_token_url=url_of(f"{NAME}:{port}")) as scene:
            line = await scene.line_of(await scene.fails("form", UNAVAILABLE))
    assert line["upstream_fault"] == "ConnectError: ConnectionRefusedError"
    assert line["upstream_tries"] == 2


@pytest.mark.parametrize("way", BOTH)
async def test_u01_a_second_try_spares_the_caller(way: str) -> None:
    """An auth-api that comes back while the second try waits costs its caller nothing."""
    async with open_scene() as scene:
        scene.chaos.refuse()
        random.seed(LONG_WAITS)
        with noticed("connect_tcp.failed") as refused:
            asking = asyncio.create_task(scene.ask(way))
            await refused.wait()
        await scene.chaos.accept()
        assert_token(await asking)
        await scene.log.wait_for(1)
        assert '"upstream_tries": 2' in scene.log.text
        assert len(scene.upstream.requests) == 1


@contextmanager
def noticed(text: str) -> Iterator[asyncio.Event]:
    """Give an event that is set as soon as the client library logs `text`."""
    event, logger = asyncio.Event(), logging.getLogger("httpcore2.connection")

    def notice(record: logging.LogRecord) -> bool:
        if text in record.getMessage():
            event.set()
        return True

    logger.addFilter(notice)
    yield event
    logger.removeFilter(notice)


async def test_u01_fails_fast_and_recovers() -> None:
    """After five refusals calls fail at once and reach nobody, until one look finds it back."""
    async with open_scene() as scene:
        scene.chaos.refuse()
        faults = []
        for way in BOTH * MOST:
            outcome = await scene.fails(way, UNAVAILABLE)
            faults.append((await scene.line_of(outcome))["upstream_fault"])
        assert 3 <= faults.index(DOWN) <= 5  # each failed once or twice before
        assert set(faults[faults.index(DOWN) :]) == {DOWN}
        await scene.chaos.accept()
        for way in BOTH * 10:
            outcome = await scene.fails(way, UNAVAILABLE)
            assert delay_of(outcome) in {1, 2}
        assert await scene.pushback() == "1000"
        assert scene.chaos.accepted == 0
        await eventually(lambda: _is_served(scene))
        assert scene.chaos.accepted == len(scene.upstream.requests) == 1
        await scene.works_in_full()
        told = [line for line in scene.log.entries if line["message"].startswith("auth-api")]
        assert [(line["level"], line["message"], line.get("fault")) for line in told] == [
            ("warning", "auth-api down", "ConnectError: ConnectionRefusedError"),
            ("info", "auth-api up", None),
        ]


async def _is_served(scene: Scene) -> bool:
    return (await scene.ask("form")).token is not None


async def test_u01_what_is_slow_is_not_down() -> None:
    """An auth-api that connects again, though it answers no one yet, is tried by every call."""
    async with open_scene(auth_api_connect_timeout="200ms", auth_api_try_timeout="500ms") as scene:
        scene.chaos.refuse()
        outcome = await scene.fails("form", UNAVAILABLE)
        while (await scene.line_of(outcome))["upstream_fault"] != DOWN:
            outcome = await scene.fails("form", UNAVAILABLE)
        await scene.chaos.accept()
        scene.upstream.script = scene.upstream.hang
        while (outcome := await scene.ask("form")).status == 503:
            assert (await scene.line_of(outcome))["upstream_fault"] == DOWN
        assert_told(outcome, TIMEOUT)
        for way in BOTH * 2:
            await scene.fails(way, TIMEOUT)


@pytest.mark.parametrize("way", BOTH)
async def test_u02_backlog_full(way: str) -> None:
    """A connection that is never taken ends with the time to connect, long before the try's."""
    async with open_scene(auth_api_try_timeout="7s") as scene:
        scene.chaos.refuse()
        with full(scene.chaos.address):
            outcome = await scene.fails(way, TIMEOUT)
        line = await scene.line_of(outcome)
        assert delay_of(outcome) == 1
        assert line["upstream_fault"].startswith("ConnectTimeout")
        assert 200 <= line["upstream_ms"] < 2000
        await scene.chaos.accept()
        await scene.works_in_full()


@contextmanager
def full(address: str) -> Iterator[None]:
    """Listen with a queue that has no place left: the kernel drops what comes."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(
            socket.create_server(host_and_port(address), backlog=0, reuse_port=True)
        )
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield


# Nobody answers


@pytest.mark.parametrize("way", BOTH)
async def test_u03_accepts_and_never_answers(way: str) -> None:
    """One try has its own time, shorter than the exchange's, and the socket is closed after it."""
    async with open_scene() as scene:
        scene.upstream.script = scene.upstream.hang
        outcome = await scene.fails(way, TIMEOUT)
        assert 800 <= (await scene.line_of(outcome))["upstream_ms"] < 8000
        await scene.upstream.gone.wait()
        assert len(scene.upstream.requests) == 1  # it may have counted; it is not sent again
        await scene.works_in_full()


# The token tells whose request is answered.
LONE = """
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        token = {"access_token": "of-" + form["client_id"][0], "token_type": "Bearer"}
        body = json.dumps(token | {"expires_in": 60}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

ThreadingHTTPServer.request_queue_size = 64
server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
print(json.dumps({"message": "serving", "port": server.server_port}), flush=True)
server.serve_forever()
"""


@asynccontextmanager
async def lone_upstream(port: int = 0) -> AsyncIterator[Sidecar]:
    """Run an upstream in a process of its own."""
    async with started(sys.executable, "-c", LONE, str(port)) as process:
        await process.serve()
        yield process


def url_of_process(process: Sidecar) -> str:
    """Return the token endpoint of an upstream in a process of its own."""
    return url_of(f"{LOOPBACK}:{process.addresses['port']}")


def request_of(client_id: str) -> Sent:
    """Return a good request of another client."""
    return Sent(fields={**GRANT, "client_id": client_id, "client_secret": "secret"})


async def test_u04_a_stopped_upstream_continues() -> None:
    """What a stopped auth-api answers when it continues reaches nobody but who asked for it."""
    async with (
        lone_upstream() as process,
        open_scene(auth_api_token_url=url_of_process(process)) as scene,
    ):
        process.signal(signal.SIGSTOP)
        for way in BOTH:
            assert_told(await scene.ask(way, request_of("early")), TIMEOUT)
        process.signal(signal.SIGCONT)
        for way, number in itertools.product(BOTH, range(20)):
            outcome = await scene.ask(way, request_of(f"late-{number}"))
            assert_token(outcome, f"of-late-{number}")


PATIENT = {
    "auth_api_try_timeout": "25s",
    "auth_api_timeout": "26s",
    "drain_timeout": "27s",
    "termination_grace": "60s",
}


async def test_u05_a_killed_upstream() -> None:
    """Calls in flight fail when the auth-api is killed, not by their time; the next is served."""
    async with contextlib.AsyncExitStack() as stack:
        process = await stack.enter_async_context(lone_upstream())
        port = int(process.addresses["port"])
        scene = await stack.enter_async_context(
            open_scene(auth_api_token_url=url_of_process(process), **PATIENT)
        )
        process.signal(signal.SIGSTOP)
        calls = [asyncio.create_task(scene.ask(way)) for way in BOTH * (MOST // 2)]
        await eventually(lambda: connections_to(port) == MOST)
        start = time.monotonic()
        await process.kill()
        for outcome in await asyncio.gather(*calls):
            assert_told(outcome, LOST)
            assert "upstream_tries" not in await scene.line_of(outcome)
        assert time.monotonic() - start < 10
        await stack.enter_async_context(lone_upstream(port))
        for way in BOTH:
            assert_token(await scene.ask(way, request_of("next")), "of-next")


def connections_to(port: int) -> int:
    """Return how many connections this process has to a port."""
    connections = psutil.Process().net_connections(kind="tcp4")
    return sum(
        connection.status == psutil.CONN_ESTABLISHED and connection.raddr.port == port
        for connection in connections
    )


GOOD = answer(200, TOKEN)
RESETS = {"at once": b"", "in the head": GOOD[:40], "in the body": GOOD[:-5]}


@pytest.mark.parametrize("after", RESETS.values(), ids=RESETS)
async def test_u06_reset(after: bytes) -> None:
    """An answer that is reset is used by no part, and its request is not sent again."""
    async with open_scene() as scene:
        scene.upstream.script = scripted.resets(after=after)
        for way in BOTH:
            await scene.fails(way, LOST)
        assert len(scene.upstream.requests) == len(BOTH)
        await scene.works_in_full()


@pytest.mark.parametrize("way", BOTH)
async def test_u07_half_open(way: str) -> None:
    """A peer that falls silent, with its sockets open, costs one try's time, and no later call."""
    async with open_scene() as scene:
        await scene.works()
        scene.chaos.fault = SILENT
        outcome = await scene.fails(way, TIMEOUT)
        assert 800 <= (await scene.line_of(outcome))["upstream_ms"] < 8000
        scene.chaos.fault = Fault()
        await scene.works_in_full()


async def test_u08_closes_when_idle() -> None:
    """Of 2,000 exchanges none fails, or is sent twice, whenever the auth-api closes after it.

    It closes 0 to 20 ms after its answer, while the next request is on its way: the
    race that no client wins that uses a connection twice.
    """
    after = itertools.cycle(range(21))

    async def closes_later(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(200, TOKEN, Connection="keep-alive"))
        await writer.drain()
        await asyncio.sleep(next(after) / 1000)

    async with asyncio.timeout(GUARD), open_house() as house:
        house.upstream.script = closes_later

        async def ask_in_turn(way: str, times: int) -> int:
            outcomes = [await house.ways[way](SENT) for _ in range(times)]
            return sum(outcome.token is not None for outcome in outcomes)

        # Most of them by the shortest way, for the callers' side has no part in the race.
        shares = {"form": 20, "grpc": 20, "grpc in process": 160}
        served = await asyncio.gather(
            *(ask_in_turn(*share) for share in shares.items() for _ in range(10))
        )
        assert sum(served) == len(house.upstream.requests) == 2000
