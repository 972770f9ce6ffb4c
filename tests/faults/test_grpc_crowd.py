"""Crowds at the gRPC listener: clients that read or ask nothing, beside clients that do.

The published figures are those that the soak test prints.
"""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from hyperframe.frame import SettingsFrame
from karmo.auth.v1.token_service_pb2 import ExchangeTokenRequest
from karmo.auth.v1.token_service_pb2_grpc import TokenServiceStub

from tests.faults import http2_abuse as abuse
from tests.faults.bad_http2 import OPENING
from tests.faults.conditions import MIB, eventually, footprint
from tests.faults.crowd import Crowd, crowded
from tests.sidecar_process import Sidecar, serving
from tests.test_runtime import UNHURRIED
from tests.upstream import Upstream

GUARD = 60  # seconds
GOOD = ExchangeTokenRequest(grant_type="client_credentials", client_id="a", client_secret="b")
ACKNOWLEDGED = OPENING + SettingsFrame(0, flags=["ACK"]).serialize()
SECONDS = 30
# Bytes that the process may take more than before.
MAX_MEMORY = 320 * MIB


def health(method: str, count: int) -> bytes:
    """Return calls of a method of the health service, which needs no credentials."""
    path, body = f"/grpc.health.v1.Health/{method}", abuse.message(b"")
    streams = range(1, 2 * count, 2)
    return b"".join(abuse.call(path=path, body=body, stream=stream) for stream in streams)


# To clients with a closed window no response can be sent; 200 is the limit of calls at once.
UNREAD = ACKNOWLEDGED + SettingsFrame(0, settings={4: 0}).serialize() + health("Check", 200)
UNREAD_WATCHES = ACKNOWLEDGED + SettingsFrame(0, settings={4: 0}).serialize() + health("Watch", 8)


@asynccontextmanager
async def running() -> AsyncIterator[Sidecar]:
    """Run a sidecar with the limits of its defaults, and with much time for the drain."""
    async with (
        Upstream() as upstream,
        serving(
            "serve",
            auth_api_token_url=upstream.url,
            max_client_calls="1000000",
            **UNHURRIED,
        ) as sidecar,
    ):
        yield sidecar


async def exchange(sidecar: Sidecar) -> None:
    """Be served over a new connection. Raises AioRpcError if not."""
    options = (("grpc.use_local_subchannel_pool", 1),)
    async with grpc.aio.insecure_channel(sidecar.addresses["grpc"], options) as channel:
        await TokenServiceStub(channel).ExchangeToken(GOOD, timeout=GUARD)


async def drained(sidecar: Sidecar) -> float:
    """Stop `sidecar` and return the seconds until it has ended, with status 0."""
    loop = asyncio.get_running_loop()
    begin = loop.time()
    sidecar.signal(signal.SIGTERM)
    assert (await sidecar.ended()).status == 0
    return loop.time() - begin


async def test_unread_responses_are_bounded_and_keep_nobody() -> None:
    """Of 2,000 unread responses the oldest end with their connections; the drain is short."""
    async with running() as sidecar:
        crowd = Crowd(sidecar=sidecar, opening=UNREAD)
        async with crowded((crowd, 10)):
            await eventually(lambda: crowd.connections > 10)  # one was cut off and came back
            await exchange(sidecar)
            assert await drained(sidecar) < GUARD


@pytest.mark.soak
async def test_a_crowd_keeps_nobody_out() -> None:
    """Crowds cost a bounded memory, each honest call is served, and the drain is short."""
    served, peak = 0, 0
    async with running() as sidecar:
        before = footprint(sidecar.pid).memory
        silent = Crowd(sidecar=sidecar, opening=ACKNOWLEDGED)
        unread = Crowd(sidecar=sidecar, opening=UNREAD)
        watches = Crowd(sidecar=sidecar, opening=UNREAD_WATCHES)
        loop = asyncio.get_running_loop()
        async with crowded((silent, 1100), (unread, 30), (watches, 100)):
            end = loop.time() + SECONDS
            while loop.time() < end:
                await exchange(sidecar)
                served += 1
                peak = max(peak, footprint(sidecar.pid).memory - before)
            seconds = await drained(sidecar)
    connections = silent.connections, unread.connections, watches.connections
    print(f"{served} served beside {connections}; {peak / MIB:.0f} MiB; drain {seconds:.1f} s")
    assert served > 0
    assert peak < MAX_MEMORY
    assert seconds < GUARD
