"""Structured log records.

Every line is one JSON object. What may stand in it is decided here: our own
messages and named values, and of everything else (exceptions, other libraries)
only what cannot hold a value from a request.
"""

import json
import logging
import os
import time
import traceback
from asyncio import AbstractEventLoop
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TextIO

from sidecar.call import Call, Note, entered, find_call
from sidecar.log_writer import LogWriter

_OURS = "sidecar"
_MAX_CAUSES = 5  # they may go in a circle


@contextmanager
def access(call: Call, **notes: Note) -> Iterator[Call]:
    """Open `call` and write its one access line at the end, however it ends."""
    start = time.perf_counter()
    call.note(**notes)
    with entered(call):
        try:
            yield call
        finally:
            milliseconds = round((time.perf_counter() - start) * 1000, 3)
            logging.getLogger("sidecar.access").info(
                "call", extra={"notes": {**call.notes, "duration_ms": milliseconds}}
            )


def event(message: str, **notes: Note) -> None:
    """Write one record of the sidecar's own life, with named values."""
    logging.getLogger(_OURS).info(message, extra={"notes": notes})


def warning(message: str, **notes: Note) -> None:
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
        call = find_call()
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
    if error is None or depth == _MAX_CAUSES:
        return {}
    frames = traceback.extract_tb(error.__traceback__)
    cause = error.__cause__ or error.__context__
    return {
        "error": type(error).__qualname__,
        "frames": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
        **({"cause": _describe(cause, depth + 1)} if cause else {}),
    }


def configure(stream: TextIO | None, *, closing: float) -> LogWriter:
    """Send every record of the process to `stream` as JSON, until what is returned is closed.

    Its file descriptor is what is written to; None, which is what `sys.stdout` is when
    the process was started without one, is for nowhere. `closing` is the time in seconds
    that closing may take. From other libraries only
    warnings and worse are taken: httpx2 tells the address of every request at INFO and
    its headers at DEBUG.
    """
    # Something has to be opened: the number of a closed stream goes to the next socket.
    writer = LogWriter(
        stream.fileno() if stream else os.open(os.devnull, os.O_WRONLY), closing=closing
    )
    writer.setFormatter(JsonFormatter())
    logging.basicConfig(handlers=[writer], level=logging.WARNING, force=True)
    logging.getLogger(_OURS).setLevel(logging.INFO)
    # It warns of every request that is not HTTP, and advises to install what is not wanted.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    return writer
