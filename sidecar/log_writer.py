"""A handler of `logging` for which nobody waits, whatever its lines are written to.

A pipe that is not read, one that is closed and a disk that is full cost lines of
the log, which are counted, and never a call or the process.
"""

import logging
import os
import select
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread

# What may wait to be written, in bytes: some ten thousand lines.
MAX_WAITING = 4 * 2**20
DROPPED = "log lines dropped"

_AT_ONCE = 100  # lines; more in one write would only make room later
_END = b""


class LogWriter(logging.Handler):
    """Writes a line for each record to a file descriptor, in a thread of its own.

    A record is formatted at once, in the thread that wrote it, because a line tells
    what the context variables of that thread hold. A line that finds no room, that
    cannot be formatted or that cannot be written is dropped; before the next lines
    that can be written stands a record with the `count` of those.

    The descriptor stays the caller's. Nothing is raised, and nothing is printed: what
    `logging` does with errors by itself shows the arguments of the record.
    """

    def __init__(self, descriptor: int, *, closing: float = 1.0) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._closing = closing
        # Its `put` may be interrupted by itself, as when a finalizer writes a record.
        self._queue: SimpleQueue[bytes] = SimpleQueue()
        self._is_closed = False
        # Each number only grows, and is changed by one side: the first two by `emit`,
        # which holds the lock of the handler, the others by the thread. So neither waits.
        self._accepted = self._refused = 0  # bytes, lines
        self._settled = self._failed = self._told = 0  # bytes, lines, lines
        self._is_torn = False
        # A daemon: a write that never returns must not keep the process alive.
        self._thread = Thread(target=self._run, name="log writer", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Put the line of `record` where the thread takes it from, if there is room."""
        try:
            line = f"{self.format(record)}\n".encode()
        except Exception:  # noqa: BLE001 whatever it is, its text may quote the arguments
            self._refused += 1
            return
        if self._accepted - self._settled + len(line) > MAX_WAITING:
            self._refused += 1
            return
        self._accepted += len(line)
        self._queue.put(line)

    def close(self) -> None:
        """Write the waiting lines, for `closing` seconds at most. Later records are dropped."""
        # `logging` closes every handler again when the interpreter ends.
        if not self._is_closed:
            self._is_closed = True
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
        """Return the lines that wait, once there is one."""
        lines = [self._queue.get()]
        while len(lines) < _AT_ONCE and not self._queue.empty():
            lines.append(self._queue.get())
        return lines

    def _write(self, lines: list[bytes]) -> None:
        """Write `lines`, after a record of those that were dropped before, and count what is not.

        A line of which only a part was written is ended first, or it would spoil the next.
        """
        dropped = self._refused + self._failed - self._told
        told = self._tell(dropped) if dropped else b""
        data = b"".join((b"\n" if self._is_torn else b"", told, *lines))
        sent = self._send(data)
        unsent = data[sent:].count(b"\n")
        if unsent <= len(lines):
            self._told += dropped
        self._failed += min(unsent, len(lines))
        if sent:
            self._is_torn = data[sent - 1 : sent] != b"\n"
        self._settled += sum(map(len, lines))

    def _tell(self, count: int) -> bytes:
        told = {"name": "sidecar", "levelno": logging.WARNING, "levelname": "WARNING"}
        notes = {"msg": DROPPED, "notes": {"count": count}}
        return f"{self.format(logging.makeLogRecord(told | notes))}\n".encode()

    def _send(self, data: bytes) -> int:
        """Write `data`; return how many bytes of it were written before an error."""
        sent = 0
        with suppress(OSError):
            while sent < len(data):
                sent += self._send_some(data[sent:])
        return sent

    def _send_some(self, data: bytes) -> int:
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:  # whoever shares the pipe may have made it non-blocking
            room = select.poll()
            room.register(self._descriptor, select.POLLOUT)
            room.poll()
            return 0
