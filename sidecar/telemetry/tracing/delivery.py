"""Log lines about the delivery of spans: one at once, then seldom."""

import logging
import time
from collections.abc import Callable

from sidecar import logs
from sidecar.spans import Endpoint

INTERVAL = 600.0  # seconds between two lines of one kind
_MAX_KINDS = 100


class Delivery:
    """Reports whether spans reach the collector at `endpoint`.

    The first failure is reported at once, a lasting one every `INTERVAL`. The first success
    after a reported failure is reported. `failures` counts all of them. Only the thread of the
    exporter may call it.
    """

    def __init__(self, endpoint: str, now: Callable[[], float] = time.monotonic) -> None:
        self._endpoint = Endpoint.of(endpoint).url
        self._now = now
        self._next = self._now()
        self._is_reported = False
        self._lost = 0
        self.failures = 0

    def failed(self, fault: str) -> None:
        """Report a request that failed; `fault` is an exception's type or a status."""
        self.failures += 1
        now = self._now()
        if now < self._next:
            return
        self._next = now + INTERVAL
        self._is_reported = True
        logs.warning("traces not sent", endpoint=self._endpoint, fault=fault, lost_spans=self._lost)
        self._lost = 0

    def lost(self, spans: int) -> None:
        """Count spans that were given up; the next line has their number."""
        self._lost += spans

    def succeeded(self) -> None:
        """Report that spans arrive again, if a line said that they do not."""
        if self._is_reported:
            self._is_reported = False
            logs.event("traces sent again", lost_spans=self._lost)
            self._lost = 0


class SeldomHandler(logging.Handler):
    """Passes each kind of message on to the log of the process once in `INTERVAL`."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now = now
        self._next: dict[tuple[str, str], float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Pass `record` on, unless one of its kind was passed on lately."""
        kind = (record.name, str(record.msg))
        now = self._now()
        if now < self._next.get(kind, now):
            return
        if len(self._next) == _MAX_KINDS:
            self._next.clear()
        self._next[kind] = now + INTERVAL
        logging.getLogger().handle(record)
