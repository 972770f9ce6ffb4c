"""Recorder of the log of the whole process, formatted as the sidecar formats it."""

import asyncio
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sidecar.log_writer import LineHandler
from sidecar.logs import JsonFormatter

Line = Mapping[str, Any]
_ACCESS = '"logger": "sidecar.access"'
# Time limit for a line to be written, in seconds.
GUARD = 20


class Log(LineHandler):
    """Keeps the lines of every logger of the process, formatted by the sidecar."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(JsonFormatter())
        self.lines: list[str] = []
        self._calls = 0
        self._more = asyncio.Event()

    @property
    def text(self) -> str:
        """All lines, joined for a search."""
        return "\n".join(self.lines)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line."""
        self._keep(self.format(record))

    def write_soon(self, line: str) -> None:
        """Keep one access line."""
        self._keep(line)
        self._more.set()

    def _keep(self, line: str) -> None:
        self.lines.append(line)
        self._calls += _ACCESS in line

    @property
    def entries(self) -> Sequence[Line]:
        """All lines, parsed."""
        return [json.loads(line) for line in self.lines]

    def find(self, request_id: str) -> Sequence[Line]:
        """Return the access lines of the call `request_id` so far."""
        lines = (line for line in self.lines if _ACCESS in line and request_id in line)
        return [entry for entry in map(json.loads, lines) if entry["request_id"] == request_id]

    async def wait_for(self, count: int) -> None:
        """Wait until there are `count` access lines, of any calls."""
        async with asyncio.timeout(GUARD):
            while self._calls < count:
                self._more.clear()
                await self._more.wait()

    async def access_lines(self, request_id: str, count: int) -> Sequence[Line]:
        """Wait for `count` access lines of the call `request_id`, and return them."""
        async with asyncio.timeout(GUARD):
            while len(lines := self.find(request_id)) < count:
                self._more.clear()
                await self._more.wait()
        assert len(lines) == count
        return lines

    async def access_line(self, request_id: str) -> Line:
        """Wait for the only access line of the call `request_id`, and return it."""
        (line,) = await self.access_lines(request_id, 1)
        return line


@contextmanager
def recorded(level: int = logging.DEBUG) -> Iterator[Log]:
    """Record every logger of the process, from `level` on."""
    log, root = Log(), logging.getLogger()
    before = root.level
    root.addHandler(log)
    root.setLevel(level)
    try:
        yield log
    finally:
        root.setLevel(before)
        root.removeHandler(log)
