"""Happy Eyeballs on virtual time over scripted attempts, and on each loop over sockets."""

import asyncio
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from socket import AF_INET, AF_INET6

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.auth_api.dns.look_up import SocketAddress
from sidecar.auth_api.transport.happy_eyeballs import (
    DELAY,
    MIN_DELAY,
    NoConnectionError,
    connect,
    delay_within,
    interleave,
)
from tests.faults.conditions import eventually, footprint
from tests.loops import on_each_loop
from tests.properties import many
from tests.virtual_time import VirtualLoop

SIX, SIX_TOO, SIX_THREE = (SocketAddress(AF_INET6, f"2001:db8::{n}", 443) for n in (1, 2, 3))
FOUR, FOUR_TOO = (SocketAddress(AF_INET, f"192.0.2.{n}", 443) for n in (1, 2))


class Race:
    """One call of `connect`, whose attempts a test ends."""

    def __init__(self, loop: VirtualLoop, *addresses: SocketAddress) -> None:
        self._loop = loop
        # When each attempt began, in seconds.
        self.began: dict[SocketAddress, float] = {}
        self.cancelled: list[SocketAddress] = []
        self.discarded: list[str] = []
        self._ends: dict[SocketAddress, asyncio.Future[str]] = {}
        self._stubborn: set[SocketAddress] = set()
        self.call: asyncio.Task[str] = loop.create_task(
            connect(addresses, self._open, discard=self.discarded.append, delay=DELAY)
        )
        loop.settle()

    async def _open(self, address: SocketAddress) -> str:
        self.began[address] = self._loop.time()
        end: asyncio.Future[str] = self._loop.create_future()
        self._ends[address] = end
        try:
            await asyncio.wait([end])
        except asyncio.CancelledError:
            self.cancelled.append(address)
            if address not in self._stubborn:
                raise
        return await end

    def pass_(self, seconds: float) -> None:
        """Let time pass."""
        self._loop.advance(seconds)

    def be_stubborn(self, address: SocketAddress) -> None:
        """Let an attempt go on although it is cancelled."""
        self._stubborn.add(address)

    def end(self, **ends: Sequence[SocketAddress]) -> None:
        """End attempts in one turn of the loop: those that have `opened`, those that `failed`."""
        for address in ends.get("opened", ()):
            self._ends[address].set_result(address.host)
        for address in ends.get("failed", ()):
            self._ends[address].set_exception(ConnectionRefusedError(address.host))
        self._loop.settle()

    @property
    def result(self) -> str | None:
        """The connection, None while the call runs. Raises what the call raised."""
        return self.call.result() if self.call.done() else None


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    """Give a loop on virtual time, in which no callback may fail."""
    failures: list[object] = []
    with VirtualLoop() as loop:
        loop.set_exception_handler(lambda _, context: failures.append(context))
        yield loop
    assert failures == []


@pytest.fixture
def race(loop: VirtualLoop) -> Callable[..., Race]:
    """Give the start of a call with some addresses."""
    return partial(Race, loop)


Start = Callable[..., Race]


def test_one_address_costs_no_task(loop: VirtualLoop, race: Start) -> None:
    """With one address the attempt runs in the task of the caller."""
    one = race(SIX)
    assert asyncio.all_tasks(loop) == {one.call}
    one.end(opened=[SIX])
    assert one.result == SIX.host


def test_the_failure_of_the_only_address(race: Start) -> None:
    """With one address its error is the only one, and the cause."""
    one = race(SIX)
    one.end(failed=[SIX])
    with pytest.raises(NoConnectionError) as raised:
        assert one.result
    assert raised.value.errors == (raised.value.__cause__,)
    assert isinstance(raised.value.__cause__, ConnectionRefusedError)


def test_the_only_attempt_is_cancelled_with_the_call(race: Start) -> None:
    """With one address a cancellation reaches the attempt."""
    one = race(SIX)
    one.call.cancel()
    one.pass_(0)
    assert (one.call.cancelled(), one.cancelled) == (True, [SIX])


@pytest.mark.parametrize(
    ("addresses", "order"),
    [
        ([SIX], [SIX]),
        ([SIX, FOUR], [SIX, FOUR]),
        ([FOUR, SIX], [FOUR, SIX]),
        ([SIX, SIX_TOO, FOUR], [SIX, FOUR, SIX_TOO]),
        ([FOUR, SIX, SIX_TOO, SIX_THREE], [FOUR, SIX, SIX_TOO, SIX_THREE]),
        ([SIX, SIX_TOO, SIX_THREE, FOUR, FOUR_TOO], [SIX, FOUR, SIX_TOO, FOUR_TOO, SIX_THREE]),
        ([FOUR, FOUR_TOO], [FOUR, FOUR_TOO]),
    ],
)
def test_families_take_turns(
    addresses: Sequence[SocketAddress], order: Sequence[SocketAddress]
) -> None:
    """The family of the first address begins, and the order in each family stays."""
    assert interleave(addresses) == order


@pytest.mark.parametrize(
    ("seconds", "count", "delay"),
    [(0.5, 1, DELAY), (0.5, 2, DELAY), (0.6, 3, 0.2), (20.0, 3, DELAY), (0.5, 100, MIN_DELAY)],
)
def test_each_attempt_begins_within_the_timeout(seconds: float, count: int, delay: float) -> None:
    """With more addresses the attempts follow sooner, so that the last one has its time too."""
    assert delay_within(seconds, count) == pytest.approx(delay)


def test_attempts_begin_one_after_the_other(race: Start) -> None:
    """While none ends, an attempt begins every 250 ms; after the last nothing wakes the loop."""
    three = race(SIX, SIX_TOO, FOUR)
    three.pass_(10)
    assert three.began == {SIX: 0, FOUR: 0.25, SIX_TOO: 0.5}
    assert (three.result, three._loop._next()) == (None, None)


def test_a_fast_first_attempt_is_the_only_one(race: Start) -> None:
    """An address that answers within the delay is the only one that is tried."""
    two = race(SIX, FOUR)
    two.pass_(0.2)
    two.end(opened=[SIX])
    two.pass_(10)
    assert (two.result, list(two.began), two.discarded) == (SIX.host, [SIX], [])


def test_a_failure_begins_the_next_attempt_at_once(race: Start) -> None:
    """After a failure the next attempt does not wait, and the one after it waits for the delay."""
    three = race(SIX, FOUR, SIX_TOO)
    three.pass_(0.1)
    three.end(failed=[SIX])
    three.pass_(10)
    assert three.began == {SIX: 0, FOUR: 0.1, SIX_TOO: 0.35}


def test_the_failure_of_an_earlier_attempt_begins_the_next(race: Start) -> None:
    """Whichever attempt fails, the next one begins."""
    three = race(SIX, FOUR, SIX_TOO)
    three.pass_(0.3)
    three.end(failed=[SIX])
    assert three.began == {SIX: 0, FOUR: 0.25, SIX_TOO: 0.3}
    three.end(opened=[FOUR])
    assert (three.result, three.cancelled) == (FOUR.host, [SIX_TOO])


def test_the_first_success_wins(race: Start) -> None:
    """The others are cancelled, and leave no connection."""
    three = race(SIX, FOUR, SIX_TOO)
    three.pass_(1)
    three.end(opened=[FOUR])
    assert (three.result, three.cancelled, three.discarded) == (FOUR.host, [SIX, SIX_TOO], [])


def test_of_two_at_once_the_preferred_wins(race: Start) -> None:
    """Of connections that open in one turn of the loop the earlier attempt's is used."""
    two = race(SIX, FOUR)
    two.pass_(1)
    two.end(opened=[FOUR, SIX])
    assert (two.result, two.cancelled, two.discarded) == (SIX.host, [], [FOUR.host])


@pytest.mark.parametrize(("end", "discarded"), [("opened", [SIX.host]), ("failed", [])])
def test_a_connection_that_opens_after_all_is_closed(
    race: Start, end: str, discarded: Sequence[str]
) -> None:
    """An attempt that its cancellation does not end is not waited for; its connection is closed."""
    two = race(SIX, FOUR)
    two.be_stubborn(SIX)
    two.pass_(1)
    two.end(opened=[FOUR])
    assert two.result == FOUR.host
    two.end(**{end: [SIX]})
    assert two.discarded == discarded


def test_attempts_are_cancelled_with_the_call(race: Start) -> None:
    """The caller's deadline ends every attempt."""
    two = race(SIX, FOUR)
    two.pass_(1)
    two.call.cancel()
    two.pass_(0)
    assert (two.call.cancelled(), two.cancelled) == (True, [SIX, FOUR])


def test_a_connection_that_opens_as_the_call_is_cancelled_is_closed(race: Start) -> None:
    """A call that is cancelled in the turn in which an attempt succeeds leaves no connection."""
    two = race(SIX, FOUR)
    two.pass_(1)
    two._ends[FOUR].set_result(FOUR.host)
    two._loop.call_soon(two.call.cancel)
    two.pass_(0)
    assert (two.call.cancelled(), two.cancelled, two.discarded) == (True, [SIX], [FOUR.host])


def test_all_attempts_fail(race: Start) -> None:
    """The error holds every failure in the order of the attempts; the first is its cause."""
    three = race(SIX, FOUR, SIX_TOO)
    three.pass_(1)
    three.end(failed=[SIX_TOO])
    three.end(failed=[FOUR, SIX])
    with pytest.raises(NoConnectionError, match="3 failed") as raised:
        assert three.result
    hosts = [str(error) for error in raised.value.errors]
    assert hosts == [SIX.host, FOUR.host, SIX_TOO.host]
    assert raised.value.__cause__ is raised.value.errors[0]


addresses = st.lists(st.sampled_from([SIX, SIX_TOO, SIX_THREE, FOUR, FOUR_TOO]), min_size=1)


@many
@given(addresses)
def test_interleaving_loses_nothing(addresses: list[SocketAddress]) -> None:
    """Every address is tried, the first one first, each family in its order."""
    order = interleave(addresses)
    assert order[0] == addresses[0]
    for family in (AF_INET, AF_INET6):
        assert [a for a in order if a.family == family] == [
            a for a in addresses if a.family == family
        ]


async def open_transport(address: SocketAddress) -> asyncio.Transport:
    """Open a connection by the loop in use."""
    transport, _ = await asyncio.get_running_loop().create_connection(
        asyncio.Protocol, address.host, address.port, family=address.family
    )
    return transport


def address_of(bound: socket.socket) -> SocketAddress:
    """Return the address of a socket of IPv4."""
    return SocketAddress(AF_INET, *bound.getsockname())


@on_each_loop
async def test_a_refused_connection_is_followed_by_the_next() -> None:
    """Over sockets: nobody listens at the first address, and the second one is used."""
    with socket.socket() as bound, socket.create_server(("127.0.0.1", 0)) as listener:
        bound.bind(("127.0.0.1", 0))
        addresses = [address_of(bound), address_of(listener)]
        transport = await connect(
            addresses, open_transport, discard=asyncio.Transport.abort, delay=60
        )
        assert transport.get_extra_info("peername") == listener.getsockname()
        transport.abort()


@on_each_loop
async def test_a_silent_address_leaves_no_descriptor() -> None:
    """Over sockets: a connection that does not open is closed when another one wins."""
    with ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        stack.enter_context(socket.create_connection(silent.getsockname()))  # it fills the backlog
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        addresses = [address_of(silent), address_of(listener)]

        async def connect_and_close() -> None:
            transport = await connect(
                addresses, open_transport, discard=asyncio.Transport.abort, delay=0
            )
            assert transport.get_extra_info("peername") == listener.getsockname()
            transport.abort()
            await asyncio.sleep(0)

        await connect_and_close()  # uvloop opens descriptors of its own with the first one
        before = footprint().descriptors
        await connect_and_close()
        await eventually(lambda: footprint().descriptors <= before)
