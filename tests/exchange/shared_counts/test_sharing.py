"""Tests of shared counts: replicas with one store count together, and no call waits for it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest

from sidecar.exchange.limit import Limit
from sidecar.exchange.shared_counts.names import CountNames
from sidecar.exchange.shared_counts.redis_store import RedisStore
from sidecar.exchange.shared_counts.sharing import MAX_WAITING, PAUSE, Outcome, Sharing
from sidecar.exchange.throttle import Throttle
from sidecar.secret import Secret
from tests.exchange.shared_counts.resp_server import (
    PATIENT,
    Command,
    amounts_of,
    counting,
    replying,
    serving,
)
from tests.exchange.throttled import credentials, exchange, is_refused
from tests.faults.conditions import eventually
from tests.loops import on_skipping_loop
from tests.recorded import recorded
from tests.virtual_time import skip, skip_until

KEY = Secret("0123456789abcdefghijklmnopqrstuv")
LIMIT, REPLICAS = 5, 3
FULL = b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"


@dataclass(frozen=True, slots=True)
class Replica:
    """The throttle of a replica, and what shares its wrong secrets."""

    throttle: Throttle
    sharing: Sharing

    @property
    def added(self) -> int:
        """How many of its counts the store has."""
        return self.sharing.counts.outcomes[Outcome.ADDED]

    def guess(self, secret: str, address: str = "192.0.2.1", client: str = "partner") -> bool:
        """Send a wrong secret, and return whether it was refused."""
        return is_refused(exchange(self.throttle, credentials(client, secret), address))


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Replica]:
    """Run a replica that shares its counts at `url`."""
    sharing = Sharing(RedisStore(Secret(url), PATIENT), CountNames(KEY))
    throttle = Throttle(
        client_failures=LIMIT,
        address_failures=100,
        all_failures=1000,
        client_calls=1000,
        key=sharing.throttle_key.reveal(),
        on_failure=sharing.count,
    )
    async with sharing.running(throttle.learn):
        yield Replica(throttle, sharing)


@asynccontextmanager
async def opened_all(url: str) -> AsyncIterator[Sequence[Replica]]:
    """Run several replicas."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(opened(url)) for _ in range(REPLICAS)]


async def test_guesses_one_after_another() -> None:
    """Of guesses in turn at three replicas the limit passes, and one more for each other one."""
    async with serving(counting()) as server, opened_all(server.url) as replicas:
        passed = 0
        for number in range(10 * REPLICAS):
            replica = replicas[number % REPLICAS]
            added = replica.added
            if not replica.guess(f"wrong{number}"):
                passed += 1
                await eventually(lambda: replica.added == added + 3)  # noqa: B023 used at once
    assert passed == LIMIT + REPLICAS - 1


async def test_guesses_at_once() -> None:
    """Before any total is known each replica lets its limit pass, and then none lets any."""
    async with serving(counting()) as server, opened_all(server.url) as replicas:
        guesses = [replica.guess(f"wrong{number}") for number in range(20) for replica in replicas]
        assert guesses.count(False) == LIMIT * REPLICAS
        await eventually(lambda: all(replica.added == 3 * LIMIT for replica in replicas))
        assert all(replica.guess("another") for replica in replicas)


async def test_other_limits_are_shared_too() -> None:
    """Wrong secrets from one address at many clients, and at one client, add up at each limit."""
    async with serving(counting()) as server, opened_all(server.url) as replicas:
        for number in range(99):
            assert not replicas[0].guess("wrong", client=f"client{number}")
        await eventually(lambda: replicas[0].added == 3 * 99)
        assert not replicas[1].guess("wrong", client="another")
        await eventually(lambda: replicas[1].added == 3)
        assert replicas[1].guess("wrong", client="yet another")
        assert not replicas[1].guess("wrong", "192.0.2.2")
        limits = {
            name.split(":")[2] for command in server.commands[1:] for name, _ in amounts_of(command)
        }
        assert limits == {"client_failures", "address_failures", "all_failures", "probe"}


async def test_a_count_ends_when_the_shared_window_ends() -> None:
    """The delay that a client is told is the time that the window in the store has left."""
    async with serving(counting()) as server, opened_all(server.url) as (one, other, _):
        for number in range(LIMIT - 1):
            one.guess(f"wrong{number}")
        await eventually(lambda: one.added == 3 * (LIMIT - 1))
        other.guess("wrong")
        await eventually(lambda: other.added == 3)
        refusal = exchange(other.throttle, credentials())
        assert refusal is not None
        assert 35 < (refusal.retry_after or 0) <= 40  # the server says 40 s


async def test_a_success_asks_nothing() -> None:
    """Exchanges that succeed send nothing to the store."""
    async with serving(counting()) as server, opened(server.url) as replica:
        for _ in range(100):
            assert exchange(replica.throttle, credentials(), error=None) is None
        await eventually(lambda: bool(server.commands))
        replica.guess("wrong")
        await eventually(lambda: replica.added == 2)  # a trusted address has no third limit
    assert len(server.commands) == 2  # the test at the start, and the wrong secret


async def test_nothing_of_a_caller_is_sent() -> None:
    """No command has a client id, a secret or an IP address."""
    async with serving(counting()) as server, opened(server.url) as replica:
        replica.guess("canary-secret", "198.51.100.77", "canary-client")
        await eventually(lambda: replica.added == 3)
    sent = b" ".join(word for command in server.commands for word in command)
    assert [text for text in (b"canary", b"198.51.100") if text in sent] == []


class Held:
    """A script that answers as a counting server does, once `release` is set."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self._count = counting()

    async def script(self, command: Command) -> bytes | None:
        """Wait, and answer."""
        await self.release.wait()
        return await self._count(command)


async def test_a_flood_is_few_requests() -> None:
    """What comes while a request is on its way is summed up in the next one."""
    held = Held()
    async with serving(held.script) as server, opened(server.url) as replica:
        await eventually(lambda: len(server.commands) == 1)
        for _ in range(1000):
            replica.sharing.count(Limit.ADDRESS_FAILURES, b"192.0.2.1")
        assert replica.sharing.counts.waiting == 1000
        held.release.set()
        await eventually(lambda: replica.added == 1000)
        assert replica.sharing.counts.waiting == 0
    _, flood = server.commands
    assert [amount for _, amount in amounts_of(flood)] == [1000]


async def test_what_waits_is_bounded() -> None:
    """Beyond the maximum new counts are dropped, and counted; those that wait still add up."""
    held = Held()
    async with serving(held.script) as server, opened(server.url) as replica:
        await eventually(lambda: len(server.commands) == 1)
        for number in range(MAX_WAITING + 7):
            replica.sharing.count(Limit.ADDRESS_FAILURES, f"{number}".encode())
        replica.sharing.count(Limit.ADDRESS_FAILURES, b"0")
        assert replica.sharing.counts.outcomes[Outcome.DROPPED] == 7
        held.release.set()
        await eventually(lambda: replica.added == MAX_WAITING + 1)
    assert len(amounts_of(server.commands[1])) == MAX_WAITING


async def test_the_end_closes_an_idle_connection() -> None:
    """At the end the connection is closed that waits for the next wrong secret."""
    async with serving(counting()) as server:
        async with opened(server.url) as replica:
            replica.guess("wrong")
            await eventually(lambda: replica.added == 3)
            assert server.is_connected
        await eventually(lambda: not server.is_connected)


async def test_the_end_waits_for_no_answer() -> None:
    """At the end a request that has no answer is given up, and its connection is closed."""
    held = Held()
    async with serving(held.script) as server:
        async with opened(server.url) as replica:
            replica.guess("wrong")
            await eventually(lambda: len(server.commands) == 1)
        held.release.set()
        await eventually(lambda: not server.is_connected)


@on_skipping_loop
async def test_a_store_that_fails_and_is_back() -> None:
    """While it fails the replica counts for itself; it is tested every second; then they share."""
    with recorded() as log:
        async with serving(counting()) as server, opened_all(server.url) as (one, other, _):
            await skip_until(lambda: len(server.commands) == REPLICAS)
            server.script = replying(FULL)
            assert [one.guess(f"wrong{number}") for number in range(LIMIT + 1)].count(
                False
            ) == LIMIT
            await skip_until(lambda: one.sharing.counts.fault is not None)
            assert one.sharing.counts.outcomes[Outcome.FAILED] == 3 * LIMIT
            assert not other.guess("wrong")
            await skip_until(lambda: other.sharing.counts.fault is not None)
            server.script = counting()
            skip(PAUSE)
            replicas = one, other
            await skip_until(lambda: not any(each.sharing.counts.fault for each in replicas))
            for number in range(LIMIT - 1):
                assert not other.guess(f"new{number}")
            assert other.guess("one more")
            await skip_until(lambda: other.added == 3 * (LIMIT - 1))
    texts = [line["message"] for line in log.entries if line["level"] != "debug"]
    assert texts == [
        *["wrong secrets shared"] * REPLICAS,
        *["wrong secrets not shared"] * 2,
        *["wrong secrets shared again"] * 2,
    ]


@on_skipping_loop
async def test_what_failed_is_not_sent_again() -> None:
    """After an outage a store gets only what is counted from then on."""
    async with serving(replying(FULL)) as server, opened(server.url) as replica:
        replica.guess("wrong")
        await skip_until(lambda: replica.sharing.counts.outcomes[Outcome.FAILED] == 3)
        await skip_until(lambda: len(server.commands) == 4)  # each further one is a test
        assert [len(amounts_of(command)) for command in server.commands[1:]] == [1] * 3


@pytest.mark.timing("the clock of the loop stands still unless it is skipped")
@on_skipping_loop
async def test_a_failing_store_is_left_alone_for_a_second() -> None:
    """However many wrong secrets come, a failing store gets one request a second."""
    async with serving(replying(FULL)) as server, opened(server.url) as replica:
        await skip_until(lambda: replica.sharing.counts.fault is not None)
        start, seen = asyncio.get_running_loop().time(), len(server.commands)
        while len(server.commands) < seen + 5:
            replica.sharing.count(Limit.ADDRESS_FAILURES, b"192.0.2.1")
            skip(0.1)
            await asyncio.sleep(0)
        assert asyncio.get_running_loop().time() - start >= 4 * PAUSE


async def test_a_store_that_is_not_there_at_the_start() -> None:
    """A warning tells of it at once, before any wrong secret."""
    with recorded() as log:
        async with serving(replying(None)) as server, opened(server.url) as replica:
            await eventually(lambda: replica.sharing.counts.fault is not None)
    (line,) = (line for line in log.entries if line["level"] == "warning")
    assert (line["message"], line["fault"]) == ("wrong secrets not shared", "connection")
