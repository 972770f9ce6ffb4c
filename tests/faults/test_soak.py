"""The soak (row P12): minutes of load with kills, aborts and races, of which every count agrees.

`make soak` runs it, for SOAK_SECONDS or five minutes. What goes wrong is made to: the
auth-api is killed for a second now and then, resets or refuses by chance, and callers
leave. Everything else must succeed, and whatever one side counts the others must too.
"""

import asyncio
import os
import random
import re
import signal
import time
import uuid
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx2
import pytest
from karmo.auth.v1.token_service_pb2 import ExchangeTokenRequest
from karmo.auth.v1.token_service_pb2_grpc import TokenServiceStub

from sidecar.settings.types import Address
from tests.faults.chaos import Chaos
from tests.faults.conditions import MIB, Footprint, eventually, footprint
from tests.faults.wire import reset
from tests.raw_http import FORM, answer_to, request, sent
from tests.sidecar_process import Sidecar, log_lines, serving
from tests.upstream import TOKEN, Upstream, answer, read_request

SECONDS = float(os.environ.get("SOAK_SECONDS", "300"))
RATE = 90.0  # calls a second, by three ways in turn; about two thirds of what a core bears
KILL_EVERY, KILLED_FOR = 20.0, 1.0  # seconds
# After a kill it is tried again after a second at first.
RECOVERY = 3.0
ABORTED, INJECTED = 0.05, 0.04  # parts of the calls
SECRET = "canary-secret-of-the-soak"
FIELDS = {"grant_type": "client_credentials", "client_id": "partner", "client_secret": SECRET}
BODY = f"grant_type=client_credentials&client_id=partner&client_secret={SECRET}".encode()
IDENTITY = re.compile(rb"x-request-id: ([0-9a-f-]{36})", re.IGNORECASE)

Way = Callable[["Soak", str, bool], Coroutine[Any, Any, str]]


@dataclass(slots=True, kw_only=True)
class Counts:
    """What happened, by the request id of each call: everything is counted where it happens."""

    outcomes: dict[str, str] = field(default_factory=dict)
    began: dict[str, float] = field(default_factory=dict)
    # How often the auth-api received each, and what it did wrong on purpose.
    received: Counter[str] = field(default_factory=Counter)
    injected: set[str] = field(default_factory=set)
    kills: list[float] = field(default_factory=list)

    def is_excused(self, identity: str) -> bool:
        """Whether a call may fail: a fault was made for it, or the auth-api was down."""
        began = self.began[identity]
        down = KILLED_FOR + RECOVERY
        return identity in self.injected or any(-3 < began - at < down for at in self.kills)


@dataclass(slots=True, kw_only=True)
class Soak:
    """The parties: the sidecar, the proxy that kills its auth-api, and callers of each kind."""

    sidecar: Sidecar
    chaos: Chaos
    rest: httpx2.AsyncClient
    stub: Any  # its type names no method
    counts: Counts
    chance: random.Random

    @property
    def address(self) -> Address:
        """Where REST is."""
        host, _, port = self.sidecar.addresses["rest"].rpartition(":")
        return Address(host, int(port))

    async def call(self, way: Way) -> None:
        """Make one call, and note its only outcome."""
        identity = str(uuid.uuid4())
        self.counts.began[identity] = time.monotonic()
        leaves = self.chance.random() < ABORTED
        self.counts.outcomes[identity] = await way(self, identity, leaves)

    async def kill(self) -> None:
        """Let the auth-api be gone for a while, in the middle of whatever it does."""
        self.counts.kills.append(time.monotonic())
        self.chaos.refuse()
        self.chaos.reset()
        await asyncio.sleep(KILLED_FOR)
        await self.chaos.accept()


async def by_fresh_connection(soak: Soak, identity: str, leaves: bool) -> str:
    """Call over a connection of its own, which may be reset at any moment."""
    data = request(headers=(FORM, b"X-Request-Id: " + identity.encode()), body=BODY)
    if not leaves:
        return str((await answer_to(soak.address, data)).status)
    cut = soak.chance.choice([len(data), soak.chance.randrange(1, len(data))])
    async with sent(soak.address, data[:cut], resets=True):
        await asyncio.sleep(soak.chance.uniform(0, 0.02))
    return "left"


async def by_kept_connection(soak: Soak, identity: str, leaves: bool) -> str:
    """Call over one of a pool of connections."""
    task = asyncio.create_task(
        soak.rest.post("/v1/oauth/token", data=FIELDS, headers={"X-Request-Id": identity})
    )
    if leaves:
        await asyncio.sleep(soak.chance.uniform(0, 0.02))
        task.cancel()
        await asyncio.wait((task,))
        return "left"
    return str((await task).status_code)


async def by_grpc(soak: Soak, identity: str, leaves: bool) -> str:
    """Call over the one connection of a channel."""
    call = soak.stub.ExchangeToken(
        ExchangeTokenRequest(**FIELDS), metadata=(("x-request-id", identity),), timeout=20
    )
    if leaves:
        await asyncio.sleep(soak.chance.uniform(0, 0.02))
        call.cancel()
        await call.code()
        return "left"
    return str((await call.code()).name)


WAYS: Sequence[Way] = (by_fresh_connection, by_kept_connection, by_grpc)


def misbehaving(upstream: Upstream, counts: Counts, chance: random.Random) -> None:
    """Let the auth-api take a moment for each answer, and spoil some of them."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = upstream.requests.pop()
        while await serve(data, writer):
            data = await read_request(reader)

    async def serve(data: bytes, writer: asyncio.StreamWriter) -> bool:
        match = IDENTITY.search(data)
        assert match
        identity = match[1].decode()
        counts.received[identity] += 1
        whole = answer(200, TOKEN, Connection="keep-alive")
        if chance.random() < INJECTED:
            counts.injected.add(identity)
            whole = chance.choice([whole[:40], b"", answer(503, b"", Retry_After="1"), b"HTTP/9"])
        await asyncio.sleep(chance.uniform(0, 0.02))
        writer.write(whole)
        await writer.drain()
        if identity in counts.injected and chance.random() < 0.5:
            reset(writer)
        # Now and then it closes a connection that it has promised to keep.
        return identity not in counts.injected and chance.random() < 0.9

    upstream.script = script


async def load(soak: Soak, seconds: float) -> None:
    """Offer the load for so many seconds, whatever becomes of it."""
    start = time.monotonic()
    async with asyncio.timeout(seconds + 60), asyncio.TaskGroup() as group:
        next_kill = KILL_EVERY / 2
        for number in range(int(seconds * RATE)):
            await asyncio.sleep(start + number / RATE - time.monotonic())
            group.create_task(soak.call(WAYS[number % len(WAYS)]))
            if number / RATE > next_kill:
                group.create_task(soak.kill())
                next_kill += KILL_EVERY


@pytest.mark.soak
async def test_soak() -> None:
    """Nothing fails that was not made to, nothing is lost or doubled, and nothing grows."""
    counts, chance = Counts(), random.Random(1)  # noqa: S311 it must be repeatable
    async with Upstream() as upstream:
        misbehaving(upstream, counts, chance)
        target = upstream.url.removeprefix("http://").partition("/")[0]
        async with (
            Chaos(target) as chaos,
            serving(
                "serve",
                auth_api_token_url=f"http://{chaos.address}/v1/oauth/token",
                max_client_calls="1000000",
            ) as sidecar,
            httpx2.AsyncClient(
                base_url=f"http://{sidecar.addresses['rest']}", timeout=20, trust_env=False
            ) as rest,
            grpc.aio.insecure_channel(sidecar.addresses["grpc"]) as channel,
        ):
            soak = Soak(
                sidecar=sidecar,
                chaos=chaos,
                rest=rest,
                stub=TokenServiceStub(channel),
                counts=counts,
                chance=chance,
            )
            await load(soak, SECONDS / 5)
            warm = footprint(sidecar.pid)
            await load(soak, SECONDS * 4 / 5)
            await eventually(lambda: not is_left(warm, footprint(sidecar.pid)))
            end = footprint(sidecar.pid)
            sidecar.signal(signal.SIGTERM)
            ended = await sidecar.ended()
    assert ended.stderr == ""
    assert SECRET not in ended.stdout
    assert str(TOKEN["access_token"]) not in ended.stdout
    report(counts, warm, end)
    check(counts, log_lines(ended.stdout))


def is_left(before: Footprint, now: Footprint) -> bool:
    """Whether descriptors, or more than a little memory, are left."""
    return now.descriptors > before.descriptors + 8 or now.memory > before.memory * 1.03 + 8 * MIB


def report(counts: Counts, warm: Footprint, end: Footprint) -> None:
    """Print what is published."""
    print()
    print(f"{len(counts.outcomes)} calls: {dict(Counter(counts.outcomes.values()))}")
    print(f"{len(counts.kills)} kills, {len(counts.injected)} answers spoilt")
    repeated = sum(count - 1 for count in counts.received.values())
    print(f"{counts.received.total()} requests reached the auth-api, {repeated} a second time")
    print(f"memory {warm.memory / MIB:.1f} MiB warm, {end.memory / MIB:.1f} MiB at the end")
    print(f"descriptors {warm.descriptors} warm, {end.descriptors} at the end")


def check(counts: Counts, log: Sequence[Mapping[str, Any]]) -> None:
    """Compare what callers, sidecar and auth-api have counted."""
    assert counts.outcomes.keys() == counts.began.keys(), "sent = answered"
    failed = {
        identity: outcome
        for identity, outcome in counts.outcomes.items()
        if outcome not in {"200", "OK", "left"} and not counts.is_excused(identity)
    }
    assert failed == {}, "errors that nobody made"
    lines = [line for line in log if line["message"] == "call"]
    by_identity = Counter(line["request_id"] for line in lines)
    assert max(by_identity.values()) == 1, "one line for each call"
    answered = {key: told for key, told in counts.outcomes.items() if told != "left"}
    told = {
        line["request_id"]: str(line.get("status", line.get("code")))
        for line in lines
        if line["request_id"] in answered
    }
    assert told == answered, "the log tells each caller's outcome"
    repeated = {identity for identity, count in counts.received.items() if count > 1}
    assert max(counts.received.values()) <= 2, "one resend at most"
    assert all(map(counts.is_excused, repeated)), "only a killed connection is replaced"
    for line in lines:
        seen = counts.received[line["request_id"]]
        resent = line["request_id"] in repeated or "upstream_reused" in line
        if "upstream_status" in line:
            assert 1 <= seen <= 1 + resent, line
        elif line.get("upstream_fault") in {"refused", "fail_fast"}:
            assert seen <= resent, line
    assert not {line["level"] for line in log} & {"error", "critical"}, "no fault of ours"
