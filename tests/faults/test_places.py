"""Clients that take every connection of a REST listener and ask nothing, beside honest ones.

Attackers open three times as many connections as there may be, by each way of asking nothing.
After each of the rounds every honest client must be served, on a new connection.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress

import pytest

from tests.http_server.test_protocol import (
    Scene,
    get,
    listening,
    post,
)
from tests.loops import on_each_loop
from tests.raw_http import next_answer

CONNECTIONS, ROUNDS, HONEST = 20, 3, 3
ATTACKER = "127.0.0.2"


async def attack(
    scene: Scene, data: bytes, *, over_tls: bool = False, address: str = ATTACKER
) -> Callable[[], None]:
    """Connect, send `data`, read nothing, and return how to leave."""
    transport, _ = await asyncio.get_running_loop().create_connection(
        asyncio.Protocol,
        scene.address.host,
        scene.address.port,
        local_addr=(address, 0),
        ssl=scene.trust if over_tls else None,
        server_hostname="127.0.0.1" if over_tls else None,
    )
    transport.pause_reading()
    transport.write(data)
    return transport.abort


def hello() -> bytes:
    """Return the first message of a TLS client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="a")
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


WAYS: Mapping[str, tuple[bool, Callable[[Scene], Awaitable[Callable[[], None]]]]] = {
    "silence": (False, lambda scene: attack(scene, b"")),
    "half a head": (False, lambda scene: attack(scene, b"POST / HTTP/1.1\r\nHost: a\r\n")),
    "half a body": (False, lambda scene: attack(scene, post(length=9, body=b"1234"))),
    "a head without its body": (False, lambda scene: attack(scene, post(length=9))),
    "a response unread": (False, lambda scene: attack(scene, get("/large"))),
    "responses unread": (False, lambda scene: attack(scene, get("/large") * 3)),
    "the last response unread": (
        False,
        lambda scene: attack(scene, get("/large", b"Connection: close")),
    ),
    "a refusal unread": (False, lambda scene: attack(scene, b"canary\r\n")),
    "no handshake": (True, lambda scene: attack(scene, b"")),
    "half a handshake": (True, lambda scene: attack(scene, hello())),
    "half a body by TLS": (True, lambda scene: attack(scene, post(length=9), over_tls=True)),
    "responses unread by TLS": (True, lambda scene: attack(scene, get("/large") * 3, over_tls=True)),
}


@pytest.mark.parametrize(("over_tls", "way"), WAYS.values(), ids=WAYS)
@on_each_loop
async def test_who_asks_is_served(
    *, over_tls: bool, way: Callable[[Scene], Awaitable[Callable[[], None]]]
) -> None:
    """Whichever way attackers ask nothing, every honest request on a new connection is served."""
    served = []
    async with listening(over_tls=over_tls, connections=CONNECTIONS) as scene, AsyncExitStack() as stack:
        for _ in range(ROUNDS):
            for _ in range(CONNECTIONS):
                with suppress(OSError):
                    stack.callback(await way(scene))
            await asyncio.sleep(0.05)
            served += await asyncio.gather(*(status(scene) for _ in range(HONEST)))
    assert served == [200] * ROUNDS * HONEST


async def status(scene: Scene) -> int | None:
    """Return the status of an honest request on a new connection, None for no response."""
    try:
        async with asyncio.timeout(5), scene.client() as client:
            return (await client.ask(post(body=b"honest"))).status
    except (OSError, asyncio.IncompleteReadError, TimeoutError) as e:
        return repr(e)
