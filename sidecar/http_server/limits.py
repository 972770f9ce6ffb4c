"""Limits of one HTTP listener, and the state that its connections share to keep them.

`protocol` and `places` enforce them. The sizes in `http1` are fixed.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Protocol

from sidecar.http_server.counts import Refusal
from sidecar.http_server.lingering_close import LingeringTransport
from sidecar.http_server.load_shedding import LoadShedding
from sidecar.http_server.places import Places


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of one listener; times are in seconds.

    * `header_timeout`: from the start of a connection, or the first byte of a later request,
      to the end of the head. A TLS handshake has the same time.
    * `request_timeout`: from the same time to the end of the body. Also how long a client
      may take nothing of its response; then its connection is aborted.
    * `keep_alive`: how long a connection may idle between requests.
    * `age`: after about this time a response closes its connection, so that clients spread
      over replicas again.
    * `linger`: how long a connection is read from after its last response. Data that
      nobody reads causes a reset, which can destroy the response (RFC 9112 section 9.6).
    * `connections`: open connections, at most. Beyond it the one that has waited longest
      for its client is ended, or the new one is refused with 503.
    * `connections_per_address`: the same for each network of clients. 0: no such limit.
    * `backlog`: connections that the system accepts before the listener does, at most.
    """

    header_timeout: float = 5.0
    request_timeout: float = 10.0
    keep_alive: float = 75.0
    age: float = 600.0
    linger: float = 1.0
    connections: int = 1024
    connections_per_address: int = 0
    backlog: int = 1024


class Connection(Protocol):
    """A connection, as its listener controls it."""

    transport: LingeringTransport

    def shutdown(self) -> None:
        """Close with the current response; if none is due, after the linger time."""

    def end(self) -> None:
        """Close, unless a request is being served."""

    def refuse_incomplete(self) -> None:
        """Refuse the request of which a part is here."""


@dataclass(slots=True)
class ListenerState:
    """State that the connections of one listener share."""

    limits: Limits
    load_shedding: LoadShedding | None
    places: Places
    # The name of every client, where connections have no IP address.
    peer: str | None = None
    # All connections, and the tasks of their requests, which may end later.
    connections: set[Connection] = field(default_factory=set)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    # The request sequences with a plain request that is not answered, for `load_shedding`. One
    # whose client does not read is left out.
    begun: set[object] = field(default_factory=set)
    # The state that the application made in its lifespan for its requests.
    app_state: dict[str, Any] = field(default_factory=dict)
    # Whether each response closes its connection.
    is_closing: bool = False
    # Whether requests that are incomplete are refused.
    is_cut: bool = False
    refused: Counter[Refusal] = field(default_factory=Counter)

    @classmethod
    def of(
        cls, limits: Limits, load_shedding: LoadShedding | None, *, peer: str | None = None
    ) -> "ListenerState":
        """Return the state of a listener without connections."""
        places = Places(limits.connections, limits.connections_per_address)
        return cls(limits, load_shedding, places, peer)
