"""Whatever hangs on the way to the auth-api, the process ends when it is told to."""

import asyncio
import select
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, closing
from functools import partial
from pathlib import Path
from signal import SIGTERM
from types import MappingProxyType

import pytest
import pytest_asyncio

from tests.faults.conditions import eventually
from tests.faults.test_upstream_faults import full
from tests.faults.upstream_scene import SYN_SENT, connections
from tests.faults.wire import LOOPBACK, held_port, host_and_port
from tests.patience import PATIENT
from tests.sidecar_process import ROOT, SIDECAR, Sidecar, serving

# A name whose look-up never returns; each look-up writes a line.
NAME = "auth-api.test"
LOOK_UP = f"""
import socket, sys, threading
system = socket.getaddrinfo
def look_up(host, *arguments, **options):
    if host == "{NAME}":
        print("look-up begins", file=sys.stderr, flush=True)
        threading.Event().wait()
    return system(host, *arguments, **options)
socket.getaddrinfo = look_up
from sidecar.cli import main
sys.exit(main())
"""
PROGRAM = (sys.executable, "-c", LOOK_UP)
NOWHERE = f"http://{LOOPBACK}:1/token"
GRACE = float(PATIENT["termination_grace"].removesuffix("s"))


def running(
    url: str, program: Sequence[str | Path] = SIDECAR
) -> AbstractAsyncContextManager[Sidecar]:
    """Run a sidecar before the auth-api at `url`."""
    return serving("serve", program=program, env=None, cwd=ROOT, auth_api_token_url=url, **SHORT)


def call(sidecar: Sidecar, stack: AsyncExitStack) -> None:
    """Begin a call whose response nobody waits for."""
    client = socket.create_connection(host_and_port(sidecar.addresses["rest"]))
    stack.enter_context(closing(client))
    body = b"grant_type=client_credentials&client_id=a&client_secret=b"
    client.sendall(
        b"POST /v1/oauth/token HTTP/1.1\r\nHost: a\r\n"
        b"Content-Type: application/x-www-form-urlencoded\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )


# So that a process whose calls hang need not be waited for, whatever it waits for itself.
SHORT: Mapping[str, str] = MappingProxyType(
    {
        "auth_api_connect_timeout": "2s",
        "auth_api_try_timeout": "2.5s",
        "auth_api_timeout": "3s",
        "header_timeout": "2s",
        "request_timeout": "3s",
        "drain_timeout": "4s",
    }
)


async def ends(sidecar: Sidecar) -> None:
    """Check that the process ends by one signal, within its termination grace."""
    sidecar.signal(SIGTERM)
    async with asyncio.timeout(GRACE):
        end = await sidecar.ended()
    assert (end.status, '"message": "stopped"' in end.stdout) == (0, True)


async def look_ups_hang(count: int) -> None:
    """Let one look-up hang, or as many as there may be, while more calls wait for them."""
    url = f"http://{NAME}:1/token"
    async with (
        AsyncExitStack() as stack,
        running(url, PROGRAM) as sidecar,
    ):

        def have_begun() -> bool:
            call(sidecar, stack)  # the second begins once the first counts as hung
            return sum("look-up begins" in line for line in sidecar.stderr.seen) == count

        await eventually(have_begun)
        await ends(sidecar)


@asynccontextmanager
async def backlog_full() -> AsyncIterator[tuple[str, Callable[[], bool]]]:
    """Give the address of a port that never accepts, and whether somebody waits there."""
    with held_port() as port:
        address = f"{LOOPBACK}:{port}"
        with full(address):
            waiting = connections(address, SYN_SENT)
            yield f"http://{address}/token", lambda: connections(address, SYN_SENT) > waiting


@asynccontextmanager
async def silent(scheme: str) -> AsyncIterator[tuple[str, Callable[[], bool]]]:
    """Give the URL of a server that reads and never writes, and whether it has read."""
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            heard.append(data)
        writer.close()

    server = await asyncio.start_server(listen, LOOPBACK, 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"{scheme}://{LOOPBACK}:{port}/token", lambda: bool(heard)


async def a_step_hangs(step: str) -> None:
    """Let a connection not open, a handshake not go on, or a response not come."""
    schemes = {"handshake": "https", "response": "http"}
    scene = silent(schemes[step]) if step in schemes else backlog_full()
    async with (
        AsyncExitStack() as stack,
        scene as (url, is_there),
        running(url) as sidecar,
    ):
        call(sidecar, stack)
        await eventually(is_there)
        await ends(sidecar)


SCENES: Mapping[str, Callable[[], Coroutine[None, None, None]]] = MappingProxyType(
    {
        "one look-up": partial(look_ups_hang, 1),
        "two look-ups": partial(look_ups_hang, 2),
        "connect": partial(a_step_hangs, "connect"),
        "handshake": partial(a_step_hangs, "handshake"),
        "response": partial(a_step_hangs, "response"),
    }
)


@pytest_asyncio.fixture(scope="module", name="scenes")
async def _scenes() -> Mapping[str, asyncio.Task[None]]:
    """Begin all scenes at once: they mostly wait."""
    return {name: asyncio.create_task(scene()) for name, scene in SCENES.items()}


@pytest.mark.timing("the calls never end by themselves, however slow the drain is")
@pytest.mark.parametrize("name", SCENES)
async def test_a_step_of_an_exchange(name: str, scenes: Mapping[str, asyncio.Task[None]]) -> None:
    """Whichever step hangs, the process ends within its termination grace."""
    await scenes[name]


@pytest.mark.timing("nothing is ever read, however long it takes to fill the buffers")
async def test_a_client_that_reads_nothing() -> None:
    """Responses fill every buffer on the way to a REST client."""
    async with running(NOWHERE) as sidecar:
        with closing(socket.socket()) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(host_and_port(sidecar.addresses["rest"]))
            client.setblocking(False)
            await eventually(lambda: is_full(client))
            await ends(sidecar)


def is_full(client: socket.socket) -> bool:
    """Send requests; return whether no more of them can be sent for a second."""
    try:
        while True:
            client.send(b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n" * 100)
    except BlockingIOError:
        return not select.select([], [client], [], 1.0)[1]
