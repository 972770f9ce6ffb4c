"""The load: requests at a fixed rate, of which each has exactly one outcome.

What belongs here: what a load balancer and its clients do with several sidecars. An
open loop: no request waits for the answer to another one before it is due, so a
sidecar that is slow or away does not lower the number of those that it could lose.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count, cycle
from typing import Self
from urllib.parse import urlencode

import grpc
import httpx2
from karmo.auth.v1.token_service_pb2 import ExchangeTokenRequest
from karmo.auth.v1.token_service_pb2_grpc import TokenServiceStub

from sidecar.settings.types import Address
from tests.faults.conditions import eventually
from tests.faults.wire import host_and_port
from tests.raw_http import FORM, GUARD, answer_to, request
from tests.upstream import TOKEN
from tests.ways import basic

SECRET = "canary-secret-of-the-load"
_PATH = "/v1/oauth/token"
_BODY = urlencode({"grant_type": "client_credentials"}).encode()
_AUTHORIZATION = basic("partner", SECRET)
_EXCHANGE = request(headers=(FORM, f"Authorization: {_AUTHORIZATION}".encode()), body=_BODY)
_HEADERS = {
    "Content-Type": "application/x-www-form-urlencoded",
    "Authorization": _AUTHORIZATION,
}
_PROBE = request("GET", "/readyz", headers=())
# Or all channels to one address share a connection.
_OWN = (("grpc.use_local_subchannel_pool", 1),)
_INTERVAL = 0.1  # seconds between two probes of one target


class LostError(Exception):
    """A request was not served. Its text tells what came instead, which is no secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where requests go, as "host:port": a sidecar, or what stands in front of some."""

    rest: str
    grpc: str = ""
    admin: str = ""

    @classmethod
    def of(cls, addresses: Mapping[str, str]) -> "Target":
        """Return the target that a sidecar is which logs `addresses`."""
        return cls(**{name: addresses[name] for name in ("rest", "grpc", "admin")})


Choose = Callable[[], Target]
Send = Callable[[], Awaitable[None]]


class Balancer:
    """Takes turns among those targets that are ready, as each of them said when last asked."""

    def __init__(self) -> None:
        self._ready: dict[Target, bool] = {}
        self._turns = count()

    async def __aenter__(self) -> Self:
        self._probing = asyncio.create_task(self._probe_all())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._probing.cancel()
        with suppress(asyncio.CancelledError):
            await self._probing

    async def add(self, target: Target) -> None:
        """Take up a target, and wait until it is ready."""
        self._ready[target] = False
        await eventually(lambda: self._ready[target])

    def remove(self, target: Target) -> None:
        """Forget a target."""
        del self._ready[target]

    def choose(self) -> Target:
        """Return the target whose turn it is. Raises LostError if none is ready."""
        ready = [target for target, is_ready in self._ready.items() if is_ready]
        if not ready:
            raise LostError("no target is ready")
        return ready[next(self._turns) % len(ready)]

    async def _probe_all(self) -> None:
        while True:
            await asyncio.gather(*(self._probe(target) for target in self._ready))
            await asyncio.sleep(_INTERVAL)

    async def _probe(self, target: Target) -> None:
        is_ready = False
        with suppress(OSError, IndexError):  # the latter where there is no status line
            is_ready = (await answer_to(_address(target.admin), _PROBE)).status == 200
        if target in self._ready:
            self._ready[target] = is_ready


class Fresh:
    """REST, each request on a connection of its own."""

    def __init__(self, choose: Choose) -> None:
        self._choose = choose

    async def send(self) -> None:
        """Send one. Raises LostError or OSError unless it is served."""
        received = await answer_to(_address(self._choose().rest), _EXCHANGE)
        _check(received.status, received.body)


@dataclass(slots=True)
class _Session:
    """A client with one connection, or none, to its target."""

    client: httpx2.AsyncClient
    target: Target | None = None


class Kept:
    """REST on connections that are kept until an answer tells to close them.

    A request takes the connection that is idle for the longest time, so each is used.
    `told_to_close` counts the answers that did so.
    """

    def __init__(self, choose: Choose, connections: int = 32) -> None:
        self._choose = choose
        self._connections = connections
        self._idle: asyncio.Queue[_Session] = asyncio.Queue()
        self.told_to_close = 0

    async def __aenter__(self) -> Self:
        for _ in range(self._connections):
            client = httpx2.AsyncClient(timeout=GUARD, trust_env=False)
            self._idle.put_nowait(_Session(client))
        return self

    async def __aexit__(self, *_: object) -> None:
        while not self._idle.empty():
            await self._idle.get_nowait().client.aclose()

    async def send(self) -> None:
        """Send one. Raises LostError or httpx2.TransportError unless it is served."""
        session = await self._idle.get()
        target, session.target = session.target or self._choose(), None
        try:
            answer = await session.client.post(
                f"http://{target.rest}{_PATH}",
                content=_BODY,
                headers=_HEADERS,
            )
            if answer.headers.get("connection") == "close":
                self.told_to_close += 1
            else:
                session.target = target
            _check(answer.status_code, answer.content)
        finally:
            self._idle.put_nowait(session)


class Grpc:
    """gRPC, on channels that are kept: a connection of each client to each target."""

    def __init__(self, choose: Choose, clients: int = 4) -> None:
        self._choose = choose
        self._clients = cycle(range(clients))
        self._channels: dict[tuple[Target, int], grpc.aio.Channel] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for channel in self._channels.values():
            await channel.close()

    async def send(self) -> None:
        """Send one. Raises LostError or grpc.aio.AioRpcError unless it is served."""
        key = self._choose(), next(self._clients)
        if key not in self._channels:
            self._channels[key] = grpc.aio.insecure_channel(key[0].grpc, _OWN)
        answer = await TokenServiceStub(self._channels[key]).ExchangeToken(
            ExchangeTokenRequest(grant_type="client_credentials"),
            metadata=(("authorization", _AUTHORIZATION),),
            timeout=GUARD,
        )
        if answer.access_token != TOKEN["access_token"]:
            raise LostError("another token")


@dataclass(slots=True)
class Tally:
    """The outcomes: how many were sent, how many served, by way, and how the others were lost."""

    sent: int = 0
    served: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)


async def offer(
    ways: Mapping[str, Send], *, rate: float, least: int, until: Callable[[], bool]
) -> Tally:
    """Offer `rate` requests a second, by all `ways` in turn, and return all of their outcomes.

    It goes on until `least` requests are sent and `until` holds.
    """
    tally, loop = Tally(), asyncio.get_running_loop()
    names, start = tuple(ways), loop.time()
    async with asyncio.TaskGroup() as group:
        while tally.sent < least or not until():
            await asyncio.sleep(start + tally.sent / rate - loop.time())
            name = names[tally.sent % len(names)]
            group.create_task(_record(tally, name, ways[name]))
            tally.sent += 1
    return tally


async def _record(tally: Tally, name: str, send: Send) -> None:
    try:
        await send()
    except (LostError, OSError, IndexError, httpx2.TransportError, grpc.aio.AioRpcError) as error:
        # An IndexError is an answer without a status line: the connection was but closed.
        tally.lost.append(f"{name}: {_describe(error)}")
    else:
        tally.served[name] += 1


def _describe(error: Exception) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return f"{type(error).__name__}: {error}"


def _check(status: int, body: bytes) -> None:
    if status != 200 or str(TOKEN["access_token"]).encode() not in body:
        raise LostError(f"{status} {body.decode()}")


def _address(text: str) -> Address:
    return Address(*host_and_port(text))
