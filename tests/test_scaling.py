"""Tests of docs/scaling.md: its recipes reach both of two replicas, whose limits are their own."""

import ast
import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from signal import SIGTERM

import grpc
import httpx2
import pytest
import pytest_asyncio
from karmo.auth.v1.token_service_pb2 import ExchangeTokenRequest
from karmo.auth.v1.token_service_pb2_grpc import TokenServiceStub

from tests.faults.conditions import eventually
from tests.faults.front import balanced
from tests.patience import HANG
from tests.sidecar_process import ROOT, Sidecar, run, serving
from tests.upstream import TOKEN, Upstream, answer

PAGE = (ROOT / "docs" / "scaling.md").read_text("utf-8")
FIELDS = {"grant_type": "client_credentials", "client_id": "partner", "client_secret": "secret"}
WRONG = FIELDS | {"client_id": "guesser"}
CALLS = 10
LIMIT = 3  # wrong secrets of one client, for each replica


@dataclass(frozen=True, slots=True)
class Replica:
    """A sidecar process with an auth-api of its own, which counts its exchanges."""

    sidecar: Sidecar
    upstream: Upstream


@asynccontextmanager
async def open_replica(lame_duck: str = "0s") -> AsyncIterator[Replica]:
    """Run a replica whose auth-api knows every client but the guesser."""

    async def judge(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_wrong = b"guesser" in upstream.requests[-1]
        writer.write(answer(401, {"error": "invalid_client"}) if is_wrong else answer(200, TOKEN))
        await writer.drain()

    async with Upstream() as upstream:
        upstream.script = judge
        async with serving(
            "serve",
            auth_api_token_url=upstream.url,
            trusted_proxies="1",
            max_client_failures=str(LIMIT),
            lame_duck=lame_duck,
        ) as sidecar:
            yield Replica(sidecar, upstream)


@pytest_asyncio.fixture(scope="module", name="_replicas")
async def _open_replicas() -> AsyncIterator[Sequence[Replica]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(open_replica()) for _ in range(2)]


@pytest.fixture(name="replicas")
def _replicas_as_new(_replicas: Sequence[Replica]) -> Sequence[Replica]:
    """Return two replicas whose auth-apis have counted nothing."""
    for replica in _replicas:
        replica.upstream.requests.clear()
    return _replicas


def counts(replicas: Sequence[Replica]) -> list[int]:
    """Return how many exchanges each replica sent to its auth-api."""
    return [len(replica.upstream.requests) for replica in replicas]


def target(replicas: Sequence[Replica]) -> str:
    """Return the target of a gRPC channel whose name resolves to all replicas."""
    return "ipv4:" + ",".join(replica.sidecar.addresses["grpc"] for replica in replicas)


async def exchange(channel: grpc.aio.Channel) -> None:
    """Exchange the right credentials over gRPC."""
    request = ExchangeTokenRequest(**FIELDS)
    await TokenServiceStub(channel).ExchangeToken(request, wait_for_ready=True, timeout=HANG)


async def test_a_client_with_round_robin_uses_all_replicas(replicas: Sequence[Replica]) -> None:
    """The Python program in docs/scaling.md sends its calls of one channel to both replicas."""
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    moved = program.replace("dns:///karmo-sidecar-grpc:50051", target(replicas))
    end = await run(sys.executable, "-c", moved)
    assert (end.status, end.stderr) == (0, "")
    # The first connection may be ready some calls before the other one.
    assert sum(counts(replicas)) == CALLS
    assert min(counts(replicas)) > 0


async def test_a_client_without_a_service_config_uses_one_replica(
    replicas: Sequence[Replica],
) -> None:
    """A channel with gRPC's own default sends all calls to one replica."""
    async with grpc.aio.insecure_channel(target(replicas)) as channel:
        for _ in range(CALLS):
            await exchange(channel)
    assert sorted(counts(replicas)) == [0, CALLS]


async def test_a_client_that_watches_the_health_loses_no_call(replicas: Sequence[Replica]) -> None:
    """With the service config of docs/scaling.md, a replica in its lame duck gets no more calls."""
    text = PAGE.partition("SERVICE_CONFIG = ")[2].partition("\n\n")[0]
    options = (("grpc.service_config", json.dumps(ast.literal_eval(text))),)
    async with open_replica(lame_duck="10s") as stopping:
        both = (stopping, replicas[0])
        async with grpc.aio.insecure_channel(target(both), options) as channel:

            async def serve_all() -> bool:
                """Whether each replica has served a call since the last look."""
                before = counts(both)
                for _ in range(CALLS):
                    await exchange(channel)
                return all(now > then for now, then in zip(counts(both), before, strict=True))

            await eventually(serve_all)
            stopping.sidecar.signal(SIGTERM)
            await stopping.sidecar.log.find('"message": "stop requested"')
            await eventually(partial(_is_false, serve_all), within=5)
            served = len(stopping.upstream.requests)
            stopping.sidecar.signal(SIGTERM)
            await stopping.sidecar.ended()
            assert not await serve_all()
            assert len(stopping.upstream.requests) == served


async def _is_false(condition: Callable[[], Awaitable[bool]]) -> bool:
    return not await condition()


async def test_each_replica_has_limits_of_its_own(replicas: Sequence[Replica]) -> None:
    """A guesser who reaches two replicas has twice the attempts; each then refuses further ones."""
    async with httpx2.AsyncClient(timeout=HANG, trust_env=False) as client:
        for replica in (*replicas, *replicas):
            url = f"http://{replica.sidecar.addresses['rest']}/v1/oauth/token"
            statuses = [(await client.post(url, data=WRONG)).status_code for _ in range(LIMIT + 1)]
            assert statuses[-1] == 429
    assert counts(replicas) == [LIMIT, LIMIT]


@pytest.mark.soak  # which needs the proxies anyway
async def test_haproxy_balances_requests_of_both_protocols(
    replicas: Sequence[Replica], tmp_path: Path
) -> None:
    """The haproxy of docs/scaling.md takes turns for each request on one connection and channel."""
    addresses = [replica.sidecar.addresses for replica in replicas]
    async with balanced(tmp_path, addresses) as front:
        async with httpx2.AsyncClient(timeout=HANG, trust_env=False) as client:
            for _ in range(CALLS):
                response = await client.post(f"http://{front['rest']}/v1/oauth/token", data=FIELDS)
                assert response.status_code == 200
        assert counts(replicas) == [CALLS // 2] * 2
        async with grpc.aio.insecure_channel(front["grpc"]) as channel:
            for _ in range(CALLS):
                await exchange(channel)
        assert counts(replicas) == [CALLS] * 2


@pytest.mark.soak
async def test_haproxy_sends_a_request_elsewhere_if_a_replica_is_gone(
    replicas: Sequence[Replica], tmp_path: Path
) -> None:
    """From the end of a replica on, before a check fails, the other one serves all requests."""
    async with AsyncExitStack() as stack:
        gone = await stack.enter_async_context(open_replica())
        addresses = [gone.sidecar.addresses, replicas[0].sidecar.addresses]
        front = await stack.enter_async_context(balanced(tmp_path, addresses))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(front["grpc"]))
        gone.sidecar.signal(SIGTERM)
        await gone.sidecar.ended()
        url = f"http://{front['rest']}/v1/oauth/token"
        client = await stack.enter_async_context(httpx2.AsyncClient(timeout=HANG, trust_env=False))
        for _ in range(CALLS):
            assert (await client.post(url, data=FIELDS)).json()["token_type"] == "Bearer"
            await exchange(channel)
    assert counts(replicas) == [2 * CALLS, 0]
