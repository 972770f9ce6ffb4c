"""Clients that ask nothing, by every protocol at once, beside clients that ask.

They connect again a second after they were cut off, and are more than the limit of connections.
"""

import asyncio
import itertools
import random
import ssl
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import httpx2
import pytest
from karmo.auth.v1.token_service_pb2 import ExchangeTokenRequest
from karmo.auth.v1.token_service_pb2_grpc import TokenServiceStub

from tests.faults.in_hand import tls_files
from tests.faults.test_grpc_crowd import ACKNOWLEDGED, UNREAD, UNREAD_WATCHES
from tests.faults.wire import host_and_port, reset
from tests.sidecar_process import Sidecar, serving
from tests.test_runtime import UNHURRIED
from tests.tls.test_reloading import Mount
from tests.upstream import Upstream

CONNECTIONS, ATTACKERS, SECONDS = 200, 60, 60  # attackers of each kind
ATTACKER = "127.0.0.2"
FIELDS = {"grant_type": "client_credentials", "client_id": "a", "client_secret": "b"}
BODY = b"grant_type=client_credentials&client_id=a&client_secret=b"
HEAD = b"POST /v1/oauth/token HTTP/1.1\r\nHost: sidecar.test\r\n"
WHOLE = (
    HEAD
    + b"Content-Type: application/x-www-form-urlencoded\r\n"
    + b"Content-Length: %d\r\n\r\n" % len(BODY)
    + BODY
)
UNREAD_PAGES = b"GET /openapi.json HTTP/1.1\r\nHost: sidecar.test\r\n\r\n" * 200
# What each kind of attacker sends, of REST and of gRPC.
REST: Mapping[str, bytes] = {
    "silent": b"",
    "half a header": HEAD,
    "half a body": WHOLE[:-9],
    "unread": UNREAD_PAGES,
    "reset": WHOLE,
    "slow": HEAD + b"X-Slow: " + b"a" * 1000,
}
GRPC: Mapping[str, bytes] = {
    "silent": ACKNOWLEDGED,
    "unread": UNREAD,
    "unread watches": UNREAD_WATCHES,
    "reset": ACKNOWLEDGED,
}


@dataclass(slots=True)
class Crowds:
    """The attackers at one listener, and how often those of each kind have connected."""

    address: str
    kinds: Mapping[str, bytes]
    trust: ssl.SSLContext | None = None
    connected: Counter[str] = field(default_factory=Counter)

    async def attack(self, kind: str) -> None:
        """Be one attacker until the task is cancelled."""
        chance = random.Random(kind)  # noqa: S311 it protects nothing
        while True:
            with suppress(OSError, TimeoutError):
                await self._connect(kind, chance)
            await asyncio.sleep(1.0)

    async def _connect(self, kind: str, chance: random.Random) -> None:
        # Of those by TLS, the silent ones do not even begin the handshake.
        trust = None if kind == "silent" else self.trust
        name = "127.0.0.1" if trust else None
        reader, writer = await asyncio.open_connection(
            *host_and_port(self.address),
            ssl=trust,
            server_hostname=name,
            limit=4096,
            # Their calls that are given up count for their own address.
            local_addr=(ATTACKER, 0),
        )
        self.connected[kind] += 1
        try:
            if kind == "slow":
                for byte in self.kinds[kind]:
                    writer.write(bytes([byte]))
                    await writer.drain()
                    await asyncio.sleep(1.0)
                return
            writer.write(self.kinds[kind])
            if kind == "reset":
                await asyncio.sleep(chance.random() * 0.05)
                reset(writer)
            elif kind.startswith("unread"):
                while not writer.is_closing():  # noqa: ASYNC110 to read would take the responses
                    await asyncio.sleep(1.0)
            else:
                await reader.read()
        finally:
            writer.transport.abort()


async def by_rest(sidecar: Sidecar, trust: ssl.SSLContext | None) -> None:
    """Get a token by REST, over a new connection."""
    scheme = "https" if trust else "http"
    url = f"{scheme}://{sidecar.addresses['rest']}/v1/oauth/token"
    async with httpx2.AsyncClient(verify=trust or False, timeout=60, trust_env=False) as client:
        (await client.post(url, data=FIELDS)).raise_for_status()


async def by_grpc(sidecar: Sidecar) -> None:
    """Get a token by gRPC, over a new connection."""
    options = (("grpc.use_local_subchannel_pool", 1),)
    async with grpc.aio.insecure_channel(sidecar.addresses["grpc"], options) as channel:
        await TokenServiceStub(channel).ExchangeToken(ExchangeTokenRequest(**FIELDS), timeout=60)


@pytest.mark.soak
async def test_crowds_of_every_kind_keep_nobody_out(tmp_path: Path) -> None:
    """Each honest call is served, beside silent, slow, unread and resetting clients everywhere."""
    files, trust = tls_files()
    tls = Mount(tmp_path, files).files("tls")
    flags = {
        "max_connections": str(CONNECTIONS),
        "max_client_calls": "1000000",
        "max_in_flight": "1000",
        **UNHURRIED,
    }
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(Upstream())
        plain = await stack.enter_async_context(
            serving("serve", auth_api_token_url=upstream.url, **flags)
        )
        secure = await stack.enter_async_context(
            serving(
                "serve",
                auth_api_token_url=upstream.url,
                rest_tls_certificate=str(tls.certificate),
                rest_tls_key=str(tls.key),
                **flags,
            )
        )
        crowds = (
            Crowds(plain.addresses["rest"], REST),
            Crowds(secure.addresses["rest"], REST, trust),
            Crowds(plain.addresses["grpc"], GRPC),
        )
        attackers = [
            asyncio.create_task(crowd.attack(kind))
            for crowd in crowds
            for kind in crowd.kinds
            for _ in range(ATTACKERS)
        ]
        served: Counter[str] = Counter()
        loop = asyncio.get_running_loop()
        end = loop.time() + SECONDS
        for way in itertools.cycle(("REST", "TLS", "gRPC")):
            if loop.time() > end:
                break
            if way == "gRPC":
                await by_grpc(plain)
            else:
                await by_rest(*((plain, None) if way == "REST" else (secure, trust)))
            served[way] += 1
        for attacker in attackers:
            attacker.cancel()
        await asyncio.gather(*attackers, return_exceptions=True)
    connected = [dict(crowd.connected) for crowd in crowds]
    print(f"0 lost of {served.total()} honest calls {dict(served)} beside {connected}")
    assert min(served.values()) > 0
    assert all(set(crowd.connected) == set(crowd.kinds) for crowd in crowds)
