"""A real Redis server in a process of its own, which tests stop, fill and start again."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from redis.asyncio import Redis

from tests.faults.wire import free_port
from tests.sidecar_process import Sidecar, find_tool, started


class RedisServer:
    """Starts Redis on one free port of the loopback address, as often as a test needs it.

    `tls`: by TLS. `arguments` are further ones for the command. Nothing is written to a disk.
    """

    def __init__(self, folder: Path, *arguments: str, tls: bool = False) -> None:
        self.port = free_port()
        self._command: tuple[str | Path, ...] = (
            *(find_tool("redis-server"), "--bind", "127.0.0.1", "--dir", folder, "--save", ""),
            *("--appendonly", "no", "--port", "0" if tls else str(self.port)),
            *("--tls-port", str(self.port) if tls else "0", *arguments),
        )

    @property
    def url(self) -> str:
        """Its URL."""
        return f"redis://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Sidecar]:
        """Run it in the context, and kill it at the end."""
        async with started(*self._command) as server:
            await server.log.find("Ready to accept connections")
            yield server

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Redis]:
        """Open a client of our own, which waits for a server that is slow."""
        async with Redis(
            host="127.0.0.1", port=self.port, protocol=2, decode_responses=True
        ) as client:
            yield client


async def calls_of(client: Redis, command: str) -> int:
    """Return how often the server has run `command` so far."""
    stats = await client.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {}).get("calls", 0))


async def fill(client: Redis) -> None:
    """Let the server refuse everything that would take memory, until `empty`."""
    await client.config_set("maxmemory-policy", "noeviction")
    await client.config_set("maxmemory", 1)


async def empty(client: Redis) -> None:
    """Let the server take memory again."""
    await client.config_set("maxmemory", 0)
