"""Replicas that share wrong secrets, callers of them, and load that goes on while a store fails."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2

from tests.faults.conditions import eventually
from tests.patience import HANG
from tests.sidecar_process import Sidecar, serving
from tests.upstream import TOKEN, Upstream, answer
from tests.ways import Outcome, Sent, Way, basic, open_ways

KEY = "0123456789abcdefghijklmnopqrstuv"
LIMIT, IN_FLIGHT, REPLICAS = 5, 8, 3
SECRET = "the-right-secret"
DENIED = answer(401, {"error": "invalid_client"})
BOTH = ("form", "grpc")


@dataclass(frozen=True, slots=True)
class Replica:
    """A sidecar process, and the ways into it."""

    sidecar: Sidecar
    ways: Mapping[str, Way]

    async def exchange(self, client: str, secret: str = SECRET, way: str = "form") -> Outcome:
        """Exchange credentials of a client."""
        sent = Sent(
            fields={"grant_type": "client_credentials"}, authorization=(basic(client, secret),)
        )
        return await self.ways[way](sent)

    async def sharing(self) -> Mapping[str, Any]:
        """Return the state of its shared counts."""
        async with httpx2.AsyncClient(trust_env=False, timeout=HANG) as client:
            state = (await client.get(f"http://{self.sidecar.addresses['admin']}/state")).json()
        shared: Mapping[str, Any] = state["sharing"]
        return shared

    async def is_failing(self) -> bool:
        """Whether it cannot reach the store."""
        return (await self.sharing())["fault"] is not None

    async def works(self) -> bool:
        """Whether it can reach the store."""
        return not await self.is_failing()

    async def added(self) -> int:
        """Return how many counts it has added to the store."""
        return int((await self.sharing())["outcomes"]["added"])


@dataclass(slots=True)
class Scene:
    """Replicas with one auth-api, which knows one secret, and counts what it gets."""

    upstream: Upstream
    replicas: list[Replica] = field(default_factory=list)

    @property
    def guesses(self) -> Sequence[bytes]:
        """The requests that the auth-api has received of the guesser."""
        return [request for request in self.upstream.requests if is_guess(request)]


def is_guess(request: bytes) -> bool:
    """Whether a request has the credentials of the guesser."""
    return b"Basic Z3Vlc3Nlc" in request  # "guesser" in base64


@asynccontextmanager
async def open_scene(url: str, replicas: int = REPLICAS, **options: Any) -> AsyncIterator[Scene]:
    """Run replicas that share wrong secrets at `url`."""

    async def judge(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = scene.upstream.requests[-1]
        writer.write(DENIED if is_guess(request) else answer(200, TOKEN))
        await writer.drain()

    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        scene = Scene(await enter(Upstream()))
        scene.upstream.script = judge
        for _ in range(replicas):
            sidecar = await enter(
                serving(
                    "serve",
                    auth_api_token_url=scene.upstream.url,
                    shared_limits_url=url,
                    log_client_key=KEY,
                    max_client_failures=str(LIMIT),
                    max_in_flight=str(IN_FLIGHT),
                    **options,
                )
            )
            scene.replicas.append(Replica(sidecar, await enter(open_ways(sidecar.addresses))))
        yield scene


def code_of(outcome: Outcome) -> int:
    """Return the HTTP status of an outcome, over any protocol."""
    return int(outcome.problem["status"]) if outcome.problem else 200


@dataclass(slots=True)
class Load:
    """Honest calls to all replicas by both protocols, one after another on each way."""

    scene: Scene
    codes: Counter[int] = field(default_factory=Counter)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    phase: str = "before"

    async def send(self, replica: Replica, way: str) -> None:
        """Send calls until cancelled."""
        while True:
            start = time.perf_counter()
            self.codes[code_of(await replica.exchange("partner", way=way))] += 1
            self.seconds.setdefault(self.phase, []).append(time.perf_counter() - start)
            await asyncio.sleep(0.02)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send calls in the context."""
        tasks = [
            asyncio.create_task(self.send(replica, way))
            for replica in self.scene.replicas
            for way in BOTH
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            assert {type(one) for one in ended} == {asyncio.CancelledError}

    async def during(self, phase: str, calls: int = 300) -> None:
        """Begin a phase, and wait until so many calls have ended in it."""
        self.phase = phase
        await eventually(lambda: len(self.seconds.get(phase, ())) >= calls, within=HANG)

    def summary(self) -> Mapping[str, str]:
        """Return the median and the maximum of each phase, in milliseconds."""
        return {
            phase: f"{sorted(times)[len(times) // 2] * 1000:.1f} {max(times) * 1000:.1f}"
            for phase, times in self.seconds.items()
        }
