"""A TCP proxy that spoils what passes, as the fault says that is set while it runs."""

import asyncio
import random
from contextlib import ExitStack, suppress
from typing import Literal, Self, TypeAlias

from tests.faults.flow import CHUNK, Fault, Flow
from tests.faults.wire import LOOPBACK, held_port, host_and_port, reset

# To the target, and from it.
Direction: TypeAlias = Literal["up", "down"]

_PASS = Flow()


class Chaos:
    """Listens while it is entered, and connects each client to `target`.

    `address` is where it listens, and stays so. `fault` may be set at any time, and
    holds from the next piece on, for open connections too. `accepted` counts the
    connections ever made, `passed` the bytes that were passed on in each direction.
    What is left to chance is the same for the same `seed`.
    """

    def __init__(self, target: str, fault: Fault | None = None, *, seed: int = 0) -> None:
        self.target = target
        self.fault = fault or Fault()
        self.accepted = 0
        self.passed: dict[Direction, int] = {"up": 0, "down": 0}
        # Two, so that no delay changes which connections are treated.
        self.lots = random.Random(seed)  # noqa: S311 it must be repeatable, not secret
        self.delays = random.Random(seed)  # noqa: S311 as above
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

    def flow(self, direction: Direction, lot: float) -> Flow:
        """Return what happens now to a direction of a connection that drew `lot`."""
        if lot >= self.fault.share:
            return _PASS
        return self.fault.up if direction == "up" else self.fault.down

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
        self._lot = chaos.lots.random()
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
            await self._pass_on(direction, reader, writer)
        except ConnectionError:
            if not self._flow(direction).is_silent:
                self.reset()
        else:
            if not self._flow(direction).is_silent:
                with suppress(OSError):  # that side has reset meanwhile
                    writer.write_eof()

    async def _pass_on(
        self, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        offset = 0
        while data := await reader.read(CHUNK):
            for piece in self._flow(direction).pieces(data):
                await asyncio.sleep(self._flow(direction).delay(len(piece), self._chaos.delays))
                flow = self._flow(direction)  # as it is after the wait
                if not flow.is_silent:
                    await self._send(flow, direction, piece, offset, writer)
                offset += len(piece)

    async def _send(
        self,
        flow: Flow,
        direction: Direction,
        piece: bytes,
        offset: int,
        writer: asyncio.StreamWriter,
    ) -> None:
        room = flow.room(offset)
        sent = flow.spoil(piece, offset)[:room]
        writer.write(sent)
        await writer.drain()
        self._chaos.passed[direction] += len(sent)
        if room is not None and len(piece) >= room:
            self.reset() if flow.ends_by_reset else self._close()

    def _flow(self, direction: Direction) -> Flow:
        return self._chaos.flow(direction, self._lot)
