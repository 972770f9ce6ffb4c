"""Replacing the sidecar under load costs no request, whoever chooses where requests go.

In one test that is the client, in the other a proxy. A further test hastens each end by a
second signal, while callers have sent parts of their requests. `make soak` runs all, and prints
what was counted.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from signal import SIGHUP, SIGTERM

import pytest

from tests.faults.conditions import eventually, no_secret
from tests.faults.front import Haproxy, haproxy
from tests.faults.in_hand import in_hand
from tests.faults.load import SECRET, Balancer, Fresh, Grpc, Kept, Tally, Target, offer
from tests.sidecar_process import Ended, Sidecar, serving
from tests.upstream import TOKEN, Hold, Upstream

MANY = str(10**6)


@dataclass(slots=True, kw_only=True)
class Fleet:
    """The sidecars of one service, and how those ended that were told to stop."""

    token_url: str
    stack: AsyncExitStack
    ends: list[Ended] = field(default_factory=list)

    async def start(self) -> Sidecar:
        """Start one more, which answers."""
        # Restarts alone may cost a request, and no rate that a machine does not bear.
        sidecar = serving(
            "serve",
            auth_api_token_url=self.token_url,
            max_in_flight="1000",
            max_client_calls=MANY,
            max_client_failures=MANY,
            max_address_failures=MANY,
            lame_duck="1s",
        )
        return await self.stack.enter_async_context(sidecar)

    async def stop(self, sidecar: Sidecar) -> None:
        """Tell one to stop, after a signal of log rotation, and wait for its end."""
        sidecar.signal(SIGHUP)
        sidecar.signal(SIGTERM)
        self.ends.append(await sidecar.ended())

    def check(self, tally: Tally, restarts: int) -> None:
        """Check that no request was lost, that each sidecar ended well, and told no secret."""
        lost = Counter(tally.lost)
        print(f"{restarts} restarts, {tally.sent} sent, served {dict(tally.served)}, lost {lost}")
        assert tally.lost == []
        assert tally.served.total() == tally.sent
        assert [(end.status, end.stderr) for end in self.ends] == [(0, "")] * restarts
        for end in self.ends:
            no_secret(end.stdout, SECRET, str(TOKEN["access_token"]))


@asynccontextmanager
async def open_fleet() -> AsyncIterator[Fleet]:
    """Open a fleet without sidecars, and end those that it has then."""
    async with Upstream() as upstream, AsyncExitStack() as stack:
        yield Fleet(token_url=upstream.url, stack=stack)


async def replace(fleet: Fleet, balancer: Balancer, old: Sidecar, restarts: int) -> None:
    """Replace `old` so many times, each by one that is ready before the one before it stops."""

    async def leave(sidecar: Sidecar) -> None:
        await fleet.stop(sidecar)
        balancer.remove(Target.of(sidecar.addresses))

    async with asyncio.TaskGroup() as leaving:
        for _ in range(restarts):
            new = await fleet.start()
            await balancer.add(Target.of(new.addresses))
            leaving.create_task(leave(old))
            old = new


@pytest.mark.soak
async def test_p01_restarts_lose_no_request() -> None:
    """While sidecars take turns, all calls are served, by new and kept connections and gRPC."""
    async with open_fleet() as fleet, Balancer() as balancer:
        first = await fleet.start()
        await balancer.add(Target.of(first.addresses))
        async with Kept(balancer.choose) as kept, Grpc(balancer.choose) as channels:
            ways = {"fresh": Fresh(balancer.choose).send, "kept": kept.send, "grpc": channels.send}
            work = asyncio.create_task(replace(fleet, balancer, first, 20))
            tally = await offer(ways, rate=500, least=10_000, until=work.done)
            await work
        fleet.check(tally, 20)
        assert kept.told_to_close >= 20


async def hasten(chance: random.Random) -> tuple[Counter[str], float]:
    """Return what callers of each stage get from a sidecar that gets a second SIGTERM.

    The auth-api answers at a random moment. Also return the seconds from that signal to the end.
    """
    hold = Hold()
    loop = asyncio.get_running_loop()
    async with Upstream() as upstream:
        upstream.script = hold.script
        async with (
            serving("serve", auth_api_token_url=upstream.url, max_in_flight="1000") as sidecar,
            in_hand(sidecar.addresses, hold, count=8) as calls,
        ):
            sidecar.signal(SIGTERM)
            await sidecar.log.find('"message": "lame duck ended"')
            loop.call_later(chance.uniform(0, 0.6), hold.release.set)
            loop.call_later(chance.uniform(0, 0.3), sidecar.signal, SIGHUP)
            await asyncio.sleep(chance.uniform(0, 0.3))
            calls.send_late()
            sidecar.signal(SIGTERM)
            began = loop.time()
            outcomes = await calls.outcomes()
            end = await sidecar.ended()
            seconds = loop.time() - began
            hold.release.set()
    assert (end.status, end.stderr) == (0, "")
    return Counter(outcomes), seconds


@pytest.mark.soak
async def test_p01_a_second_signal_at_a_random_moment_loses_no_call() -> None:
    """Over 20 restarts with SIGHUP and a second SIGTERM, each call in hand has its answer."""
    chance = random.Random(1)  # noqa: S311 it must be repeatable
    rounds = [await hasten(chance) for _ in range(20)]
    outcomes = sum((outcome for outcome, _ in rounds), Counter[str]())
    longest = max(seconds for _, seconds in rounds)
    print(f"20 restarts, {dict(outcomes)}, the end came after at most {longest:.2f} s")
    answers = {"200", "503 service-stopping", "OK", "UNAVAILABLE"}
    assert outcomes.keys() <= answers


async def replace_behind(front: Haproxy, fleet: Fleet, old: Sidecar, restarts: int) -> None:
    """Replace `old` so many times; what serves and what comes have a slot of the proxy each."""
    async with asyncio.TaskGroup() as leaving:
        for number in range(restarts):
            new, slot = await fleet.start(), (number + 1) % 2
            await front.put(slot, new.addresses["rest"], new.addresses["admin"])
            await eventually(partial(front.is_up, slot))
            leaving.create_task(fleet.stop(old))
            old = new


@pytest.mark.soak
async def test_p03_rolling_replacement_loses_no_request(tmp_path: Path) -> None:
    """While sidecars take turns behind haproxy, which tries nothing twice, all are served."""
    async with open_fleet() as fleet:
        first = await fleet.start()
        backend = (first.addresses["rest"], first.addresses["admin"])
        async with haproxy(tmp_path, [backend], slots=1) as front:
            await eventually(lambda: front.is_up(0))
            target = Target(rest=front.address)
            async with Kept(lambda: target) as kept:
                ways = {"fresh": Fresh(lambda: target).send, "kept": kept.send}
                work = asyncio.create_task(replace_behind(front, fleet, first, 10))
                tally = await offer(ways, rate=300, least=5_000, until=work.done)
                await work
            fleet.check(tally, 10)
