"""The kept connections to the auth-api, and their counters."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from sidecar import logs
from sidecar.auth_api.transport.connection import CloseReason, Connection
from sidecar.tls.resuming_context import ResumingContext

# After about so many seconds a connection is not used again, so that an auth-api that has
# moved to another address is followed.
AGE = 60.0


@dataclass(slots=True, kw_only=True)
class ConnectionCounters:
    """Counters of connections. `open` and `idle` are the numbers of now."""

    open: int = 0
    idle: int = 0
    opened: int = 0
    reused: int = 0
    resent: int = 0
    closed: Counter[str] = field(default_factory=Counter)


class ConnectionPool:
    """Keeps connections for `keep_alive` seconds of idle time. The last one used is used first.

    There are never more connections than exchanges at once.
    """

    def __init__(self, keep_alive: float) -> None:
        self._keep_alive = keep_alive
        self._idle: dict[Connection, asyncio.TimerHandle] = {}
        self._open: set[Connection] = set()
        self.counters = ConnectionCounters()

    @property
    def keeps(self) -> bool:
        """Whether connections are kept at all."""
        return self._keep_alive > 0

    def take(self, context: ResumingContext | None) -> Connection | None:
        """Return an idle connection that was opened with `context`, or None."""
        for connection in reversed(self._idle):
            if connection.context is not context:
                connection.abort("replaced")
            elif connection.can_begin():  # else the loop will read what is there
                self._idle.pop(connection).cancel()
                self.counters.idle -= 1
                self.counters.reused += 1
                return connection
        return None

    def new(self, context: ResumingContext | None) -> Connection:
        """Return a connection that is not open yet."""
        age = AGE * random.uniform(0.9, 1.1)  # noqa: S311 to spread, not to hide
        return Connection(self, context, asyncio.get_running_loop().time() + age)

    def opened(self, connection: Connection) -> None:
        """Count an open connection."""
        self._open.add(connection)
        self.counters.open += 1
        self.counters.opened += 1
        logs.debug("auth-api connection opened", open=self.counters.open)

    def put_back(self, connection: Connection) -> None:
        """Keep a connection whose exchange has ended, if it may be used again."""
        if connection not in self._open:
            return
        loop = asyncio.get_running_loop()
        if loop.time() > connection.expires:
            connection.abort("age")
        elif not self.keeps:
            connection.abort("idle")
        else:
            expire: Callable[[CloseReason], None] = connection.abort
            self._idle[connection] = loop.call_later(self._keep_alive, expire, "idle")
            self.counters.idle += 1

    def close(self) -> None:
        """Abort every connection."""
        for connection in tuple(self._open):
            connection.abort("shutdown")

    def closed(self, connection: Connection, reason: CloseReason) -> None:
        """Count a connection that has ended, and keep it no longer."""
        timer = self._idle.pop(connection, None)
        if timer is not None:
            timer.cancel()
            self.counters.idle -= 1
        self._open.remove(connection)
        self.counters.open -= 1
        self.counters.closed[reason] += 1
        logs.debug("auth-api connection closed", reason=reason, open=self.counters.open)
