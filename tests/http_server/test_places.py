"""Places by themselves, without connections: who is ended for whom, and at what cost."""

import random

import pytest

from sidecar.http_server.counts import Drop, Refusal
from sidecar.http_server.places import Place, Places
from tests.line_count import lines_of

HERE, THERE = "192.0.2.1", "192.0.2.2"


class Connection:
    """A connection with a place: it waits at first, and notes when it is ended."""

    def __init__(self, places: Places, address: str = HERE, reason: Drop = Drop.IDLE) -> None:
        self.is_ended = False
        self.place = Place(places)
        self.place.take((address, 1), self._end, reason)

    def _end(self) -> None:
        self.is_ended = True

    @property
    def refusal(self) -> Refusal | None:
        """Why each of its requests is refused, if it is."""
        return self.place.refusal[0] if self.place.refusal else None


def full(places: Places, *addresses: str) -> list[Connection]:
    """Return a waiting connection from each address."""
    return [Connection(places, address) for address in addresses]


def ended(connections: list[Connection]) -> list[int]:
    """Return the indices of those that were ended."""
    return [index for index, one in enumerate(connections) if one.is_ended]


def test_the_longest_waiting_one_is_ended() -> None:
    """Connections are ended in the order in which they began to wait for what they wait for."""
    places = Places(3)
    first = full(places, HERE, HERE, HERE)
    first[0].place.wait(Drop.INCOMPLETE)  # from now on it waits for something else
    first[1].place.wait(Drop.IDLE)  # as before
    found = []
    for _ in range(3):
        Connection(places)
        found.append(ended(first))
    assert found == [[1], [1, 2], [0, 1, 2]]
    assert places.dropped == {Drop.IDLE: 2, Drop.INCOMPLETE: 1}


def test_what_is_served_is_never_ended() -> None:
    """Only connections that wait are ended; if none does, a new one is only for a refusal."""
    places = Places(2)
    busy, idle = full(places, HERE, HERE)
    busy.place.serve()
    busy.place.serve()  # again changes nothing
    third = Connection(places)
    assert (busy.is_ended, idle.is_ended, third.refusal) == (False, True, None)
    third.place.serve()
    fourth = Connection(places)
    assert fourth.place.refusal == (
        Refusal.TOO_MANY_CONNECTIONS,
        "There must not be more than 2 connections.",
    )
    busy.place.wait(Drop.UNREAD)
    assert Connection(places).refusal is None
    assert busy.is_ended


def test_refusals_have_a_limit() -> None:
    """As many connections may be refused as served. Beyond it, again the longest waiting ends."""
    places = Places(2)
    for one in full(places, HERE, HERE):
        one.place.serve()
    refused = full(places, HERE, HERE)
    further = Connection(places)
    assert (ended(refused), further.refusal) == ([0], Refusal.TOO_MANY_CONNECTIONS)
    for one in (refused[1], further):
        one.place.serve()
    last = Connection(places)
    assert last.is_ended
    last.place.wait(Drop.IDLE)
    last.place.leave()
    assert places.dropped == {Drop.IDLE: 1, Drop.ABORTED: 1}
    assert places.count_waiting() == {}
    refused[1].place.leave()  # which makes no place for a request
    assert Connection(places).refusal is Refusal.TOO_MANY_CONNECTIONS


def test_a_place_is_given_back_once() -> None:
    """What happens to a connection after its end changes nothing for the others."""
    places = Places(1)
    (first,) = full(places, HERE)
    second = Connection(places)
    first.place.leave()
    first.place.serve()
    first.place.wait(Drop.UNREAD)
    first.place.end(Drop.UNREAD)
    assert (first.is_ended, second.is_ended) == (True, False)
    assert places.dropped == {Drop.IDLE: 1}
    second.place.leave()
    second.place.leave()
    third = Connection(places)
    third.place.serve()
    assert Connection(places).refusal is Refusal.TOO_MANY_CONNECTIONS


def test_handshakes_wait_too() -> None:
    """A connection in the TLS handshake is counted apart, and ended like any other."""
    places = Places(2)
    opening = Connection(places, reason=Drop.HANDSHAKE)
    full(places, HERE, HERE)
    assert opening.is_ended
    assert places.dropped == {Drop.HANDSHAKE: 1}
    Connection(places, reason=Drop.HANDSHAKE)
    assert places.count_waiting() == {Drop.IDLE: 1, Drop.HANDSHAKE: 1}


def test_an_address_has_a_limit() -> None:
    """Beyond its limit an address loses its own longest waiting connection, and no other one."""
    places = Places(10, 2)
    other, *own = full(places, THERE, HERE, HERE)
    assert Connection(places).refusal is None
    assert (other.is_ended, ended(own)) == (False, [0])
    assert places.dropped == {Drop.ADDRESS: 1}


def test_an_address_that_is_served_is_refused_more() -> None:
    """If no connection of an address waits, the next one is refused, and others are served."""
    places = Places(10, 2)
    for one in full(places, HERE, HERE):
        one.place.serve()
    assert Connection(places).place.refusal == (
        Refusal.TOO_MANY_CONNECTIONS_OF_ADDRESS,
        "There must not be more than 2 connections from one IP address.",
    )
    assert Connection(places, THERE).refusal is None


def test_the_largest_address_loses() -> None:
    """If all places are taken, the address with the most waiting connections loses the oldest."""
    places = Places(5, 4)
    honest, *many = full(places, THERE, HERE, HERE, HERE, HERE)
    for address in ("192.0.2.3", "192.0.2.4"):
        assert Connection(places, address).refusal is None
    assert (honest.is_ended, ended(many)) == (False, [0, 1])
    for one in many[2:]:
        one.place.serve()
    Connection(places, "192.0.2.5")  # all others have one
    assert honest.is_ended
    assert places.dropped == {Drop.IDLE: 3}


def test_a_network_is_one_address() -> None:
    """IPv6 addresses of one /64 network count as one. A connection without a peer has none."""
    places = Places(10, 1)
    first, other = full(places, "2001:db8::1", "2001:db8:0:1::1")
    Connection(places, "2001:db8::2")
    assert (first.is_ended, other.is_ended) == (True, False)
    for place in (Place(places), Place(places)):
        place.take(None, lambda: None, Drop.IDLE)
    assert places.dropped == {Drop.ADDRESS: 1}


class Model:
    """Does what `Places` does, with lists that are searched, and compares after each event."""

    def __init__(self, limit: int, per_address: int) -> None:
        self.places = Places(limit, per_address)
        self.limit, self.per_address = limit, per_address
        self.seated: dict[Connection, str] = {}
        self.waiting: list[Connection] = []

    def candidates(self, address: str) -> list[Connection] | None:
        """Return those of which one is ended for a new connection, None if it has a place."""
        own = [one for one in self.waiting if self.seated[one] == address]
        if self.per_address and list(self.seated.values()).count(address) >= self.per_address:
            return own[:1]
        if len(self.seated) < self.limit:
            return None
        if not self.per_address:
            return self.waiting[:1]
        addresses = [self.seated[one] for one in self.waiting]
        sizes = [addresses.count(address) for address in addresses]
        oldest = [one for one in self.waiting if one is self.oldest_of(self.seated[one])]
        return [one for one in oldest if addresses.count(self.seated[one]) == max(sizes)]

    def oldest_of(self, address: str) -> Connection:
        """Return the longest waiting connection of an address that has one."""
        return next(one for one in self.waiting if self.seated[one] == address)

    def come(self, address: str) -> None:
        """Connect from an address."""
        permitted = self.candidates(address)
        new = Connection(self.places, address)
        lost = next((one for one in self.seated if one.is_ended), None)
        assert (new.refusal is None) is (permitted != [])
        assert (lost is None) is (not permitted)
        if lost is not None:
            assert lost in (permitted or [])
            self.forget(lost)
        if new.refusal is None:
            self.seated[new] = address
            self.waiting.append(new)
        else:
            new.place.leave()

    def wait(self, one: Connection) -> None:
        """Let a connection wait."""
        one.place.wait(Drop.IDLE)
        self.waiting += [] if one in self.waiting else [one]

    def serve(self, one: Connection) -> None:
        """Let the request of a connection be served."""
        one.place.serve()
        self.waiting = [other for other in self.waiting if other is not one]

    def forget(self, one: Connection) -> None:
        """Let a connection be gone."""
        one.place.leave()
        self.serve(one)
        del self.seated[one]


@pytest.mark.parametrize("per_address", [0, 3])
def test_any_order_of_events(per_address: int) -> None:
    """Whatever comes in whatever order, the one that is ended is one that a model permits."""
    chance = random.Random(17)  # noqa: S311 the same events each time
    model = Model(8, per_address)
    for _ in range(4000):
        event = chance.choice((model.wait, model.serve, model.forget, None, None))
        if event is None or not model.seated:
            model.come(chance.choice("abcde"))
        else:
            event(chance.choice(list(model.seated)))
        assert model.places.count_waiting().total() == len(model.waiting)
    for one in tuple(model.seated):
        model.forget(one)
    assert model.places._groups == {}
    assert set(model.places.dropped) == {Drop.IDLE, *((Drop.ADDRESS,) if per_address else ())}


@pytest.mark.parametrize("per_address", [0, 100])
def test_the_work_is_constant(per_address: int) -> None:
    """A connection beyond the limit costs the same, whatever their number and their addresses."""
    costs = set()
    for limit in (10, 100, 5000):
        places = Places(limit, per_address)
        full(places, *(f"10.0.{number % 250}.1" for number in range(3 * limit)))

        def come(places: Places = places) -> None:
            one = Connection(places, "192.0.2.77")
            one.place.serve()
            one.place.wait(Drop.IDLE)

        for _ in range(5):
            costs.add(lines_of(come))
    assert max(costs) - min(costs) <= 8  # a list that grows or shrinks by one
    assert max(costs) < 150
