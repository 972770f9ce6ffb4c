"""Eviction of gRPC connections that hold what other clients need.

The rules are those of the REST listener: a client must read its responses in a bounded time, and
beyond the limit of connections the longest idle ones are closed. gRPC core has neither rule.
"""

import asyncio
from typing import Final

from sidecar.grpc_server.connections import Connections, descriptors
from sidecar.interceptors.connection_use import ConnectionUse

# Seconds between two turns. In that time clients may exceed the limits.
_INTERVAL: Final = 0.1
# Seconds that clients have after GOAWAY to read a response, and to close.
_LAST_SECONDS: Final = 1.0


class Eviction:
    """Ends connections with unread responses, and idle ones beyond the limit, while `run` runs.

    * `use`: what the clients do with their connections.
    * `read_timeout`: seconds in which a client must read a response.
    * `connections`: open connections, at most. Also the number of unread responses at which
      the connection with the oldest one is ended.
    * `evicted`: the number of connections that were ended so far.
    """

    def __init__(self, use: ConnectionUse, *, read_timeout: float, connections: int) -> None:
        self.evicted = 0
        self._use = use
        self._read_timeout = read_timeout
        self._limit = connections

    async def run(self, connections: Connections) -> None:
        """Evict from `connections` until the task is cancelled."""
        while True:
            await asyncio.sleep(_INTERVAL)
            self._end_unread(connections)
            # A search costs time, and there are no more connections than descriptors. It also
            # forgets connections that are closed.
            if max(len(descriptors()), self._use.known) > self._limit:
                self._end_idle(connections)

    async def finish(self, connections: Connections) -> None:
        """Also evict those without a call, until the task is cancelled. The server sends GOAWAY.

        After it gRPC core gives clients that do not answer its ping 20 s.
        """
        self._read_timeout = min(self._read_timeout, _LAST_SECONDS)
        await asyncio.sleep(_LAST_SECONDS)
        while True:
            connections.end(self._use.unused(connections.peers()))
            await asyncio.sleep(_INTERVAL)

    def _end_unread(self, connections: Connections) -> None:
        before = asyncio.get_running_loop().time() - self._read_timeout
        peers = self._use.unread(before=before, capacity=self._limit)
        if peers:
            self.evicted += connections.end(peers)

    def _end_idle(self, connections: Connections) -> None:
        peers = connections.peers()
        self.evicted += connections.end(self._use.idle(peers, max(len(peers) - self._limit, 0)))
