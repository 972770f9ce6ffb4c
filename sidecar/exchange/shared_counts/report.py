"""Log lines about the store of shared counts: one at the first failure, then seldom."""

import math
import time
from collections.abc import Callable

from sidecar import logs

INTERVAL = 600.0  # seconds between two lines about a failure


class Report:
    """Reports whether the store at `server` works.

    The first success is reported. Of each fault the first failure is reported at once, later ones
    every `INTERVAL`, and so is the first success after a reported failure. `fault` is that of the
    last failure, None while the store works. `now` returns seconds.
    """

    def __init__(self, server: str, now: Callable[[], float] = time.monotonic) -> None:
        self.fault: str | None = None
        self._server = server
        self._now = now
        self._end = -math.inf  # of the interval in which each of `_reported` has its line
        self._reported: set[str] = set()
        self._success: str | None = "wrong secrets shared"  # the next line about a success

    def failed(self, fault: str) -> None:
        """Report a failure; `fault` is that of a StoreError."""
        self.fault = fault
        now = self._now()
        if now >= self._end:
            self._reported.clear()
            self._end = now + INTERVAL
        if fault in self._reported:
            return
        self._reported.add(fault)
        self._success = "wrong secrets shared again"
        logs.warning("wrong secrets not shared", server=self._server, fault=fault)

    def succeeded(self) -> None:
        """Report that the store works, if it is the first time, or a line said that it does not."""
        self.fault = None
        if self._success is not None:
            logs.event(self._success, server=self._server)
            self._success = None
