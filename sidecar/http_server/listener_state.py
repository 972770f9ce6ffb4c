"""What the connections of one HTTP listener share. `protocol` and `places` enforce its limits."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Protocol

from sidecar.http_server.counts import Refusal
from sidecar.http_server.limits import Limits
from sidecar.http_server.lingering_transport import LingeringTransport
from sidecar.http_server.load_shedding import LoadShedding
from sidecar.http_server.places import Places


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
