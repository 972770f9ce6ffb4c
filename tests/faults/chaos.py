"""A TCP proxy whose connections can be refused, reset, or fall silent while it runs."""

import asyncio
from contextlib import ExitStack, suppress
from typing import Literal, Self, TypeAlias

from tests.faults.wire import LOOPBACK, held_port, host_and_port, reset

# To the target, and from it.
Direction: TypeAlias = Literal["up", "down"]

CHUNK = 65536  # bytes


class Chaos:
    """Listens while it is entered, and connects each client to `target`.

    `address` is where it listens, and stays so. While `is_silent`, nothing passes, neither
    bytes nor the end of them, and nothing is closed. `accepted` counts the connections ever
    made, `heard` the bytes that clients have sent, `passed` those that were passed on in each
    direction.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self.is_silent = False
        self.accepted = self.heard = 0
        self.passed: dict[Direction, int] = {"up": 0, "down": 0}
        self._links: dict[asyncio.Task[None], _Link] = {}
        self._port = ExitStack()
        self._server: asyncio.Server | None = None
        self.address = ""

    @property
    def open(self) -> int:
        """How many connections are open."""
        return len(self._links)

    async def __aenter__(self) -> Self:
        self.address = f"{LOOPBACK}:{self._port.enter_context(held_port())}"
        await self.accept()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.refuse()
        self.reset()
        tasks = list(self._links)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._port.close()

    async def accept(self) -> None:
        """Take connections again, on the same port."""
        host, port = host_and_port(self.address)
        self._server = await asyncio.start_server(
            self._connected, host, port, reuse_port=True, limit=CHUNK
        )

    def refuse(self) -> None:
        """Refuse new connections; those that are open stay."""
        if self._server:
            self._server.close()

    def reset(self) -> None:
        """End all connections by RST, on both sides, now."""
        for link in self._links.values():
            link.reset()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # No coroutine: the task is then ours to end, and not the server's.
        self.accepted += 1
        link = _Link(self, reader, writer)
        task = asyncio.create_task(link.serve())
        self._links[task] = link
        task.add_done_callback(self._links.pop)


class _Link:
    """One client, and its connection to the target."""

    def __init__(
        self, chaos: Chaos, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._chaos = chaos
        self._reader = reader
        self._client = writer
        self._sides = [writer]

    async def serve(self) -> None:
        """Pass bytes on until both sides have ended."""
        try:
            reader, target = await asyncio.open_connection(
                *host_and_port(self._chaos.target), limit=CHUNK
            )
        except OSError:
            self.reset()
            return
        self._sides.append(target)
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump("up", self._reader, target))
                pumps.create_task(self._pump("down", reader, self._client))
        finally:
            self._close()

    def reset(self) -> None:
        """End both sides by RST."""
        for side in self._sides:
            reset(side)

    def _close(self) -> None:
        """End both sides by FIN, after what was written."""
        for side in self._sides:
            side.close()

    async def _pump(
        self, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Pass on one direction to its end, which is passed on too unless it is silent."""
        try:
            while data := await reader.read(CHUNK):
                self._chaos.heard += len(data) if direction == "up" else 0
                if not self._chaos.is_silent:
                    writer.write(data)
                    await writer.drain()
                    self._chaos.passed[direction] += len(data)
        except ConnectionError:
            if not self._chaos.is_silent:
                self.reset()
        else:
            if not self._chaos.is_silent:
                with suppress(OSError):  # that side has reset meanwhile
                    writer.write_eof()
