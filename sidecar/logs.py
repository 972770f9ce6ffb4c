"""Structured logging: one JSON object a line, without values from requests.

A line has our own messages and named values. Exceptions and records of other libraries
are reduced to the parts that cannot contain a value from a request.
"""

import json
import logging
import math
import os
import time
import traceback
from asyncio import AbstractEventLoop
from collections import Counter
from collections.abc import Callable, Mapping
from contextvars import Context
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TextIO

from sidecar.call import Call, Note, enter, find_call, leave
from sidecar.log_writer import DropCause, LineHandler, LogWriter

# Takes the values of an access line, and the seconds that the call took.
Observe = Callable[[Mapping[str, Note], float], None]

_OURS = "sidecar"
_ROOT, _ACCESS = logging.getLogger(), logging.getLogger("sidecar.access")
_ENCODER = json.JSONEncoder(ensure_ascii=True, allow_nan=False)
_MAX_CAUSES = 5  # a chain of causes may be circular


def access(call: Call, observe: Observe | None = None, **notes: Note) -> "_Access":
    """Make `call` current in the context; at the end, even on failure, write its access line.

    The span of the call, if it has one, and `observe` get the same values as the line.
    """
    call.note(**notes)
    return _Access(call, observe)


class _Access:
    """The context of a call. A class, because each call has one: a generator costs more."""

    __slots__ = ("_call", "_observe", "_start", "_token")

    def __init__(self, call: Call, observe: Observe | None) -> None:
        self._call = call
        self._observe = observe

    def __enter__(self) -> Call:
        self._start = time.perf_counter()
        self._token = enter(self._call)
        return self._call

    def __exit__(self, *_error: object) -> None:
        seconds = time.perf_counter() - self._start
        try:
            _write_access_line(self._call, round(seconds * 1000, 3))
        finally:
            leave(self._token)
            try:
                if self._call.span is not None:
                    self._call.span.end(self._call.notes)
            finally:
                if self._observe is not None:
                    self._observe(self._call.notes, seconds)


def _write_access_line(call: Call, milliseconds: float) -> None:
    """Write the line that a record would give. `logging` takes twice as long for it.

    Only a LineHandler of the root logger gets it. Other handlers do not, and no filter and no
    level of a handler applies: `configure` sets none, and is the only set-up of the process.
    If JSON cannot hold a note, the line becomes a record, which the writer drops and counts.
    """
    if _ACCESS.isEnabledFor(logging.INFO):
        line = {
            "time": _timestamp(time.time()),
            "level": "info",
            "logger": "sidecar.access",
            "message": "call",
            **_identity(call),
            **call.notes,
            "duration_ms": milliseconds,
        }
        try:
            text = _ENCODER.encode(line)
        except Exception:  # noqa: BLE001 as for a record: its text may quote a note
            _ACCESS.info("call", extra={"notes": {**call.notes, "duration_ms": milliseconds}})
            return
        for handler in _ROOT.handlers:
            if isinstance(handler, LineHandler):
                handler.write_soon(text)


def debug(message: str, **notes: Note) -> None:
    """Log an event that is seldom of interest at DEBUG, with named values.

    Never with a request id: such events are those of a connection or look-up, which outlives
    the call that began it.
    """
    logger = logging.getLogger(_OURS)
    if logger.isEnabledFor(logging.DEBUG):
        Context().run(logger.debug, message, extra={"notes": notes})


def event(message: str, **notes: Note) -> None:
    """Log an event of the process at INFO, with named values."""
    logging.getLogger(_OURS).info(message, extra={"notes": notes})


def warning(message: str, **notes: Note) -> None:
    """Log a state that an operator should look at, at WARNING, with named values."""
    logging.getLogger(_OURS).warning(message, extra={"notes": notes})


def failure(message: str, error: BaseException | None) -> None:
    """Log a fault of ours at ERROR: the types and frames of `error`, without its text."""
    logging.getLogger(_OURS).error(message, exc_info=error)


def loop_failure(_loop: AbstractEventLoop, context: Mapping[str, Any]) -> None:
    """Log an unhandled exception of a task or callback (for `loop.set_exception_handler`).

    The message of the loop is left out, because it may quote the arguments of a callback.
    """
    failure("a task or callback failed", context.get("exception"))


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON.

    An exception appears as its types and frames, because its text may quote a request. A
    record of another library appears as its template, because its arguments may do so too.
    Below WARNING its message is "withheld": debug messages are often built without a template.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without a newline."""
        call = find_call()
        ours = record.name.split(".")[0] == _OURS
        line = {
            "time": _timestamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage() if ours else _template(record),
            **(_identity(call) if call else {}),
            **getattr(record, "notes", {}),
            **_describe(record.exc_info[1] if record.exc_info else None),
        }
        return _ENCODER.encode(line)


def _timestamp(created: float) -> str:
    """Return a Unix time as in RFC 3339, with milliseconds."""
    fraction, seconds = math.modf(created)
    carry, microseconds = divmod(round(fraction * 1_000_000), 1_000_000)
    return f"{_second(int(seconds) + carry)}.{microseconds // 1000:03}+00:00"


@lru_cache(maxsize=2)  # thousands of lines have the same second
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _identity(call: Call) -> dict[str, str]:
    trace_id = call.trace_id
    return {"request_id": call.request_id, **({"trace_id": trace_id} if trace_id else {})}


def _template(record: logging.LogRecord) -> str:
    is_template = isinstance(record.msg, str) and record.levelno >= logging.WARNING
    return str(record.msg) if is_template else "withheld"


def _describe(error: BaseException | None, depth: int = 0) -> dict[str, object]:
    if error is None or depth == _MAX_CAUSES:
        return {}
    frames = traceback.extract_tb(error.__traceback__)
    cause = error.__cause__ or error.__context__
    return {
        "error": type(error).__qualname__,
        "frames": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
        **({"cause": _describe(cause, depth + 1)} if cause else {}),
    }


def dropped_lines() -> Mapping[DropCause, int]:
    """Return the numbers of lines that the log of this process has dropped so far."""
    counts = Counter(dict.fromkeys(DropCause, 0))
    for handler in logging.getLogger().handlers:
        if isinstance(handler, LogWriter):
            counts.update(handler.dropped)
    return counts


def configure(stream: TextIO | None, *, closing: float, level: str = "info") -> LogWriter:
    """Write the records of the process to `stream` as JSON, until the returned writer is closed.

    The writer uses the file descriptor of `stream`. None discards all records: `sys.stdout`
    is None in a process that was started without one. `closing` is the time in seconds that
    closing the writer may take. Our records are kept from `level` on, those of other libraries
    from WARNING or, if that is higher, `level`: httpx2 logs the URL of every request at INFO and
    its headers at DEBUG.

    Handlers and filters that are added later apply to all lines but access lines, which go
    straight to the writer.
    """
    # Without a stream, descriptor 1 must not be used: the next socket may have that number.
    writer = LogWriter(
        stream.fileno() if stream else os.open(os.devnull, os.O_WRONLY), closing=closing
    )
    writer.setFormatter(JsonFormatter())
    ours = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(handlers=[writer], level=max(ours, logging.WARNING), force=True)
    logging.getLogger(_OURS).setLevel(ours)
    return writer
