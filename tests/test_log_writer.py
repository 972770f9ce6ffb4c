"""Tests of the log writer: it never blocks or fails its callers, and counts dropped lines."""

import asyncio
import fcntl
import json
import logging
import os
import re
import resource
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import pytest

from sidecar.log_writer import DROPPED, MAX_WAITING, DropCause, LineHandler, LogWriter
from sidecar.logs import JsonFormatter
from sidecar.settings.types import Address
from tests.raw_http import answer_to, request
from tests.sidecar_process import ROOT, SIDECAR, Lines, environment, free, log_lines
from tests.virtual_time import VirtualLoop

CANARY = "canary-77d0"
# Time limit of every wait, in seconds.
GUARD = 60
# Capacity of a pipe in bytes (pipe(7)): the smallest, where it can be set.
PIPE_SIZE = 4096 if hasattr(fcntl, "F_SETPIPE_SZ") else 64 * 1024
# Calls with more lines than fit into the pipe.
CALLS = PIPE_SIZE // 200
NONE = dict.fromkeys(DropCause, 0)


def emit(writer: LogWriter, message: object, *arguments: object) -> None:
    """Pass a record of ours to `writer`, as a logger does."""
    record = logging.LogRecord("sidecar", logging.INFO, __file__, 1, message, arguments, None)
    writer.handle(record)


@contextmanager
def writing(descriptor: int, seconds: float = 1.0) -> Iterator[LogWriter]:
    """Give a writer as `configure` makes it, and close it within `seconds`."""
    with closing(LogWriter(descriptor, closing=seconds)) as writer:
        writer.setFormatter(JsonFormatter())
        yield writer


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipe:
    """A pipe that only the test reads."""

    reading: BinaryIO
    writing: BinaryIO

    def lines(self) -> Iterator[dict[str, Any]]:
        """Read records, each as soon as it is written."""
        return map(json.loads, self.reading)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """Yield a pipe. Its reading end is closed first, which ends a blocked write."""
    reading, writing = os.pipe()
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    with os.fdopen(writing, "wb", 0) as sink, os.fdopen(reading, "rb") as source:
        yield Pipe(reading=source, writing=sink)


@pytest.fixture
def full() -> Iterator[TextIO]:
    """Yield a file on a full disk."""
    path = Path("/dev/full")
    if not path.exists():
        pytest.skip("only Linux has a disk that is always full")
    with path.open("w") as stream:
        yield stream


# One writer


def test_lines_are_written_in_order(tmp_path: Path) -> None:
    """By the end of `close` every line is written, in the order of the records."""
    path = tmp_path / "log"
    with path.open("w") as stream, writing(stream.fileno()) as writer:
        for number in range(1000):
            emit(writer, "%d", number)
        writer.close()
        messages = [json.loads(line)["message"] for line in path.read_text("ascii").splitlines()]
    assert messages == [str(number) for number in range(1000)]


def test_a_line_is_written_at_once(pipe: Pipe) -> None:
    """A line waits neither for the next line nor for the end."""
    with writing(pipe.writing.fileno()) as writer:
        emit(writer, "one")
        assert next(pipe.lines())["message"] == "one"


def test_lines_wait_for_others(pipe: Pipe) -> None:
    """Lines that are written soon wait for others, 10 ms from the first one on."""
    with writing(pipe.writing.fileno()) as writer, VirtualLoop() as loop:
        for number, seconds in enumerate((0, 0.0025, 0.005, 0.0125)):
            loop.call_later(seconds, writer.write_soon, f'{{"message": "{number}"}}')
        loop.advance(0.005)
        assert writer._queue.empty()
        loop.advance(0.005)
        lines = pipe.lines()
        assert [next(lines)["message"] for _ in range(3)] == ["0", "1", "2"]
        loop.advance(0.01)
        assert writer._queue.empty()
        loop.advance(0.0025)
        assert next(lines)["message"] == "3"


async def test_a_record_does_not_wait(pipe: Pipe) -> None:
    """A record is written at once, after the lines that were waiting before it."""
    with writing(pipe.writing.fileno()) as writer:
        writer.write_soon('{"message": "before"}')
        assert writer._queue.empty()
        emit(writer, "a record")
        lines = pipe.lines()
        assert [next(lines)["message"] for _ in range(2)] == ["before", "a record"]


async def test_lines_of_a_loop_that_ends(pipe: Pipe) -> None:
    """A line is written though the loop ends before it is due, by `close` at the latest."""
    with writing(pipe.writing.fileno()) as writer:
        ended = asyncio.new_event_loop()

        async def write_and_end() -> None:
            writer.write_soon('{"message": "of an ended loop"}')
            ended.stop()

        def run() -> None:
            with suppress(RuntimeError):  # the loop was stopped
                ended.run_until_complete(write_and_end())
            ended.close()

        await asyncio.to_thread(run)
        writer.write_soon('{"message": "of another loop"}')
        writer.close()
        lines = pipe.lines()
        assert [next(lines)["message"] for _ in range(2)] == ["of an ended loop", "of another loop"]


def test_a_line_outside_of_a_loop(pipe: Pipe) -> None:
    """Without a loop there is nothing to wait for."""
    with writing(pipe.writing.fileno()) as writer:
        writer.write_soon('{"message": "at once"}')
        assert next(pipe.lines())["message"] == "at once"


async def test_lines_that_find_no_place(pipe: Pipe) -> None:
    """Lines that are written soon are dropped and counted like records."""
    with writing(pipe.writing.fileno(), seconds=0.01) as writer:
        line = json.dumps({"message": "x" * MAX_WAITING})
        writer.write_soon(line)
        assert writer.dropped == {**NONE, DropCause.UNREAD: 1}


def test_a_handler_of_lines_must_take_them() -> None:
    """A handler that does not say how it writes finished lines fails, and drops none silently."""
    with pytest.raises(NotImplementedError):
        LineHandler().write_soon("{}")


def test_a_pipe_that_is_not_read(pipe: Pipe) -> None:
    """Logging does not block on an unread pipe; the waiting lines are written later, in order.

    One record with the number of dropped lines precedes the next line.
    """
    count = 2 * MAX_WAITING // 1000
    with writing(pipe.writing.fileno()) as writer:
        for number in range(count):
            emit(writer, "%d %s", number, "x" * 1000)
        lines = pipe.lines()
        records = [next(lines)]
        while records[-1]["message"] != "last":
            if records[-1]["message"] == DROPPED or len(records) == count:
                emit(writer, "last")
            records.append(next(lines))
    (dropped,) = (line for line in records if line["message"] == DROPPED)
    numbers = [int(line["message"].split()[0]) for line in records[:-1] if line is not dropped]
    assert numbers == list(range(len(numbers)))
    assert dropped["count"] == count - len(numbers)
    assert (dropped["level"], dropped["logger"]) == ("warning", "sidecar")
    assert "request_id" not in dropped
    assert len(numbers) * 1000 > MAX_WAITING // 2


def test_a_pipe_that_is_read_too_late(pipe: Pipe) -> None:
    """`close` gives up a write that does not return, and the process need not wait for it."""
    with writing(pipe.writing.fileno(), seconds=0.01) as writer:
        emit(writer, "x" * 2 * PIPE_SIZE)
        writer.close()
        assert writer._thread.is_alive()
        assert writer._thread.daemon
        writer.close()  # as `logging` does when the interpreter ends
        next(pipe.lines())
        writer._thread.join(GUARD)
    assert not writer._thread.is_alive()


def test_a_pipe_that_does_not_block(pipe: Pipe) -> None:
    """A pipe that another process made non-blocking loses no line, and splits none."""
    os.set_blocking(pipe.writing.fileno(), False)
    with writing(pipe.writing.fileno()) as writer:
        for number in range(1000):
            emit(writer, "%d %s", number, "x" * 1000)
        lines = pipe.lines()
        numbers = [next(lines)["message"].split()[0] for _ in range(1000)]
    assert numbers == [str(number) for number in range(1000)]


def test_what_cannot_be_written_is_counted(
    full: TextIO, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Lines are dropped on a full disk, and their number is written once there is space."""
    path = tmp_path / "log"
    with path.open("w") as stream, writing(full.fileno()) as writer:
        for number in range(1000):
            emit(writer, "%d", number)
        settle(writer)
        os.dup2(stream.fileno(), full.fileno())
        emit(writer, "again")
        writer.close()
    records = [json.loads(line) for line in path.read_text("ascii").splitlines()]
    assert [line["message"] for line in records] == [DROPPED, "again"]
    assert records[0]["count"] == 1000
    assert capfd.readouterr() == ("", "")


def test_a_line_that_was_cut_off(tmp_path: Path) -> None:
    """A line that a full disk cut off counts as dropped, and does not spoil the next one."""
    path = tmp_path / "log"
    with path.open("w") as stream, writing(stream.fileno()) as writer:
        with largest_file(1000):
            emit(writer, "x" * 2000)
            settle(writer)
        emit(writer, "again")
        writer.close()
    cut, *whole = path.read_text("ascii").splitlines()
    assert len(cut) == 1000
    records = [json.loads(line) for line in whole]
    assert [line["message"] for line in records] == [DROPPED, "again"]
    assert records[0]["count"] == 1


def test_the_count_waits_for_room(tmp_path: Path) -> None:
    """A record of dropped lines that does not fit is written later, with the same count."""
    path = tmp_path / "log"
    with path.open("w") as stream, writing(stream.fileno()) as writer:
        with largest_file(1000):
            for _ in range(3):
                emit(writer, "x" * 2000)
                settle(writer)
        emit(writer, "again")
        writer.close()
    records = [json.loads(line) for line in path.read_text("ascii").splitlines()[1:]]
    assert [line.get("count") for line in records] == [3, None]


def settle(writer: LogWriter) -> None:
    """Wait until the thread has written or dropped all waiting lines."""
    while writer._settled < writer._accepted:
        os.sched_yield()


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Limit files to `size` bytes; a write beyond fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class Odd:
    """An object whose `str` fails."""

    def __str__(self) -> str:
        raise LookupError(CANARY)


def test_what_cannot_be_formatted_is_counted(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A record that cannot be formatted raises nothing, shows no argument, and is counted."""
    path = tmp_path / "log"
    with path.open("w") as stream, writing(stream.fileno()) as writer:
        emit(writer, "%d", CANARY)
        emit(writer, "%s", Odd())
        emit(writer, "right")
        writer.close()
    records = [json.loads(line) for line in path.read_text("ascii").splitlines()]
    assert [(line["message"], line.get("count")) for line in records] == [
        (DROPPED, 2),
        ("right", None),
    ]
    assert capfd.readouterr() == ("", "")


# The whole process


class Served:
    """A running `dev`, which writes its addresses to standard error."""

    def __init__(self, process: Process) -> None:
        assert process.stderr
        self._process = process
        self._stderr = Lines(process.stderr)

    async def calls(self, count: int) -> list[int]:
        """Send `count` calls, which are logged; return the status of each answer."""
        match = re.search(r"http://([^:]+):(\d+)/", await self._stderr.find("  REST "))
        assert match
        address = Address(match[1], int(match[2]))
        return [(await answer_to(address, request("GET"))).status for _ in range(count)]

    async def stop(self) -> int:
        """Stop it and return its status. It must not have reported a failure."""
        self._process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(GUARD):
            status = await self._process.wait()
        assert (await self._stderr.all()).rstrip().endswith("Stop it with Ctrl-C.")
        return status

    async def kill(self) -> None:
        """Kill it, if it is still running."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


@asynccontextmanager
async def serving(
    stdout: int | BinaryIO | TextIO, program: Sequence[str] = SIDECAR
) -> AsyncIterator[Served]:
    """Start `dev` with `stdout` as its standard output."""
    process = await asyncio.create_subprocess_exec(
        *(*program, "dev", *free()),
        stdin=DEVNULL,
        stdout=stdout,
        stderr=PIPE,
        env=environment(),
        cwd=ROOT,
    )
    served = Served(process)
    try:
        yield served
    finally:
        await served.kill()


PHASES = ["lame duck ended", "drain ended"]
MESSAGES = ["serving", *["call"] * CALLS, "stop requested", "stopping", *PHASES, "stopped"]


async def test_calls_are_answered_while_nobody_reads(pipe: Pipe) -> None:
    """More calls are answered than fit into the unread pipe; when read, it has all lines."""
    async with serving(pipe.writing) as served:
        pipe.writing.close()  # now only the process has it open
        statuses = await served.calls(CALLS)
        reading = asyncio.create_task(asyncio.to_thread(pipe.reading.read))
        status = await served.stop()
    text = (await reading).decode()
    assert (set(statuses), status) == ({405}, 0)
    assert len(text) > PIPE_SIZE
    assert [line["message"] for line in log_lines(text)] == MESSAGES


async def test_a_pipe_that_is_never_read(pipe: Pipe) -> None:
    """The process ends although its last lines cannot be written."""
    async with serving(pipe.writing) as served:
        statuses = await served.calls(CALLS)
        assert (set(statuses), await served.stop()) == ({405}, 0)
    assert next(pipe.lines())["message"] == "serving"


async def test_a_closed_pipe(pipe: Pipe) -> None:
    """If the pipe is closed, calls are answered, and nothing is reported."""
    pipe.reading.close()
    async with serving(pipe.writing) as served:
        assert (await served.calls(3), await served.stop()) == ([405] * 3, 0)


async def test_no_standard_output() -> None:
    """Without standard output, the process does not write its log to one of its sockets."""
    closed = ("bash", "-c", 'exec "$@" >&-', "bash", *SIDECAR)
    async with serving(DEVNULL, closed) as served:
        assert (await served.calls(3), await served.stop()) == ([405] * 3, 0)
