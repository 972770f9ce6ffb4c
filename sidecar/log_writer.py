"""A logging handler that never blocks the caller.

If a pipe is not read or is closed, or a disk is full, lines of the log are dropped and
counted. Calls and the process go on.
"""

import asyncio
import logging
import os
import select
from collections.abc import Mapping
from contextlib import suppress
from enum import StrEnum
from queue import SimpleQueue
from threading import Thread

# The most bytes that may wait to be written, about ten thousand lines; more are dropped.
MAX_WAITING = 4 * 2**20
# The message of the record that counts them.
DROPPED = "log lines dropped"

# Seconds that finished lines wait for others.
_GATHERING = 0.01
_BATCH = 100  # lines in one write; a larger one would free the memory of its lines later
_END = b""


class DropCause(StrEnum):
    """Why a line was dropped."""

    # `MAX_WAITING` bytes wait: nothing reads the log, or too slowly.
    UNREAD = "unread"
    # The system refuses to write: nothing has the other end of the pipe, or a disk is full.
    UNWRITABLE = "unwritable"
    # A bug: the record cannot be formatted.
    UNFORMATTED = "unformatted"


class LineHandler(logging.Handler):
    """A handler that takes finished lines too, without the cost of a record.

    Access lines reach only such handlers, and only of the root logger.
    """

    def write_soon(self, line: str) -> None:
        """Write `line`, which has no newline, at once or a few milliseconds later."""
        raise NotImplementedError


class LogWriter(LineHandler):
    """Writes a line for each record to a file descriptor, in a thread of its own.

    A record is formatted at once, in the thread that logs it, because a line contains
    values of that thread's context variables. A line is dropped if `MAX_WAITING` bytes
    wait already, if it cannot be formatted, or if it cannot be written. A record with the
    `count` of the dropped lines precedes the next lines that can be written.

    To wake the thread costs as much as to format a line, and Python runs only one thread at a
    time. So the lines of `write_soon` wait up to 10 ms for others, and wake it once together. A
    record does not wait, nor do the lines before it. If the event loop ends first, its lines wait
    for the next line or for `close`.

    The caller closes the descriptor. Nothing is raised or printed: the default error
    handling of `logging` would print the arguments of the record.
    """

    def __init__(self, descriptor: int, *, closing: float = 1.0) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._closing = closing
        # Its `put` is reentrant: during one, a finalizer may log a record.
        self._queue: SimpleQueue[bytes] = SimpleQueue()
        self._is_closed = False
        # Lines that wait for others. The event loop `_gathering` will call `_hand_over`.
        self._gathered: list[bytes] = []
        self._gathering: asyncio.AbstractEventLoop | None = None
        # Each counter only grows and is written by one side, so the sides need no lock: the
        # first three under the lock of the handler, the others by the thread.
        self._accepted = self._unread = self._unformatted = 0  # bytes, lines, lines
        self._settled = self._unwritable = self._reported = 0  # bytes, lines, lines
        self._is_within_line = False
        # A daemon: a write that never returns must not keep the process alive.
        self._thread = Thread(target=self._run, name="log writer", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> Mapping[DropCause, int]:
        """The numbers of lines dropped so far."""
        return {
            DropCause.UNREAD: self._unread,
            DropCause.UNWRITABLE: self._unwritable,
            DropCause.UNFORMATTED: self._unformatted,
        }

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the line of `record` for the thread; drop it if too many bytes wait."""
        try:
            line = f"{self.format(record)}\n".encode()
        except Exception:  # noqa: BLE001 the text of any error may quote the arguments
            self._unformatted += 1
            return
        if self._accept(line):
            self._hand_over()
            self._queue.put(line)

    def write_soon(self, line: str) -> None:
        """Queue `line` for the thread, within 10 ms while the event loop runs.

        It is dropped if too many bytes wait.
        """
        data = f"{line}\n".encode()
        self.acquire()
        try:
            if self._accept(data):
                # First, because a finalizer may log a record at any time, and hand all lines over.
                self._gathered.append(data)
                self._gather()
        finally:
            self.release()

    def _gather(self) -> None:
        """Have the running event loop hand the gathered lines over; without one, do it now."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # no loop, so nothing would call later
            self._hand_over()
            return
        if self._gathering is not loop:  # another loop may have ended before its call
            self._gathering = loop
            loop.call_later(_GATHERING, self._hand_over)

    def _accept(self, line: bytes) -> bool:
        """Count `line` as waiting, or as dropped. Returns whether it waits."""
        if self._accepted - self._settled + len(line) > MAX_WAITING:
            self._unread += 1
            return False
        self._accepted += len(line)
        return True

    def _hand_over(self) -> None:
        """Queue the lines that were gathered."""
        self.acquire()
        try:
            self._gathering = None
            gathered, self._gathered = self._gathered, []
            for line in gathered:
                self._queue.put(line)
        finally:
            self.release()

    def close(self) -> None:
        """Write the waiting lines, for `closing` seconds at most. Later records are dropped."""
        # `logging` closes every handler again when the interpreter ends.
        if not self._is_closed:
            self._is_closed = True
            self._hand_over()
            self._queue.put(_END)
            self._thread.join(self._closing)
        super().close()

    def _run(self) -> None:
        is_last = False
        while not is_last:
            lines = self._take()
            is_last = _END in lines
            self._write(lines)

    def _take(self) -> list[bytes]:
        """Wait for a line; return it and the ones behind it, at most `_BATCH`."""
        lines = [self._queue.get()]
        while len(lines) < _BATCH and not self._queue.empty():
            lines.append(self._queue.get())
        return lines

    def _write(self, lines: list[bytes]) -> None:
        """Write `lines`, after a record of the lines dropped before; count the unwritten ones.

        A line that was written in part is ended first, or it would spoil the next one.
        """
        dropped = self._unread + self._unformatted + self._unwritable - self._reported
        report = self._format_report(dropped) if dropped else b""
        data = b"".join((b"\n" if self._is_within_line else b"", report, *lines))
        sent = self._send(data)
        unsent = data[sent:].count(b"\n")
        if unsent <= len(lines):  # the report before them was written
            self._reported += dropped
        self._unwritable += min(unsent, len(lines))
        if sent:
            self._is_within_line = data[sent - 1 : sent] != b"\n"
        self._settled += sum(map(len, lines))

    def _format_report(self, count: int) -> bytes:
        level = {"name": "sidecar", "levelno": logging.WARNING, "levelname": "WARNING"}
        message = {"msg": DROPPED, "notes": {"count": count}}
        return f"{self.format(logging.makeLogRecord(level | message))}\n".encode()

    def _send(self, data: bytes) -> int:
        """Write `data`; return how many bytes were written, fewer than all after an error."""
        sent = 0
        with suppress(OSError):
            while sent < len(data):
                sent += self._send_some(data[sent:])
        return sent

    def _send_some(self, data: bytes) -> int:
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:  # another process at the pipe may have made it non-blocking
            poll = select.poll()
            poll.register(self._descriptor, select.POLLOUT)
            poll.poll()
            return 0
