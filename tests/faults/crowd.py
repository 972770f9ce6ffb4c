"""Crowds of gRPC clients that open connections and do no more."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from tests.faults.bad_http2 import connected
from tests.sidecar_process import Sidecar


@dataclass(slots=True, kw_only=True)
class Crowd:
    """Clients that connect and send `opening`, and do so again whenever they are cut off."""

    sidecar: Sidecar
    opening: bytes
    connections: int = 0

    async def run(self) -> None:
        """Be one of them until the task is cancelled."""
        while True:
            self.connections += 1
            with suppress(ConnectionError, TimeoutError):
                async with connected(self.sidecar.addresses["grpc"], self.opening) as client:
                    await client.closed()
            await asyncio.sleep(0.05)


@asynccontextmanager
async def crowded(*crowds: tuple[Crowd, int]) -> AsyncIterator[None]:
    """Keep so many clients of each crowd at work."""
    tasks = [asyncio.create_task(crowd.run()) for crowd, count in crowds for _ in range(count)]
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
