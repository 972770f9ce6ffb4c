"""Show what cancelled calls do to the pool of httpx and of httpx2, and what a call costs in each.

Usage: `python 0001-pool-leak.py httpx` or `python 0001-pool-leak.py httpx2`. The server answers
from a process of its own, on 127.0.0.1, so that its CPU time is not counted. The decision that
rests on this is in `0001-httpx2-for-httpx.md`.
"""

import asyncio
import importlib
import itertools
import platform
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx2  # stands for both: they have one interface

SLOTS = 5
WORKERS = 12
ABANDON_FOR = 2.0  # seconds
# From "no connection yet" to "answered": a caller's deadline falls anywhere.
DEADLINES = [step / 10_000 for step in range(1, 101)]  # seconds
PATIENCE = 10.0  # seconds, far above any timeout of the client
CALLS = 1_600


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer every request of one connection with 200, until the peer goes."""
    try:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def serve() -> None:
    """Print the port, then answer until stdin closes."""
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()


@asynccontextmanager
async def running_server() -> AsyncIterator[str]:
    """Yield the base URL of a healthy server."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, __file__, "serve"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout  # noqa: S101 - tells the type checker that the pipe is there
    try:
        yield f"http://127.0.0.1:{int(await process.stdout.readline())}"
    finally:
        await process.communicate(b"")  # closes stdin, which ends it


def transport_of(library: str, slots: int) -> "httpx2.AsyncHTTPTransport":
    """Return a transport of `library` whose pool has `slots` connections."""
    http = importlib.import_module(library)
    limits = http.Limits(max_connections=slots, max_keepalive_connections=slots)
    transport: httpx2.AsyncHTTPTransport = http.AsyncHTTPTransport(limits=limits)
    return transport


def client_of(
    library: str, url: str, transport: "httpx2.AsyncHTTPTransport"
) -> "httpx2.AsyncClient":
    """Return a client of `library` that calls `url` by way of `transport`, with 1 s timeouts."""
    http = importlib.import_module(library)
    client: httpx2.AsyncClient = http.AsyncClient(transport=transport, base_url=url, timeout=1.0)
    return client


async def outcome(client: "httpx2.AsyncClient", deadline: float) -> str:
    """Call once and return the status, or what ended the call; `deadline` is in seconds."""
    try:
        async with asyncio.timeout(deadline):
            return str((await client.get("/")).status_code)
    except TimeoutError:
        return "cancelled"
    except Exception as error:  # noqa: BLE001 - whatever ended the call is the finding
        return type(error).__name__


async def abandon_calls(client: "httpx2.AsyncClient") -> Counter[str]:
    """Let every worker call with deadlines that cancel most calls, and count the outcomes."""
    end = time.monotonic() + ABANDON_FOR
    deadlines = itertools.cycle(DEADLINES)
    outcomes: Counter[str] = Counter()

    async def work() -> None:
        while time.monotonic() < end:
            outcomes[await outcome(client, next(deadlines))] += 1

    await asyncio.gather(*(work() for _ in range(WORKERS)))
    return outcomes


async def show_leak(library: str, url: str) -> None:
    """Cancel calls while they connect, then print how calls to the healthy server end."""
    transport = transport_of(library, SLOTS)
    async with client_of(library, url, transport) as client:
        print("abandoned calls:", dict(await abandon_calls(client)))
        print("next 3 calls:   ", [await outcome(client, PATIENCE) for _ in range(3)])
        # The pool tells its state nowhere else.
        print("pool:           ", transport._pool)  # noqa: SLF001 - see above
        print("connections:    ", transport._pool.connections)  # noqa: SLF001 - see above


async def show_cost(library: str, url: str, in_flight: int) -> None:
    """Print the CPU time that a call costs this process, with `in_flight` calls at a time."""
    async with client_of(library, url, transport_of(library, in_flight)) as client:

        async def work(calls: int) -> None:
            for _ in range(calls):
                (await client.get("/")).raise_for_status()

        await asyncio.gather(*(work(5) for _ in range(in_flight)))  # connects and warms up
        start = time.process_time()
        await asyncio.gather(*(work(CALLS // in_flight) for _ in range(in_flight)))
        cost = (time.process_time() - start) / CALLS * 1_000_000
    print(f"CPU per call:    {cost:,.0f} us with {in_flight} in flight, mean of {CALLS:,}")


async def main(library: str) -> None:
    """Print the findings for one library."""
    print(f"{library} {version(library)}, Python {platform.python_version()}")
    async with running_server() as url:
        await show_leak(library, url)
        await show_cost(library, url, 1)
        await show_cost(library, url, 32)


if __name__ == "__main__":
    asyncio.run(serve() if sys.argv[1] == "serve" else main(sys.argv[1]))
