"""Structured records, and the call that they belong to.

Every line is one JSON object. What may stand in it is decided here: our own
messages and named values, and of everything else (exceptions, other libraries)
only what cannot hold a value from a request.
"""

import json
import logging
import os
import re
import time
import traceback
import uuid
from asyncio import AbstractEventLoop
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TextIO

from sidecar.log_writer import LogWriter

_OURS = "sidecar"
_MOST_CAUSES = 5  # they may go in a circle
# RFC 9562 section 4, of whatever version; to be matched without regard to case.
UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_UUID = re.compile(UUID, re.IGNORECASE)
# Version 00 of https://www.w3.org/TR/trace-context/#traceparent-header
_TRACEPARENT = re.compile("00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

Value = str | int | float | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """The call in hand: its identity, and what its access line will say.

    The outermost layer of the protocol by which a call came in opens it; all
    that runs below, in the same task or in one started from it, sees the same.
    """

    request_id: str
    traceparent: str | None = None
    # The IP address of the client, which may be another than that of its socket.
    address: str = ""
    notes: dict[str, Value] = field(default_factory=dict)

    @classmethod
    def of(cls, *, request_id: str | None, traceparent: str | None, address: str = "") -> "Call":
        """Make a call from what the caller sent: an id that is no UUID is replaced by a new one.

        A `traceparent` that is not one (W3C Trace Context) is dropped.
        """
        kept = request_id if request_id and _UUID.fullmatch(request_id) else str(uuid.uuid4())
        known = traceparent if traceparent and _TRACEPARENT.fullmatch(traceparent) else None
        return cls(request_id=kept, traceparent=known, address=address)

    def note(self, **notes: Value) -> None:
        """Add named values to the access line. Never a value that a caller sent."""
        self.notes.update(notes)


_call: ContextVar[Call] = ContextVar("call")


def current_call() -> Call:
    """Return the call in hand; outside of one, a new one that is noted nowhere."""
    return _call.get(None) or Call.of(request_id=None, traceparent=None)


@contextmanager
def opened(call: Call) -> Iterator[Call]:
    """Let `call` be the one in hand."""
    token = _call.set(call)
    try:
        yield call
    finally:
        _call.reset(token)


@contextmanager
def access(call: Call, **notes: Value) -> Iterator[Call]:
    """Open `call` and write its one access line at the end, however it ends."""
    start = time.perf_counter()
    call.note(**notes)
    with opened(call):
        try:
            yield call
        finally:
            milliseconds = round((time.perf_counter() - start) * 1000, 3)
            logging.getLogger("sidecar.access").info(
                "call", extra={"notes": {**call.notes, "duration_ms": milliseconds}}
            )


def event(message: str, **notes: Value) -> None:
    """Write one record of the sidecar's own life, with named values."""
    logging.getLogger(_OURS).info(message, extra={"notes": notes})


def warning(message: str, **notes: Value) -> None:
    """Write one record of what goes on for now, and needs to be looked at."""
    logging.getLogger(_OURS).warning(message, extra={"notes": notes})


def failure(message: str, error: BaseException | None) -> None:
    """Write a fault of ours: where it happened and of what type, without its text."""
    logging.getLogger(_OURS).error(message, exc_info=error)


def loop_failure(_loop: AbstractEventLoop, context: Mapping[str, Any]) -> None:
    """Handle what a task or callback of the event loop left unhandled (`set_exception_handler`).

    The loop's own message may quote the arguments of a callback.
    """
    failure("a task or callback failed", context.get("exception"))


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON.

    An exception is told by its types and frames only, because its text may quote
    a request. Of a record from another library only the template is told, for
    its arguments may do the same; below a warning not even that, for what is
    written to debug a library is often put together without a template.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        call = _call.get(None)
        ours = record.name.split(".")[0] == _OURS
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage() if ours else _template(record),
            **({"request_id": call.request_id} if call else {}),
            **getattr(record, "notes", {}),
            **_describe(record.exc_info[1] if record.exc_info else None),
        }
        return json.dumps(line, ensure_ascii=True)


def _template(record: logging.LogRecord) -> str:
    is_template = isinstance(record.msg, str) and record.levelno >= logging.WARNING
    return str(record.msg) if is_template else "withheld"


def _describe(error: BaseException | None, depth: int = 0) -> dict[str, object]:
    if error is None or depth == _MOST_CAUSES:
        return {}
    frames = traceback.extract_tb(error.__traceback__)
    cause = error.__cause__ or error.__context__
    return {
        "error": type(error).__qualname__,
        "frames": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
        **({"cause": _describe(cause, depth + 1)} if cause else {}),
    }


def configure(stream: TextIO | None) -> LogWriter:
    """Send every record of the process to `stream` as JSON, until what is returned is closed.

    Its file descriptor is what is written to; None, which is what `sys.stdout` is when
    the process was started without one, is for nowhere. From other libraries only
    warnings and worse are taken: httpx2 tells the address of every request at INFO and
    its headers at DEBUG.
    """
    # Something has to be opened: the number of a closed stream goes to the next socket.
    writer = LogWriter(stream.fileno() if stream else os.open(os.devnull, os.O_WRONLY))
    writer.setFormatter(JsonFormatter())
    logging.basicConfig(handlers=[writer], level=logging.WARNING, force=True)
    logging.getLogger(_OURS).setLevel(logging.INFO)
    # It warns of every request that is not HTTP, and advises to install what is not wanted.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    return writer
