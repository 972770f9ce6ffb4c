"""The places of a listener's connections: which connection is ended for a new one, and when.

A connection has a place from its accept to its end. It waits while its client must act: finish
the TLS handshake, send the rest of a request, or read. If a new connection finds no free place,
the connection that has waited longest is ended for it. A connection whose whole request is being
served does not wait, so it is never ended for another one.

This module knows no HTTP, no TLS and no sockets. All work here takes constant time, whatever the
number of connections and of addresses.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

from sidecar.client_address import network_of
from sidecar.http_server.counts import Drop, Refusal


class Places:
    """Gives places to connections: `limit` to be served, and as many again to be refused.

    With `per_address` above 0, each network of clients (`client_address.network_of`) has at most
    so many places. Beyond it the longest waiting connection of that network is ended, or the new
    one is refused. And if all places are taken, the network with the most waiting connections
    loses the longest waiting one of them.

    `dropped` counts the connections ended for others, by what they waited for.
    """

    def __init__(self, limit: int, per_address: int = 0) -> None:
        self.dropped: Counter[Drop] = Counter()
        self._limit = limit
        self._per_address = per_address
        self._count = 0
        self._groups: dict[str, _Group] = {}
        # If addresses make no difference, there is one group, and no need to compare.
        self._ranking = _Ranking() if per_address else None
        self._refused = _Group("", None)
        rule = "There must not be more than"
        self._details = {
            Refusal.TOO_MANY_CONNECTIONS: f"{rule} {limit} connections.",
            Refusal.TOO_MANY_CONNECTIONS_OF_ADDRESS: f"{rule} {per_address} connections from one "
            "IP address.",
        }

    def count_waiting(self) -> Counter[Drop]:
        """Return the number of waiting connections, by what they wait for.

        Unlike all else here it takes time for each connection: it is for metrics.
        """
        groups = (self._refused, *self._groups.values())
        return Counter(reason for group in groups for reason in group.waiting.values())

    def admit(self, place: "Place", address: str) -> "_Group | None":
        """Return the group in which a connection from the IP address `address` has its place.

        None if there is no place at all. `place.refusal` is set if it is only for a refusal.
        """
        network = network_of(address) if self._per_address else ""
        group = self._groups.get(network) or _Group(network, self._ranking)
        refusal = self._ensure_free(group)
        if refusal is None:
            self._groups[network] = group
            self._count += 1
        else:
            place.refusal = refusal, self._details[refusal]
            group = self._refused
            if group.count >= self._limit and not self._end_one(group):
                return None
        group.count += 1
        return group

    def free(self, group: "_Group") -> None:
        """Take back a place that `admit` gave in `group`."""
        group.count -= 1
        if group is self._refused:
            return
        self._count -= 1
        if not group.count:
            del self._groups[group.network]

    def _ensure_free(self, group: "_Group") -> Refusal | None:
        """Have a place free for one more connection of `group`, or return why there is none."""
        # A connection through a Unix socket has no address.
        if self._per_address and group.network and group.count >= self._per_address:
            is_free = self._end_one(group, Drop.ADDRESS)
            return None if is_free else Refusal.TOO_MANY_CONNECTIONS_OF_ADDRESS
        if self._count < self._limit:
            return None
        largest = self._ranking.largest() if self._ranking else self._groups.get("")
        is_free = largest is not None and self._end_one(largest)
        return None if is_free else Refusal.TOO_MANY_CONNECTIONS

    def _end_one(self, group: "_Group", reason: Drop | None = None) -> bool:
        """End the longest waiting connection of `group`. Returns whether there was one."""
        if not group.waiting:
            return False
        place, waits_for = next(iter(group.waiting.items()))
        place.end(reason or waits_for)
        return True


class Place:
    """The place of one connection. Every method may be called again at any time."""

    __slots__ = ("_group", "_places", "abort", "refusal")

    def __init__(self, places: Places) -> None:
        self._places = places
        self._group: _Group | None = None
        self.abort: Callable[[], None] | None = None
        self.refusal: tuple[Refusal, str] | None = None

    def take(self, peer: Any, abort: Callable[[], None], reason: Drop) -> None:
        """Take this place for a connection from `peer`, which waits for `reason` at first.

        `peer` is the address as a transport has it: the IP address and more, or None after a
        reset.

        If it is only for a refusal, `refusal` has the reason and a text for the client. If there
        is no place at all, `abort` is called. It is also called when this connection is ended.
        """
        self._group = self._places.admit(self, peer[0] if peer else "")
        self.abort = abort
        if self._group is None:
            self.end(Drop.ABORTED)
        else:
            self.wait(reason)

    def wait(self, reason: Drop) -> None:
        """Say that the client must act. `reason` is what it must do.

        A connection that waits for the same thing as before keeps its age. Otherwise it is the
        youngest.
        """
        group = self._group
        if group is None or group.waiting.get(self) is reason:
            return
        is_new = self not in group.waiting
        group.waiting[self] = reason
        group.waiting.move_to_end(self)
        if is_new and group.ranking:
            group.ranking.rise(group)

    def serve(self) -> None:
        """Say that the client need not act: its request is being served."""
        group = self._group
        if group is None or self not in group.waiting:
            return
        del group.waiting[self]
        if group.ranking:
            group.ranking.fall(group)

    def leave(self) -> None:
        """Give this place back: the connection has ended."""
        self.serve()
        if self._group is not None:
            self._places.free(self._group)
        self._group = None
        self.abort = None  # it holds the connection

    def end(self, reason: Drop) -> None:
        """End the connection, give this place back, and count that."""
        abort = self.abort
        self.leave()
        if abort is not None:
            self._places.dropped[reason] += 1
            abort()


class _Group:
    """Connections among which the longest waiting one is ended: all, or those of a network.

    `waiting` has what each waits for, the longest waiting one first. It is no `dict`, because
    there the search for the first one would pass all that were removed before it.
    """

    __slots__ = ("count", "network", "ranking", "waiting")

    def __init__(self, network: str, ranking: "_Ranking | None") -> None:
        self.network = network
        self.ranking = ranking
        self.count = 0
        self.waiting: OrderedDict[Place, Drop] = OrderedDict()


class _Ranking:
    """Groups by their number of waiting connections. Finds one with the most of them."""

    def __init__(self) -> None:
        # The groups with n waiting connections are at index n. At index 0 there are none.
        self._by_size: list[OrderedDict[_Group, None]] = [OrderedDict()]

    def largest(self) -> _Group | None:
        """Return the group with the most waiting connections, None if no connection waits."""
        return next(iter(self._by_size[-1]), None)

    def rise(self, group: _Group) -> None:
        """Note that a connection of `group` has begun to wait."""
        size = len(group.waiting)
        self._by_size[size - 1].pop(group, None)
        if size == len(self._by_size):
            self._by_size.append(OrderedDict())
        self._by_size[size][group] = None

    def fall(self, group: _Group) -> None:
        """Note that a connection of `group` waits no longer."""
        size = len(group.waiting)
        del self._by_size[size + 1][group]
        if size:
            self._by_size[size][group] = None
        if not self._by_size[-1] and len(self._by_size) > 1:
            self._by_size.pop()
