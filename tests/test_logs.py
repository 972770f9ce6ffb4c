"""Tests of log records: their form, withheld texts, and the call of each record."""

import asyncio
import functools
import gc
import json
import logging
import math
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar import logs, spans
from sidecar.call import Call, Note, current_call, entered
from sidecar.log_writer import DropCause, LineHandler, LogWriter
from sidecar.logs import access
from tests.recorded import Log, recorded

CANARY = "canary-91c3"
ID = "4a1b0c6e-2f0d-4a53-8d2e-0f6c7b9a1d3e"
# Time limit for a task or callback to run, in seconds.
GUARD = 20

Configured = Callable[..., tuple[Path, LogWriter]]


@pytest.fixture
def log() -> Iterator[Log]:
    """Record the log, formatted as the sidecar formats it."""
    with recorded() as log:
        yield log


def entries(log: Log) -> list[dict[str, Any]]:
    """Return the written records, each of which must be one line."""
    assert all("\n" not in line for line in log.lines)
    return [json.loads(line) for line in log.lines]


def entry(log: Log) -> dict[str, Any]:
    """Return the only written record."""
    (only,) = entries(log)
    return only


# The form of a line


def test_line_of_an_event(log: Log) -> None:
    """An event is one JSON object: time, level, logger, message, and its named values."""
    logs.event("serving", rest="127.0.0.1:1", port=1, share=0.5, ready=True, embedded=None)
    line = entry(log)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line.pop("time"))
    assert line == {
        "level": "info",
        "logger": "sidecar",
        "message": "serving",
        "rest": "127.0.0.1:1",
        "port": 1,
        "share": 0.5,
        "ready": True,
        "embedded": None,
    }


@given(st.floats(min_value=0, max_value=4_000_000_000))
@example(0.9999996)
@example(1.9995)
def test_the_time_of_a_line(created: float) -> None:
    """The time of a record is in RFC 3339, in UTC, with milliseconds, however it is made."""
    record = logging.makeLogRecord({"name": "sidecar", "created": created})
    expected = datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds")
    assert json.loads(logs.JsonFormatter().format(record))["time"] == expected


def test_an_access_line_has_the_form_of_a_record(log: Log) -> None:
    """An access line, which `logging` does not format, has the members and bytes of a record."""
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    call = Call.of(request_id=ID, traceparent=trace)
    with access(call, status=200, text=HOSTILE):
        pass
    (line,) = log.lines
    members = json.loads(line)
    created = datetime.fromisoformat(members["time"]).timestamp()
    notes = {name: members[name] for name in ("status", "text", "duration_ms")}
    record = {"name": "sidecar.access", "msg": "call", "created": created, "notes": notes}
    with entered(call):
        shown = logs.JsonFormatter().format(
            logging.makeLogRecord({"levelname": "INFO", "levelno": logging.INFO} | record)
        )
    assert line == shown


HOSTILE = 'a\r\nb\x1b[31m"\\\x00\u2028é\ud800'


def test_values_cannot_break_a_line(log: Log) -> None:
    """Line ends, quotes, terminal sequences and non-ASCII letters are escaped, none is lost."""
    # Without a lone surrogate, which the process that runs the test could not report.
    message = HOSTILE.removesuffix("\ud800")
    logs.event(message, value=HOSTILE)
    (line,) = log.lines
    assert line.isascii()
    assert line.isprintable()
    assert (entry(log)["message"], entry(log)["value"]) == (message, HOSTILE)


def test_a_message_cannot_break_a_line() -> None:
    """A message is escaped as its values are."""
    record = logging.makeLogRecord({"name": "sidecar", "levelname": "INFO", "msg": HOSTILE})
    line = logs.JsonFormatter().format(record)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["message"] == HOSTILE


def test_our_arguments_are_told(log: Log) -> None:
    """A message of ours is logged with its arguments."""
    logging.getLogger("sidecar.part").warning("%s of %d", "one", 2)
    line = entry(log)
    assert (line["logger"], line["level"], line["message"]) == (
        "sidecar.part",
        "warning",
        "one of 2",
    )


@pytest.mark.parametrize("name", ["httpx2", "sidecarx", "root", "asyncio", "uvicorn.error"])
def test_arguments_of_others_are_not_told(log: Log, name: str) -> None:
    """A record of another library is logged as its template, without its arguments."""
    logging.getLogger(name).error("Request: %s", CANARY)
    assert entry(log)["message"] == "Request: %s"
    assert CANARY not in log.text


@pytest.mark.parametrize(
    ("level", "message"),
    [(logging.DEBUG, "withheld"), (logging.INFO, "withheld"), (logging.WARNING, CANARY)],
)
def test_what_others_write_to_be_debugged(log: Log, level: int, message: str) -> None:
    """Below WARNING even the template of another library is withheld; ours is always logged."""
    logging.getLogger("other").log(level, CANARY)
    logging.getLogger("sidecar").log(level, CANARY)
    assert [line["message"] for line in entries(log)] == [message, CANARY]


def test_message_that_is_no_text(log: Log) -> None:
    """Another library may log any object, such as an exception; its text is withheld."""
    logging.getLogger("other").error(ValueError("canary"))
    assert entry(log)["message"] == "withheld"


# Exceptions


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    """Return `error` after it has been raised."""
    try:
        throw(error, cause)
    except BaseException as caught:  # noqa: BLE001 it is returned
        return caught


def throw(error: BaseException, cause: BaseException | None = None) -> NoReturn:
    """Raise `error`."""
    raise error from cause


def raised_within(outer: BaseException, inner: BaseException) -> BaseException:
    """Return `outer` after it has been raised while `inner` was handled."""
    try:
        try:
            raise inner
        except type(inner):
            raise outer  # noqa: B904 the test needs a context, not a cause
    except type(outer) as caught:
        return caught


class OddError(Exception):
    """An exception whose every text is the canary."""

    def __str__(self) -> str:
        return CANARY

    __repr__ = __str__


def test_line_of_a_failure(log: Log) -> None:
    """A failure is logged with the type of its exception and every frame, without its text."""
    logs.failure("it failed", raised(ValueError(CANARY)))
    line = entry(log)
    assert (line["level"], line["message"], line["error"]) == ("error", "it failed", "ValueError")
    assert [re.sub(r":\d+ ", " ", frame) for frame in line["frames"]] == [
        f"{__file__} raised",
        f"{__file__} throw",
    ]
    assert "cause" not in line
    assert CANARY not in log.text


def test_failure_without_exception(log: Log) -> None:
    """A failure may have no exception."""
    logs.failure("it failed", None)
    assert "error" not in entry(log)


CAUSED: Mapping[str, BaseException] = {
    "cause": raised(KeyError(CANARY), OddError(CANARY)),
    "context": raised_within(KeyError(CANARY), OddError(CANARY)),
}


@pytest.mark.parametrize("error", CAUSED.values(), ids=CAUSED)
def test_causes_are_told_without_text(log: Log, error: BaseException) -> None:
    """The cause of an exception is logged in the same way, without its text."""
    logs.failure("it failed", error)
    line = entry(log)
    assert line["error"] == "KeyError"
    assert line["cause"]["error"] == "OddError"
    assert CANARY not in log.text


def test_the_cause_comes_before_the_context(log: Log) -> None:
    """If an exception has a cause and a context, the cause is logged."""
    error = raised_within(KeyError(), ValueError())
    logs.failure("it failed", raised(error, OddError()))
    assert entry(log)["cause"]["error"] == "OddError"


def test_causes_that_go_in_a_circle(log: Log) -> None:
    """Two exceptions that are the cause of each other give a line of finite length."""
    first, second = ValueError(CANARY), KeyError(CANARY)
    first.__cause__, second.__cause__ = second, first
    logs.failure("it failed", first)
    assert entry(log)["error"] == "ValueError"
    assert entry(log)["cause"]["error"] == "KeyError"
    assert CANARY not in log.text


def test_exception_of_another_library(log: Log) -> None:
    """An exception that another library logs is logged in the same way."""
    try:
        throw(OddError())
    except OddError:
        logging.getLogger("other").exception("failed: %s", CANARY)
    assert entry(log)["error"] == "OddError"
    assert CANARY not in log.text


def test_exception_outside_of_a_handler(log: Log) -> None:
    """`exception` outside of a handler writes a line without one."""
    logging.getLogger("other").error("failed", exc_info=True)  # noqa: LOG014 as libraries do
    assert "error" not in entry(log)


# The current call


def test_outside_of_a_call(log: Log) -> None:
    """Outside of a call, `current_call` is new each time, and a line has no id."""
    assert current_call().request_id != current_call().request_id
    logs.event("starting")
    assert "request_id" not in entry(log)


async def test_the_call_is_inherited(log: Log) -> None:
    """All code within a call, in its task or one started from it, sees the same call."""
    call, other = (Call.of(request_id=None, traceparent=None) for _ in range(2))

    async def inherit() -> Call:
        logs.event("inherited")
        return current_call()

    with access(call):
        assert current_call() is call
        task = asyncio.create_task(inherit())
        with access(other):
            assert await asyncio.create_task(inherit()) is other
        assert current_call() is call
    assert await task is call
    assert current_call() is not call
    ids = [line["request_id"] for line in entries(log) if line["message"] == "inherited"]
    assert sorted(ids) == sorted([call.request_id, other.request_id])


async def test_calls_do_not_mix(log: Log) -> None:
    """Concurrent calls have separate ids and notes."""
    met = asyncio.Barrier(2)

    async def serve(number: int) -> str:
        with access(Call.of(request_id=None, traceparent=None)) as call:
            await met.wait()
            current_call().note(number=number)
            await met.wait()
            return call.request_id

    async with asyncio.timeout(GUARD):
        ids = await asyncio.gather(serve(1), serve(2))
    assert {line["request_id"]: line["number"] for line in entries(log)} == {
        ids[0]: 1,
        ids[1]: 2,
    }


# The access line


def test_access_line(log: Log) -> None:
    """A call writes one line at its end, with its first values and all later notes."""
    call = Call(request_id=ID)
    with access(call, protocol="rest", status=499):
        call.note(status=200, route="/x")
        assert log.lines == []
    line = entry(log)
    assert line.pop("time")
    assert line.pop("duration_ms") >= 0
    assert line == {
        "level": "info",
        "logger": "sidecar.access",
        "message": "call",
        "request_id": ID,
        "protocol": "rest",
        "status": 200,
        "route": "/x",
    }


def test_trace_id(log: Log) -> None:
    """Each line of a call with a trace context has the id of the trace."""
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    with access(Call(request_id=ID, traceparent=trace)):
        logs.event("inside")
    assert [line["trace_id"] for line in entries(log)] == [trace.split("-")[1]] * 2


def test_duration(log: Log) -> None:
    """The duration is in milliseconds: more than the body of the call, less than all around it."""
    outer = time.perf_counter()
    with access(Call(request_id=ID)):
        inner = time.perf_counter()
        lower = time.perf_counter() - inner
    upper = time.perf_counter() - outer
    # It has three digits, of which the last is rounded.
    assert lower * 1000 - 0.001 <= entry(log)["duration_ms"] <= upper * 1000 + 0.001


@pytest.mark.parametrize("kind", [ValueError, asyncio.CancelledError, KeyboardInterrupt])
def test_access_line_when_the_call_fails(log: Log, kind: type[BaseException]) -> None:
    """A call that fails writes its line, without the exception."""
    with pytest.raises(kind), access(Call(request_id=ID), status=499):
        raise kind(CANARY)
    line = entry(log)
    assert (line["message"], line["status"], line["request_id"]) == ("call", 499, ID)
    assert CANARY not in log.text


async def test_access_line_when_the_task_is_cancelled(log: Log) -> None:
    """A task that is cancelled during a call writes the line, too."""
    entered = asyncio.Event()

    async def serve() -> None:
        with access(Call(request_id=ID), status=499):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(serve())
    async with asyncio.timeout(GUARD):
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (entry(log)["status"], entry(log)["request_id"]) == (499, ID)


class Ended:
    """The span of a call, which keeps the notes that it ends with, and may then fail."""

    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"

    def __init__(self, error: Exception | None = None) -> None:
        self.notes: spans.Notes = {}
        self._error = error

    def end(self, notes: spans.Notes) -> None:
        """Keep `notes`."""
        self.notes = notes
        if self._error is not None:
            raise self._error

    def start_rpc(self, method: str) -> NoReturn:
        """Fail: no test calls it."""
        raise NotImplementedError

    def start_try(self, endpoint: spans.Endpoint, *, resends: int) -> NoReturn:
        """Fail: no test calls it."""
        raise NotImplementedError


@pytest.mark.parametrize("value", [object(), math.nan, -math.inf], ids=["object", "NaN", "inf"])
def test_an_access_line_that_json_cannot_hold(configured: Configured, value: Any) -> None:
    """Such a line is dropped and counted; the span and the observer get the values, and no error.

    A record with such a value is treated alike.
    """
    path, writer = configured("log")
    span, observed = Ended(), list[Mapping[str, Note]]()
    with access(Call(request_id=ID, span=span), lambda notes, _: observed.append(notes), odd=value):
        pass
    assert writer.dropped[DropCause.UNFORMATTED] == 1
    assert span.notes == observed[0] == {"odd": value}
    logs.event("lost", odd=value)
    assert writer.dropped[DropCause.UNFORMATTED] == 2
    logs.event("written")
    writer.close()
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert "written" in [line["message"] for line in lines]
    assert sum(line.get("count", 0) for line in lines) == 2
    assert not [line for line in lines if "odd" in line]


def test_a_call_ends_though_its_line_and_span_fail(log: Log) -> None:
    """If a handler and the span raise, the call is observed, and is current no more."""
    handler, observed = LineHandler(), []
    span = Ended(ValueError("the span"))
    call = Call(request_id=ID, span=span)
    logging.getLogger().addHandler(handler)
    try:
        with (
            pytest.raises(ValueError, match="the span"),
            access(call, lambda notes, _: observed.append(notes), status=200),
        ):
            pass
    finally:
        logging.getLogger().removeHandler(handler)
    assert span.notes == {"status": 200}
    assert observed == [span.notes]
    assert current_call() is not call
    assert entry(log)["status"] == 200


# Unhandled exceptions of a loop

UNHANDLED = "a task or callback failed"


@asynccontextmanager
async def handled(log: Log) -> AsyncIterator[None]:
    """Set `loop_failure` as the handler of the loop, until it has handled one exception."""
    loop = asyncio.get_running_loop()
    before, written = loop.get_exception_handler(), asyncio.Event()

    def handle(loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        logs.loop_failure(loop, context)
        written.set()

    loop.set_exception_handler(handle)
    try:
        yield
        async with asyncio.timeout(GUARD):
            await written.wait()
    finally:
        loop.set_exception_handler(before)
    assert log.lines


async def test_task_that_nobody_awaits(log: Log) -> None:
    """The exception of a task that is never awaited is logged without its text."""

    async def fail() -> NoReturn:
        raise ValueError(CANARY)

    async with handled(log):
        ended = asyncio.Event()
        asyncio.create_task(fail()).add_done_callback(lambda _: ended.set())
        async with asyncio.timeout(GUARD):
            await ended.wait()
        gc.collect()  # an interpreter may keep the task until then
    line = entry(log)
    assert (line["level"], line["logger"], line["error"]) == ("error", "sidecar", "ValueError")
    assert line["message"] == UNHANDLED
    assert CANARY not in log.text


def fail(*_: object) -> NoReturn:
    """Raise."""
    raise ValueError(CANARY)


CALLBACKS: Mapping[str, tuple[Callable[..., object], tuple[object, ...]]] = {
    "argument": (fail, (CANARY,)),
    "partial": (functools.partial(fail, CANARY), ()),
}


@pytest.mark.parametrize(("callback", "arguments"), CALLBACKS.values(), ids=CALLBACKS)
async def test_callback_that_fails(
    log: Log, callback: Callable[..., object], arguments: tuple[object, ...]
) -> None:
    """A callback that fails is logged without its exception's text and its arguments."""
    async with handled(log):
        asyncio.get_running_loop().call_soon(callback, *arguments)
    assert entry(log)["error"] == "ValueError"
    assert entry(log)["message"] == UNHANDLED
    assert CANARY not in log.text


async def test_loop_failure_without_exception(log: Log) -> None:
    """A fault of the loop without an exception is logged without the loop's message."""
    logs.loop_failure(asyncio.get_running_loop(), {"message": CANARY})
    assert entry(log)["message"] == UNHANDLED
    assert "error" not in entry(log)
    assert CANARY not in log.text


# The whole process


@pytest.fixture
def configured(tmp_path: Path) -> Iterator[Configured]:
    """Yield a function that configures logging as the commands do; restore it afterwards."""
    root, ours = logging.getLogger(), logging.getLogger("sidecar")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    for handler in handlers:  # otherwise `configure` closes them
        root.removeHandler(handler)
    with ExitStack() as stack:

        def configure(name: str, **options: str) -> tuple[Path, LogWriter]:
            stream = stack.enter_context((tmp_path / name).open("w"))
            return tmp_path / name, stack.enter_context(
                closing(logs.configure(stream, closing=1.0, **options))
            )

        yield configure
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


def test_configure(configured: Configured) -> None:
    """Only our events and warnings of others reach the stream, once each, as JSON."""
    path, writer = configured("log")
    logs.event("ours")
    logging.getLogger("sidecar").debug("too fine")
    logging.getLogger("httpx2").info("HTTP Request: %s", CANARY)
    logging.getLogger("httpx2").warning("odd: %s", CANARY)
    writer.close()
    records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert [(line["logger"], line["message"]) for line in records] == [
        ("sidecar", "ours"),
        ("httpx2", "odd: %s"),
    ]


LEVELS = {
    "debug": ["debug", "info", "warning", "warning of others", "error"],
    "info": ["info", "warning", "warning of others", "error"],
    "warning": ["warning", "warning of others", "error"],
    "error": ["error"],
}


@pytest.mark.parametrize(("level", "messages"), LEVELS.items(), ids=LEVELS)
def test_each_level(configured: Configured, level: str, messages: list[str]) -> None:
    """A level keeps our lines from it on, and those of others from WARNING on at least."""
    path, writer = configured("log", level=level)
    for log, message in ((logs.debug, "debug"), (logs.event, "info"), (logs.warning, "warning")):
        log(message)
    for number in (logging.DEBUG, logging.INFO, logging.WARNING):
        logging.getLogger("httpx2").log(number, "warning of others")
    logs.failure("error", None)
    writer.close()
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert [line["message"] for line in lines] == messages


def test_debug_lines_have_no_call(log: Log) -> None:
    """An event of a connection is not taken for one of the call that it happens in."""
    with access(Call(request_id=ID)):
        logs.debug("connection", reason="idle")
        line = entry(log)
    assert (line["level"], line["reason"]) == ("debug", "idle")
    assert "request_id" not in line


def test_dropped_lines_are_counted(configured: Configured) -> None:
    """The numbers of dropped lines are those of the writer in use."""
    none = dict.fromkeys(DropCause, 0)
    assert logs.dropped_lines() == none
    _, writer = configured("log")
    logs.event("lost", value=object())  # type: ignore[arg-type] # that is the point
    logs.event("written")
    assert logs.dropped_lines() == writer.dropped == {**none, DropCause.UNFORMATTED: 1}


def test_configure_replaces_what_was_there(configured: Configured) -> None:
    """A second configuration moves the log, and no line is written twice."""
    before, _ = configured("before")
    after, writer = configured("after")
    logs.event("moved")
    writer.close()
    assert before.read_text("utf-8") == ""
    assert len(after.read_text("utf-8").splitlines()) == 1


def test_a_line_tells_the_call_that_wrote_it(configured: Configured) -> None:
    """The line has the current call of its logger although another thread writes it."""
    path, writer = configured("log")
    with access(Call(request_id=ID)):
        pass
    writer.close()
    assert json.loads(path.read_text("utf-8"))["request_id"] == ID
