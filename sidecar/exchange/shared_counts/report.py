"""Log lines about the store of shared counts: one at the first failure, then seldom."""

import time
from collections.abc import Callable

from sidecar import logs

INTERVAL = 600.0  # seconds between two lines about a failure


class Report:
    """Reports whether the store at `server` works.

    The first failure is reported at once, later ones every `INTERVAL`. The first success after
    a reported failure is reported. `now` returns seconds.
    """

    def __init__(self, server: str, now: Callable[[], float] = time.monotonic) -> None:
        self._server = server
        self._now = now
        self._next = self._now()
        self._is_reported = False
        self.is_failing = False

    def failed(self, fault: str) -> None:
        """Report a failure; `fault` is that of a StoreError."""
        self.is_failing = True
        now = self._now()
        if now < self._next:
            return
        self._next = now + INTERVAL
        self._is_reported = True
        logs.warning("wrong secrets not shared", server=self._server, fault=fault)

    def succeeded(self) -> None:
        """Report that the store works again, if a line said that it does not."""
        self.is_failing = False
        if self._is_reported:
            self._is_reported = False
            logs.event("wrong secrets shared again", server=self._server)
