"""Whatever the lines are written to: nobody waits, nothing ends, and what is lost is counted."""

import asyncio
import fcntl
import json
import logging
import os
import re
import resource
import signal
import sys
import threading
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sidecar.log_writer import CLOSING, DROPPED, MOST_WAITING, LogWriter
from sidecar.logs import JsonFormatter
from sidecar.settings import Address
from tests.process import ROOT, SIDECAR, Lines, environment, free, log_lines
from tests.raw_http import answer_to, request

CANARY = "canary-77d0"
# How long anything may take, in seconds.
GUARD = 60
Line = dict[str, Any]


def record(message: object, *arguments: object) -> logging.LogRecord:
    """Return a record of ours."""
    return logging.LogRecord("sidecar", logging.INFO, __file__, 1, message, arguments, None)


@contextmanager
def writing(descriptor: int) -> Iterator[LogWriter]:
    """Give a writer as `configure` makes it, and close it."""
    with closing(LogWriter(descriptor)) as writer:
        writer.setFormatter(JsonFormatter())
        yield writer


@dataclass(frozen=True, slots=True)
class Pipe:
    """A pipe that nobody reads until `read_all`."""

    reading: int
    writing: int

    def has_filled(self) -> None:
        """Wait until it has so little room that its writer must be waiting."""
        size = fcntl.fcntl(self.writing, fcntl.F_GETPIPE_SZ)
        deadline = time.monotonic() + GUARD
        while self._held() < size - os.sysconf("SC_PAGE_SIZE"):
            assert time.monotonic() < deadline
            os.sched_yield()

    def _held(self) -> int:
        held = fcntl.ioctl(self.reading, 0x541B, b"\0" * 4)  # FIONREAD
        return int.from_bytes(held, sys.byteorder)

    def read_line(self) -> bytes:
        """Read one line, and nothing of what follows."""
        line = b""
        while not line.endswith(b"\n"):
            line += os.read(self.reading, 1)
        return line

    def read_until(self, text: str) -> list[Line]:
        """Read up to the line whose message is `text`."""
        lines = [json.loads(self.read_line())]
        while lines[-1]["message"] != text:
            lines.append(json.loads(self.read_line()))
        return lines
