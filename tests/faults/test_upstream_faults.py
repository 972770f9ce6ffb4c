"""The auth-api cannot be reached, or goes away: callers of both protocols are told, and soon.

Rows U1 to U8 of the fault matrix.
"""

import asyncio
import contextlib
import itertools
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import pytest

from sidecar.auth_api import client, retry
from sidecar.auth_api.fail_fast import FailFast
from sidecar.auth_api.retry import RetryBudget
from tests.faults import scripted
from tests.faults.upstream_scene import (
    BOTH,
    ESTABLISHED,
    GRANT,
    LOST,
    MOST,
    SENT,
    UNAVAILABLE,
    Scene,
    assert_token,
    assert_told,
    connections,
    delay_of,
    open_scene,
    skip,
    url_of,
)
from tests.faults.wire import LOOPBACK, held_port, host_and_port
from tests.sidecar_process import Sidecar, started
from tests.upstream import TOKEN, answer
from tests.ways import Sent, open_deployment

pytestmark = pytest.mark.unmeasured

NAME = "auth-api.test"
DOWN = "fail_fast"

# Nobody listens


async def test_u01_port_closed() -> None:
    """A refused connection is tried once more, after a moment, and then told with a delay."""
    async with open_scene() as scene:
        for way in BOTH:
            scene.chaos.refuse()
            outcome = await scene.fails(way, UNAVAILABLE)
            line = await scene.line_of(outcome)
            assert delay_of(outcome) == 1
            assert line["upstream_fault"] == "refused"
            assert line["upstream_tries"] == 2
            await scene.chaos.accept()
            for _ in range(2):  # which earns the second way its second try
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
    assert line["upstream_fault"] == "refused"
    assert line["upstream_tries"] == 2


async def test_u01_a_second_try_spares_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """An auth-api that comes back while the second try waits costs its caller nothing."""
    refused = asyncio.Event()

    def pause() -> float:
        refused.set()
        return 10.0

    monkeypatch.setattr(retry, "jitter", pause)
    async with open_scene() as scene:
        scene.chaos.refuse()
        asking = asyncio.create_task(scene.ask("form"))
        await refused.wait()
        await scene.chaos.accept()
        skip(10)
        assert_token(await asking)
        await scene.log.wait_for(1)
        assert '"upstream_tries": 2' in scene.log.text
        assert len(scene.upstream.requests) == 1


@pytest.fixture(name="wait")
def _wait(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Give what moves the clock of fail-fast, which stands still otherwise, by seconds."""
    now = [0.0]
    for kind in (FailFast, RetryBudget):
        monkeypatch.setattr(client, kind.__name__, partial(kind, now=lambda: now[0]))

    def wait(seconds: float) -> None:
        now[0] += seconds

    return wait


async def test_u01_fails_fast_and_recovers(wait: Callable[[float], None]) -> None:
    """After five refusals calls fail at once and reach nobody, until one look finds it back."""
    async with open_scene() as scene:
        scene.chaos.refuse()
        faults = []
        for way in BOTH * 3:
            outcome = await scene.fails(way, UNAVAILABLE)
            faults.append((await scene.line_of(outcome))["upstream_fault"])
        assert [fault == DOWN for fault in faults] == [False] * 4 + [True] * 2  # one tried twice
        await scene.chaos.accept()
        for way in BOTH * 2:
            assert delay_of(await scene.fails(way, UNAVAILABLE)) == 1
        assert await scene.pushback() == "1000"
        assert scene.chaos.accepted == 0
        wait(1)
        assert_token(await scene.ask("form"))
        assert scene.chaos.accepted == len(scene.upstream.requests) == 1
        await scene.works_in_full()
        lines = [line for line in scene.log.entries if line["level"] != "debug"]
        states = [line for line in lines if line["message"].startswith("auth-api")]
        assert [(line["level"], line["message"], line.get("fault")) for line in states] == [
            ("warning", "auth-api down", "refused"),
            ("info", "auth-api up", None),
        ]


async def test_u01_what_is_slow_is_not_down(wait: Callable[[float], None]) -> None:
    """An auth-api that connects again, though it answers no one yet, is tried by every call."""
    async with open_scene() as scene:
        scene.chaos.refuse()
        for _ in range(4):
            await scene.fails("form", UNAVAILABLE)
        outcome = await scene.fails("form", UNAVAILABLE)
        assert (await scene.line_of(outcome))["upstream_fault"] == DOWN
        await scene.chaos.accept()
        scene.upstream.script = scene.upstream.hang
        wait(1)
        for way in ("form", *BOTH):
            await scene.times_out(way)
        assert len(scene.upstream.requests) == 3


@pytest.mark.parametrize("way", BOTH)
async def test_u02_backlog_full(scene: Scene, way: str) -> None:
    """A connection that is never taken ends with the time to connect, long before the try's."""
    scene.chaos.refuse()
    with full(scene.chaos.address):
        outcome = await scene.times_out(way, step="open")
    assert delay_of(outcome) == 1
    assert (await scene.line_of(outcome))["upstream_fault"] == "connect_timeout"
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
async def test_u03_accepts_and_never_answers(scene: Scene, way: str) -> None:
    """One try has its own time, shorter than the exchange's, and the socket is closed after it."""
    scene.upstream.script = scene.upstream.hang
    await scene.times_out(way)
    await scene.upstream.gone.wait()
    assert len(scene.upstream.requests) == 1  # it may have counted; it is not sent again
    await scene.works_in_full()


# It says which requests it has read. The token tells whose request is answered; those of
# clients whose name begins with "held" are not.
LONE = """
import json, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        client = form["client_id"][0]
        print(f"read {client};\\n", end="", flush=True)
        if client.startswith("held"):
            threading.Event().wait()
        token = {"access_token": "of-" + client, "token_type": "Bearer"}
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
        address = f"{LOOPBACK}:{process.addresses['port']}"
        for way in BOTH:
            await scene.times_out(
                way, request_of("early"), count=partial(connections, address, ESTABLISHED)
            )
        process.signal(signal.SIGCONT)
        for way, number in itertools.product(BOTH, range(20)):
            outcome = await scene.ask(way, request_of(f"late-{number}"))
            assert_token(outcome, f"of-late-{number}")


async def test_u05_a_killed_upstream() -> None:
    """Calls in flight fail when the auth-api is killed, not by their time; the next is served."""
    async with contextlib.AsyncExitStack() as stack:
        process = await stack.enter_async_context(lone_upstream())
        port = int(process.addresses["port"])
        scene = await stack.enter_async_context(
            open_scene(auth_api_token_url=url_of_process(process))
        )
        clients = [f"held-{number}" for number in range(MOST)]
        calls = [
            asyncio.create_task(scene.ask(way, request_of(client)))
            for way, client in zip(BOTH * (MOST // 2), clients, strict=True)
        ]
        for client in clients:
            await process.log.find(f"read {client};")
        await process.kill()
        for outcome in await asyncio.gather(*calls):
            assert_told(outcome, LOST)
            assert "upstream_tries" not in await scene.line_of(outcome)
        await stack.enter_async_context(lone_upstream(port))
        for way in BOTH:
            assert_token(await scene.ask(way, request_of("next")), "of-next")


GOOD = answer(200, TOKEN)
RESETS = {"at once": b"", "in the head": GOOD[:40], "in the body": GOOD[:-5]}


@pytest.mark.parametrize("after", RESETS.values(), ids=RESETS)
async def test_u06_reset(scene: Scene, after: bytes) -> None:
    """An answer that is reset is used by no part, and its request is not sent again."""
    scene.upstream.script = scripted.resets(after=after)
    for way in BOTH:
        await scene.fails(way, LOST)
    assert len(scene.upstream.requests) == len(BOTH)
    await scene.works_in_full()


@pytest.mark.parametrize("way", BOTH)
async def test_u07_half_open(scene: Scene, way: str) -> None:
    """A peer that falls silent, with its sockets open, costs one try's time, and no later call."""
    await scene.works()
    scene.chaos.is_silent = True
    await scene.times_out(way)
    scene.chaos.is_silent = False
    await scene.works_in_full()


async def test_u08_closes_when_idle() -> None:
    """An auth-api that keeps connections, and loses the second request on each, loses none."""
    async with (
        scripted.KeepAlive(idle=60, answers=1) as server,
        open_deployment(auth_api_token_url=server.url) as deployment,
    ):
        for way in BOTH * 20:
            assert_token(await deployment.ways[way](SENT))
        # Each connection but the last has answered one request, and lost the next.
        assert server.connections == 40
        assert len(server.requests) == 40 + 39
