"""Clients that take every connection of a REST listener and ask nothing, beside honest ones.

Attackers open three times as many connections as there may be, by each way of asking nothing.
After each round every honest client must be served, on a new connection.
"""

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from sidecar.http_server.counts import Drop, Refusal
from tests.faults.conditions import eventually
from tests.http_server.test_protocol import Scene, get, held, listening, post
from tests.loops import on_uvloop
from tests.patience import HANG
from tests.raw_http import FORM, answer_to, request, sent
from tests.upstream import Hold
from tests.ways import open_deployment

CONNECTIONS, ROUNDS, HONEST = 20, 3, 4
ATTACKER = "127.0.0.2"
BUFFER = 4096  # bytes, of each direction of a connection
# More than the system keeps for a client that does not read, and the listener too.
UNREAD = b"x" * 200_000
BIG = post(body=UNREAD)
LAST = BIG.replace(b"Host", b"Connection: close\r\nHost", 1)


def hello() -> bytes:
    """Return the first message of a TLS client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="a")
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way of asking nothing: what is sent, by what, and for what each connection is ended."""

    sent: bytes
    drop: Drop
    listens_by_tls: bool = False
    shakes_hands: bool = False


WAYS: Mapping[str, Way] = {
    "silence": Way(sent=b"", drop=Drop.IDLE),
    "half a header": Way(sent=b"POST / HTTP/1.1\r\nHost: a\r\n", drop=Drop.INCOMPLETE),
    "a header, and no body": Way(sent=post(length=9), drop=Drop.INCOMPLETE),
    "half a body": Way(sent=post(length=9, body=b"1234"), drop=Drop.INCOMPLETE),
    "an answer unread": Way(sent=BIG, drop=Drop.UNREAD),
    "answers unread": Way(sent=BIG * 2, drop=Drop.UNREAD),
    "the last answer unread": Way(sent=LAST, drop=Drop.ENDING),
    "a refusal unread": Way(sent=b"canary\r\n", drop=Drop.ENDING),
    "no handshake": Way(sent=b"", drop=Drop.HANDSHAKE, listens_by_tls=True),
    "half a handshake": Way(sent=hello(), drop=Drop.HANDSHAKE, listens_by_tls=True),
    "half a body by TLS": Way(
        sent=post(length=9), drop=Drop.INCOMPLETE, listens_by_tls=True, shakes_hands=True
    ),
    "answers unread by TLS": Way(
        # Twice as many, for the buffers of TLS.
        sent=BIG * 4,
        drop=Drop.UNREAD,
        listens_by_tls=True,
        shakes_hands=True,
    ),
}


async def attack(scene: Scene, way: Way) -> Callable[[], None]:
    """Connect from the attacker's address, send, read nothing, and return how to leave."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    connection.setblocking(False)
    connection.bind((ATTACKER, 0))
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, (scene.address.host, scene.address.port))
    transport, _ = await loop.create_connection(
        asyncio.Protocol,
        sock=connection,
        ssl=scene.trust if way.shakes_hands else None,
        server_hostname="127.0.0.1" if way.shakes_hands else None,
    )
    transport.pause_reading()
    transport.write(way.sent)
    return transport.abort


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@on_uvloop
async def test_who_asks_is_served(way: Way) -> None:
    """Whichever way attackers ask nothing, every honest request on a new connection is served."""
    served: list[int] = []
    async with (
        listening(over_tls=way.listens_by_tls, connections=CONNECTIONS) as scene,
        attacking(scene, way) as attack_again,
    ):
        for _ in range(ROUNDS):
            await attack_again(CONNECTIONS)
            # What each of them sent has come.
            await eventually(lambda: waiting(scene)[way.drop] == CONNECTIONS)
            served += await honest(scene)
        counts = scene.listener.counts
    assert served == [200] * ROUNDS * HONEST
    assert counts.dropped[way.drop] >= CONNECTIONS
    assert Refusal.TOO_MANY_CONNECTIONS not in counts.refused


@on_uvloop
async def test_who_asks_is_served_beside_all_ways_at_once() -> None:
    """All attackers at once, from one address, cost no honest client of another address anything.

    With the limit for each address even a connection that was idle before them all is kept.
    """
    plain = [way for way in WAYS.values() if not way.listens_by_tls]
    async with (
        listening(connections=CONNECTIONS, connections_per_address=CONNECTIONS // 2) as scene,
        scene.client() as kept,
        AsyncExitStack() as stack,
    ):
        assert (await kept.ask(get())).status == 200
        attackers = [await stack.enter_async_context(attacking(scene, way)) for way in plain]
        served = []
        for number in range(1, ROUNDS + 1):
            await asyncio.gather(*(attack_again(CONNECTIONS // 4) for attack_again in attackers))
            came = number * len(plain) * CONNECTIONS // 4
            await eventually(partial(are_dropped, scene, came - CONNECTIONS // 2))
            served += await honest(scene)
        assert (await kept.ask(get())).status == 200
        counts = scene.listener.counts
    assert served == [200] * ROUNDS * HONEST
    assert set(counts.dropped) == {Drop.ADDRESS}


@asynccontextmanager
async def attacking(
    scene: Scene, way: Way
) -> AsyncIterator[Callable[[int], Coroutine[Any, Any, None]]]:
    """Give a function that opens so many connections more, which stay open as long as they may."""
    for bound in scene.listener._bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
    async with AsyncExitStack() as stack:

        async def more(count: int) -> None:
            for _ in range(count):
                with suppress(OSError):  # it is ended in its handshake
                    stack.callback(await attack(scene, way))

        yield more


def waiting(scene: Scene) -> Counter[Drop]:
    """Return how many connections wait, by what they wait for."""
    return scene.listener._state.places.count_waiting()


def are_dropped(scene: Scene, count: int) -> bool:
    """Return whether so many connections were ended for others."""
    return sum(scene.listener.counts.dropped.values()) == count


async def honest(scene: Scene) -> list[int]:
    """Return the statuses of honest requests, each on a new connection, all at once."""

    async def ask() -> int:
        async with scene.client() as client:
            return (await client.ask(post(body=b"honest"))).status

    return await asyncio.gather(*(ask() for _ in range(HONEST)))


@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "TLS"])
@on_uvloop
async def test_who_is_served_is_not_ended(*, over_tls: bool) -> None:
    """Attackers who fill every connection end none of those whose requests are being served."""
    way = WAYS["no handshake" if over_tls else "silence"]
    async with (
        listening(over_tls=over_tls, connections=CONNECTIONS) as scene,
        held(scene, CONNECTIONS // 2) as busy,
        attacking(scene, way) as attack_again,
    ):
        for _ in range(ROUNDS):
            await attack_again(CONNECTIONS)
            await eventually(lambda: waiting(scene)[way.drop] == CONNECTIONS // 2)
        scene.app.release.set()
        assert [(await one.answer()).status for one in busy] == [200] * len(busy)


# A whole sidecar

BODY = b"grant_type=client_credentials&client_id=partner&client_secret=secret"


@pytest.mark.parametrize(("trusted_proxies", "status"), [("0", 503), ("1", 200)])
async def test_the_limit_of_an_address(trusted_proxies: str, status: int) -> None:
    """The setting limits the connections of an address, but not those of a trusted proxy."""
    data = request(headers=(FORM,), body=BODY)
    hold = Hold()
    async with (
        asyncio.timeout(HANG),
        open_deployment(
            max_connections_per_address="1", trusted_proxies=trusted_proxies
        ) as deployment,
    ):
        rest = deployment.addresses.rest
        deployment.upstream.script = hold.script
        async with sent(rest, data):
            await hold.wait_for(1)
            hold.release.set() if status == 200 else None
            second = await answer_to(rest, data)
            hold.release.set()
    assert second.status == status
    assert (b"connections from one IP address" in second.body) is (status == 503)
