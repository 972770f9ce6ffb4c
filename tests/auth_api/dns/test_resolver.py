"""The resolver over a DNS whose look-ups end when a test says so, on a clock that stands still."""

import asyncio
import errno
import math
import socket
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from socket import AF_INET, AF_INET6, IPPROTO_TCP, SOCK_STREAM
from typing import TypeAlias

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sidecar.auth_api.dns import resolver as module
from sidecar.auth_api.dns.look_up import AddressInfo, LookUpError, SocketAddress
from sidecar.auth_api.dns.resolver import (
    FRESH,
    HUNG,
    QUIET,
    REFRESH_PAUSE,
    REFRESH_WAIT,
    LookUps,
    Resolver,
)
from tests.auth_api.clock import Clock, machines, seconds
from tests.loops import on_each_loop, on_skipping_loop
from tests.patience import HANG
from tests.virtual_time import skip

STALE = 60.0
TICK = 1 / 1024  # seconds, a part of two: sums are exact
HOST, PORT = "auth-api.test", 8443
Call: TypeAlias = "asyncio.Task[Sequence[SocketAddress]]"
AGAIN = socket.gaierror(socket.EAI_AGAIN, "text of the system")
# What a look-up raises, the name of it, and whether its cause is on this machine.
FAILURES: Sequence[tuple[Exception, str, bool]] = (
    (AGAIN, "EAI_AGAIN", False),
    (socket.gaierror(socket.EAI_NONAME, "text of the system"), "EAI_NONAME", False),
    (socket.gaierror(socket.EAI_MEMORY, "text of the system"), "EAI_MEMORY", True),
    (socket.gaierror(12345, "of another system"), "gaierror", False),
    (socket.gaierror(errno.EMFILE, "no errno"), "gaierror", False),
    (UnicodeError("label empty or too long"), "EAI_NONAME", False),
    (OSError(errno.EMFILE, "text of the system"), "EMFILE", True),
    (OSError(errno.ENFILE, "text of the system"), "ENFILE", True),
    (OSError(errno.ENOMEM, "text of the system"), "ENOMEM", True),
    (OSError(errno.EIO, "text of the system"), "EIO", False),
    (OSError("without a number"), "OSError", False),
    (ValueError("embedded null character"), "ValueError", False),
    (MemoryError(), "MemoryError", True),
    (RuntimeError("can't start new thread"), "EAGAIN", True),
)


def info(host: str) -> AddressInfo:
    """Return an entry of the answer of getaddrinfo for an IPv4 address."""
    return (AF_INET, SOCK_STREAM, IPPROTO_TCP, "", (host, PORT))


def ipv4(host: str) -> tuple[SocketAddress]:
    """Return the answer of the resolver for one IPv4 address."""
    return (SocketAddress(AF_INET, host, PORT),)


async def answers_of(*calls: Call) -> set[Sequence[SocketAddress]]:
    """Return the different answers of calls."""
    return set(await asyncio.gather(*calls))


class Dns:
    """A DNS: its n-th look-up waits in its thread until the n-th answer is set.

    A call waits for a refresh for so long that no slow machine ends the wait.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.asked: list[tuple[str, int]] = []
        self.daemons: list[bool] = []
        self._answers: list[Future[Sequence[AddressInfo]]] = []
        self.resolver = self.open()

    def open(
        self, *, stale: float = STALE, fresh: float = FRESH, refresh_wait: float = HANG
    ) -> Resolver:
        """Return a resolver that asks this DNS."""
        return Resolver(
            stale=stale,
            fresh=fresh,
            refresh_wait=refresh_wait,
            look_up=self._look_up,
            now=self.clock,
        )

    def _look_up(self, host: str, port: int) -> Sequence[AddressInfo]:
        self.daemons.append(threading.current_thread().daemon)
        answer = self[len(self.asked)]
        self.asked.append((host, port))
        return answer.result()

    def __getitem__(self, number: int) -> Future[Sequence[AddressInfo]]:
        """Return the answer of a look-up."""
        while len(self._answers) <= number:
            self._answers.append(Future())
        return self._answers[number]

    def resolve(self) -> Call:
        """Begin a call."""
        return asyncio.create_task(self.resolver.resolve(HOST, PORT))

    async def at_once(self) -> Sequence[SocketAddress]:
        """Return the answer of a call, which must not wait."""
        task = self.resolve()
        await asyncio.sleep(0)
        assert task.done()
        await self.settle()
        return task.result()

    async def waiting(self, calls: int = 1) -> list[Call]:
        """Begin so many calls, which must wait."""
        tasks = [self.resolve() for _ in range(calls)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in tasks)
        await self.settle()
        return tasks

    async def settle(self) -> None:
        """Wait until every look-up that began has reached us, so that they come in order."""
        while len(self.asked) < self.resolver.look_ups.started:  # noqa: ASYNC110 in a thread
            await asyncio.sleep(0)

    async def end(self, number: int, answer: str | Exception) -> None:
        """Let a look-up end with an address or an exception, and wait until that is noted."""
        ended = self.resolver.look_ups.finished + 1
        if isinstance(answer, Exception):
            self[number].set_exception(answer)
        else:
            self[number].set_result([info(answer)])
        while self.resolver.look_ups.finished < ended:  # noqa: ASYNC110 a thread ends it
            await asyncio.sleep(0)

    async def know(self, host: str) -> None:
        """Let the first look-up give an answer."""
        (task,) = await self.waiting()
        await self.end(0, host)
        assert await task == ipv4(host)


@on_each_loop
async def test_all_that_wait_share_one_look_up() -> None:
    """Callers that come while a name is looked up get the answer of that look-up."""
    dns = Dns()
    tasks = await dns.waiting(32)
    await dns.end(0, "192.0.2.1")
    assert await answers_of(*tasks) == {ipv4("192.0.2.1")}
    assert dns.asked == [(HOST, PORT)]


@on_each_loop
async def test_a_look_up_keeps_no_process_alive() -> None:
    """Shutdown waits for no look-up: its thread is a daemon, and none of the loop's."""
    dns = Dns()
    await dns.know("192.0.2.1")
    assert dns.daemons == [True]
    dns.clock.pass_(STALE + 1)
    await dns.waiting()  # and the loop is closed now


@on_each_loop
async def test_a_fresh_answer_needs_no_look_up() -> None:
    """An answer is used for 5 s without asking again."""
    dns = Dns()
    await dns.know("192.0.2.1")
    dns.clock.pass_(FRESH - TICK)
    assert await dns.at_once() == ipv4("192.0.2.1")
    assert dns.resolver.look_ups.started == 1


@on_each_loop
async def test_an_older_answer_is_refreshed_in_the_background() -> None:
    """Where calls are frequent none of them waits, and the next ones get the new address."""
    dns = Dns()
    await dns.know("192.0.2.1")
    dns.clock.pass_(FRESH)
    assert [await dns.at_once() for _ in range(9)] == [ipv4("192.0.2.1")] * 9
    assert dns.resolver.look_ups.started == 2
    await dns.end(1, "192.0.2.2")
    assert await dns.at_once() == ipv4("192.0.2.2")


@on_each_loop
async def test_calls_after_a_quiet_time_wait_for_the_refresh() -> None:
    """An auth-api that moved while nobody called is found by the first calls."""
    dns = Dns()
    await dns.know("192.0.2.1")
    dns.clock.pass_(QUIET)
    tasks = await dns.waiting(3)
    assert dns.resolver.look_ups.started == 2
    await dns.end(1, "192.0.2.2")
    assert await answers_of(*tasks) == {ipv4("192.0.2.2")}


@on_each_loop
async def test_a_refresh_that_fails_ends_the_wait() -> None:
    """A failed refresh leaves the calls that wait the last good answer, and the next ones too."""
    dns = Dns()
    await dns.know("192.0.2.1")
    dns.clock.pass_(QUIET)
    tasks = await dns.waiting(3)
    await dns.end(1, AGAIN)
    assert await answers_of(*tasks) == {ipv4("192.0.2.1")}
    for started in (2, 3):
        assert await dns.at_once() == ipv4("192.0.2.1")
        assert dns.resolver.look_ups.started == started
        dns.clock.pass_(REFRESH_PAUSE)


@on_skipping_loop
async def test_the_wait_for_a_refresh_ends() -> None:
    """A refresh that takes too long leaves the last good answer now, and its own for later."""
    dns = Dns()
    await dns.know("192.0.2.1")
    dns.clock.pass_(QUIET)
    (task,) = await dns.waiting()
    skip(HANG)
    assert await task == ipv4("192.0.2.1")
    await dns.end(1, "192.0.2.2")
    assert await dns.at_once() == ipv4("192.0.2.2")


@pytest.mark.timing("the look-up never ends, so the wait passes however slow the machine is")
@on_each_loop
async def test_a_refresh_is_waited_for_for_a_tenth_of_a_second() -> None:
    """By default a hung refresh ends no call later than after REFRESH_WAIT."""
    dns = Dns()
    dns.resolver = dns.open(refresh_wait=REFRESH_WAIT)
    await dns.know("192.0.2.1")
    dns.clock.pass_(QUIET)
    assert await dns.resolve() == ipv4("192.0.2.1")
    assert dns.resolver.look_ups.started == 2


@on_skipping_loop
async def test_a_late_refresh_is_not_waited_for() -> None:
    """One look-up delays calls only while it is young, and no other does for a time after it."""
    dns = Dns()
    dns.resolver = dns.open(refresh_wait=HUNG / 2)
    await dns.know("192.0.2.1")
    dns.clock.pass_(QUIET)
    first = dns.resolve()
    await asyncio.sleep(0)
    await dns.settle()
    skip(HUNG / 2)
    dns.clock.pass_(HUNG / 2)
    assert await first == ipv4("192.0.2.1")
    for started in (2, 3):
        assert await dns.at_once() == ipv4("192.0.2.1")
        assert dns.resolver.look_ups.started == started
        dns.clock.pass_(HUNG / 2)


@on_each_loop
async def test_who_leaves_while_waiting_for_a_refresh_disturbs_nobody() -> None:
    """A call that is cancelled leaves the refresh to the other calls."""
    dns = Dns()
    await dns.know("192.0.2.1")
    dns.clock.pass_(QUIET)
    first, second = await dns.waiting(2)
    first.cancel()
    await asyncio.wait([first])
    assert first.cancelled()
    await dns.end(1, "192.0.2.2")
    assert await second == ipv4("192.0.2.2")
    assert dns.resolver.look_ups.started == 2


@on_each_loop
async def test_a_stale_answer_is_not_used() -> None:
    """What was obtained too long ago is no address any more, also if the look-up fails."""
    dns = Dns()
    await dns.know("192.0.2.1")
    dns.clock.pass_(STALE)
    (task,) = await dns.waiting()
    await dns.end(1, AGAIN)
    assert await task == ipv4("192.0.2.1")
    dns.clock.pass_(TICK)
    (task,) = await dns.waiting()
    await dns.end(2, AGAIN)
    with pytest.raises(LookUpError):
        await task


@on_each_loop
async def test_an_answer_may_be_used_for_ever() -> None:
    """With `stale` without end no answer is too old."""
    dns = Dns()
    dns.resolver = dns.open(stale=math.inf)
    await dns.know("192.0.2.1")
    dns.clock.pass_(1e9)
    (task,) = await dns.waiting()
    await dns.end(1, AGAIN)
    assert await task == ipv4("192.0.2.1")


@on_each_loop
async def test_an_answer_reaches_those_who_waited_for_it() -> None:
    """Also an answer that may not be used for any time is that of the calls that waited."""
    dns = Dns()
    dns.resolver = dns.open(stale=0, fresh=0)
    (task,) = await dns.waiting()
    await dns.end(0, "192.0.2.1")
    dns.clock.pass_(1)
    assert await task == ipv4("192.0.2.1")


@on_each_loop
async def test_a_failed_refresh_leaves_the_last_good_answer() -> None:
    """While DNS fails the last good answer is used, and a look-up begins once in a second."""
    dns = Dns()
    await dns.know("192.0.2.1")
    dns.clock.pass_(FRESH)
    assert await dns.at_once() == ipv4("192.0.2.1")
    await dns.end(1, AGAIN)
    dns.clock.pass_(REFRESH_PAUSE - TICK)
    assert await dns.at_once() == ipv4("192.0.2.1")
    assert dns.resolver.look_ups.started == 2
    dns.clock.pass_(TICK)
    assert await dns.at_once() == ipv4("192.0.2.1")
    assert dns.resolver.look_ups.started == 3
    await dns.end(2, "192.0.2.2")


@on_each_loop
async def test_a_failure_without_an_answer_is_no_pause() -> None:
    """A call without an address asks at once, whatever failed before."""
    dns = Dns()
    for number in range(3):
        (task,) = await dns.waiting()
        await dns.end(number, AGAIN)
        with pytest.raises(LookUpError):
            await task
    (task,) = await dns.waiting()
    await dns.end(3, "192.0.2.1")
    assert await task == ipv4("192.0.2.1")


@pytest.mark.parametrize(
    ("error", "name", "is_local"),
    FAILURES,
    ids=[f"{type(error).__name__}-{name}" for error, name, _ in FAILURES],
)
@on_each_loop
async def test_each_failure_has_a_stable_name(
    error: Exception, name: str, *, is_local: bool
) -> None:
    """Whatever a look-up raises, all that wait get the name of its cause, and where it is."""
    dns = Dns()
    tasks = await dns.waiting(3)
    await dns.end(0, error)
    for task in tasks:
        with pytest.raises(LookUpError) as raised:
            await task
        assert (raised.value.cause_name, str(raised.value)) == (name, name)
        assert raised.value.is_local == is_local
        assert raised.value.__cause__ is error


@on_each_loop
async def test_an_answer_without_an_address_is_a_failure() -> None:
    """An empty list is a name without data."""
    dns = Dns()
    (task,) = await dns.waiting()
    dns[0].set_result([])
    with pytest.raises(LookUpError, match="EAI_NODATA"):
        await task
    assert dns.resolver.look_ups.failed == 1


@on_each_loop
async def test_a_thread_that_cannot_start_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system gives no more threads, the call gets a LookUpError with a local cause."""

    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(LookUpError, match="EAGAIN") as raised:
        await Dns().resolver.resolve(HOST, PORT)
    assert raised.value.is_local


@on_each_loop
async def test_a_caller_that_leaves_disturbs_nobody() -> None:
    """The first caller is cancelled: its look-up goes on, for the others and for the next."""
    dns = Dns()
    first, second = await dns.waiting(2)
    first.cancel()
    await asyncio.wait([first])
    assert first.cancelled()
    await dns.end(0, "192.0.2.1")
    assert await second == ipv4("192.0.2.1")
    assert dns.resolver.look_ups.started == 1


@pytest.mark.parametrize("answer", ["192.0.2.1", AGAIN])
@on_each_loop
async def test_a_look_up_that_nobody_awaits_ends_in_peace(answer: str | Exception) -> None:
    """When every caller has left, an answer is kept, and a failure is nobody's."""
    dns = Dns()
    (task,) = await dns.waiting()
    task.cancel()
    await asyncio.wait([task])
    await dns.end(0, answer)
    assert dns.resolver.look_ups.finished == 1


@on_each_loop
async def test_a_hung_look_up_is_passed_by_a_second() -> None:
    """After a second the next call looks up again, and its answer is for all."""
    dns = Dns()
    (first,) = await dns.waiting()
    dns.clock.pass_(HUNG - TICK)
    (second,) = await dns.waiting()
    assert (dns.resolver.look_ups.started, dns.resolver.look_ups.hung) == (1, 0)
    dns.clock.pass_(TICK)
    third, fourth = await dns.waiting(2)
    assert (dns.resolver.look_ups.started, dns.resolver.look_ups.hung) == (2, 1)
    await dns.end(1, "192.0.2.1")
    assert await answers_of(first, second, third, fourth) == {ipv4("192.0.2.1")}


@on_each_loop
async def test_no_third_look_up_begins() -> None:
    """While two hang, a call without an address fails at once; those that waited wait on."""
    dns = Dns()
    (first,) = await dns.waiting()
    dns.clock.pass_(HUNG)
    (second,) = await dns.waiting()
    dns.clock.pass_(HUNG)
    with pytest.raises(LookUpError, match="HUNG") as raised:
        await dns.at_once()
    assert not raised.value.is_local
    assert (dns.resolver.look_ups.started, dns.resolver.look_ups.hung) == (2, 2)
    await dns.end(0, "192.0.2.1")
    assert await answers_of(first, second) == {ipv4("192.0.2.1")}
    assert (dns.resolver.look_ups.started, dns.resolver.look_ups.hung) == (2, 1)


@on_each_loop
async def test_hung_refreshes_leave_the_last_good_answer() -> None:
    """Two refreshes that hang delay no call while the answer may be used."""
    dns = Dns()
    await dns.know("192.0.2.1")
    dns.clock.pass_(FRESH)
    for started in (2, 3, 3):
        assert await dns.at_once() == ipv4("192.0.2.1")
        assert dns.resolver.look_ups.started == started
        dns.clock.pass_(HUNG)
    await dns.end(2, "192.0.2.2")
    assert await dns.at_once() == ipv4("192.0.2.2")


@on_each_loop
async def test_a_hung_look_up_that_ends_frees_its_thread() -> None:
    """After it the next call may look up again."""
    dns = Dns()
    (first,) = await dns.waiting()
    dns.clock.pass_(HUNG)
    (second,) = await dns.waiting()
    dns.clock.pass_(HUNG)
    await dns.end(0, AGAIN)
    (third,) = await dns.waiting()
    assert dns.resolver.look_ups.started == 3
    await dns.end(2, "192.0.2.1")
    assert await answers_of(first, second, third) == {ipv4("192.0.2.1")}


@on_each_loop
async def test_the_failure_of_an_earlier_look_up_ends_no_wait() -> None:
    """A look-up that hung and failed says less than the later one, which still runs."""
    dns = Dns()
    (first,) = await dns.waiting()
    dns.clock.pass_(HUNG)
    (second,) = await dns.waiting()
    await dns.end(0, AGAIN)
    assert not first.done()
    await dns.end(1, "192.0.2.1")
    assert await answers_of(first, second) == {ipv4("192.0.2.1")}


@pytest.mark.parametrize("late", ["192.0.2.1", AGAIN])
@on_each_loop
async def test_an_earlier_look_up_changes_no_later_answer(late: str | Exception) -> None:
    """What a look-up that hung says at last is older than the answer, and pauses no refresh."""
    dns = Dns()
    (first,) = await dns.waiting()
    dns.clock.pass_(HUNG)
    (second,) = await dns.waiting()
    await dns.end(1, "192.0.2.2")
    assert await answers_of(first, second) == {ipv4("192.0.2.2")}
    dns.clock.pass_(FRESH - TICK)
    await dns.end(0, late)
    assert await dns.at_once() == ipv4("192.0.2.2")
    dns.clock.pass_(TICK)
    assert await dns.at_once() == ipv4("192.0.2.2")
    assert dns.resolver.look_ups.started == 3


@on_each_loop
async def test_the_failure_of_the_later_look_up_ends_the_wait() -> None:
    """While the first look-up hangs, the failure of the second is that of all calls."""
    dns = Dns()
    (first,) = await dns.waiting()
    dns.clock.pass_(HUNG)
    (second,) = await dns.waiting()
    await dns.end(1, AGAIN)
    for task in (first, second):
        with pytest.raises(LookUpError, match="EAI_AGAIN"):
            await task


@pytest.mark.parametrize(
    ("host", "family"),
    [
        ("192.0.2.1", AF_INET),
        ("2001:db8::1", AF_INET6),
        ("::ffff:192.0.2.1", AF_INET6),
        ("fe80::1%eth0", AF_INET6),
    ],
)
@on_each_loop
async def test_an_ip_address_is_not_looked_up(host: str, family: socket.AddressFamily) -> None:
    """An IP address is its own answer for ever."""
    dns = Dns()
    for _ in range(2):
        assert await dns.resolver.resolve(host, 80) == (SocketAddress(family, host, 80),)
        dns.clock.pass_(10 * STALE)
    assert dns.resolver.look_ups == LookUps()


@on_each_loop
async def test_what_is_kept_of_an_answer() -> None:
    """The order of the system is kept, and the scope of IPv6; repetitions are not."""
    dns = Dns()
    (task,) = await dns.waiting()
    link_local = (AF_INET6, SOCK_STREAM, IPPROTO_TCP, "", ("fe80::1", PORT, 0, 3))
    global_one = (AF_INET6, SOCK_STREAM, IPPROTO_TCP, "", ("2001:db8::1", PORT, 0, 0))
    dns[0].set_result([link_local, info("192.0.2.1"), global_one, info("192.0.2.1")])
    assert await task == (
        SocketAddress(AF_INET6, "fe80::1%3", PORT),
        SocketAddress(AF_INET, "192.0.2.1", PORT),
        SocketAddress(AF_INET6, "2001:db8::1", PORT),
    )


@on_each_loop
async def test_each_name_and_port_is_looked_up_for_itself() -> None:
    """A look-up that hangs holds up no other name."""
    dns = Dns()
    await dns.waiting()
    dns.clock.pass_(HUNG)
    other = asyncio.create_task(dns.resolver.resolve("other.test", PORT))
    await asyncio.sleep(0)
    await dns.end(1, "192.0.2.1")
    assert await other == ipv4("192.0.2.1")
    assert dns.asked == [(HOST, PORT), ("other.test", PORT)]


@on_each_loop
async def test_look_ups_are_counted() -> None:
    """Metrics show how many look-ups began, ended and failed, how long they took, what hangs."""
    dns = Dns()
    (task,) = await dns.waiting()
    dns.clock.pass_(0.25)
    await dns.end(0, "192.0.2.1")
    await task
    dns.clock.pass_(FRESH)
    await dns.at_once()
    dns.clock.pass_(0.5)
    await dns.end(1, AGAIN)
    dns.clock.pass_(REFRESH_PAUSE)
    await dns.at_once()
    dns.clock.pass_(HUNG)
    assert dns.resolver.look_ups == LookUps(
        started=3, finished=2, failed=1, seconds=0.75, hung=1, is_failing=True
    )


@on_each_loop
async def test_dns_is_failing_until_a_success() -> None:
    """DNS fails from a failed or hung look-up on, until one that began later succeeds."""
    dns = Dns()

    def is_failing() -> bool:
        return dns.resolver.look_ups.is_failing

    (first,) = await dns.waiting()
    assert not is_failing()
    dns.clock.pass_(HUNG)
    assert is_failing()
    (second,) = await dns.waiting()
    await dns.end(1, "192.0.2.1")
    assert await answers_of(first, second) == {ipv4("192.0.2.1")}
    assert (dns.resolver.look_ups.hung, is_failing()) == (1, False)
    dns.clock.pass_(FRESH)
    await dns.at_once()
    assert not is_failing()
    await dns.end(2, AGAIN)
    assert is_failing()
    dns.clock.pass_(REFRESH_PAUSE)
    await dns.at_once()
    await dns.end(3, "192.0.2.1")
    assert not is_failing()


@on_each_loop
async def test_the_system_looks_up() -> None:
    """By default getaddrinfo is asked, which knows `localhost` and port numbers."""
    addresses = await Resolver(stale=STALE).resolve("localhost", 80)
    assert {address.port for address in addresses} == {80}
    assert {address.host for address in addresses} <= {"127.0.0.1", "::1"}


class ResolverMachine(RuleBasedStateMachine):
    """Whatever overlaps, a call gets the answer that the rules give it, and two threads do."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.dns = Dns()
        # The calls that wait, with the known address that each has if the look-up fails.
        self.calls: dict[Call, str | None] = {}
        # The look-ups that run, by number: when each began.
        self.running: dict[int, float] = {}
        self.started = 0
        self.known: tuple[float, str] | None = None  # the last good answer, and since when
        self.known_from = -1  # the number of its look-up
        self.began = -math.inf  # when the last look-up began
        self.wait_until = -math.inf  # when calls with a known address no longer wait for it
        self.no_refresh_before = 0.0

    def teardown(self) -> None:
        """Close the loop, whatever still runs."""
        self.runner.close()

    @property
    def now(self) -> float:
        """The time of the clock."""
        return self.dns.clock.now

    @property
    def usable(self) -> str | None:
        """The known address that a call may use."""
        return self.known[1] if self.known and self.now - self.known[0] <= STALE else None

    @property
    def may_wait(self) -> bool:
        """Whether a look-up runs that does not hang."""
        return any(self.now - began < HUNG for began in self.running.values())

    def expect_look_up(self) -> None:
        """Note the look-up that a call begins."""
        is_fresh = self.known and self.now - self.known[0] < FRESH
        is_paused = self.usable and self.now < self.no_refresh_before
        if not (is_fresh or is_paused or self.may_wait or len(self.running) == 2):
            is_quiet = self.now - self.began >= QUIET
            self.wait_until = self.now + HANG if is_quiet else self.now
            self.running[self.started] = self.began = self.now
            self.started += 1

    @rule()
    def call(self) -> None:
        """Begin a call, which ends at once unless it has to wait for a look-up."""
        self.expect_look_up()

        async def begin() -> None:
            call = self.dns.resolve()
            await asyncio.sleep(0)
            if call.done():
                check(call)
            else:
                assert self.may_wait
                assert self.usable is None or self.now < self.wait_until
                self.calls[call] = self.usable
            await self.dns.settle()

        def check(call: Call) -> None:
            if self.usable:
                assert call.result() == ipv4(self.usable)
            else:
                assert not self.may_wait
                assert isinstance(error := call.exception(), LookUpError)
                assert error.cause_name == "HUNG"

        self.runner.run(begin())

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """Let a call that waits be cancelled."""
        call = data.draw(st.sampled_from(list(self.calls)))
        del self.calls[call]
        call.cancel()
        self.runner.run(wait(call))
        assert call.cancelled()

    @precondition(lambda self: self.running)
    @rule(is_latest=st.booleans())
    def succeed(self, *, is_latest: bool) -> None:
        """Let a look-up give an address, which all calls have unless there is a later one."""
        number = self.end(is_latest=is_latest, error=None)
        if number > self.known_from:
            self.known, self.known_from = (self.now, f"192.0.2.{number}"), number
            for call, _ in self.ended():
                assert call.result() == ipv4(self.known[1])

    @precondition(lambda self: self.running)
    @rule(is_latest=st.booleans())
    def fail(self, *, is_latest: bool) -> None:
        """Let a look-up fail, which ends the wait unless a later one runs or has an answer."""
        number = self.end(is_latest=is_latest, error=AGAIN)
        if number < self.known_from:
            return
        self.no_refresh_before = self.now + REFRESH_PAUSE
        if any(later > number for later in self.running):
            return
        for call, known in self.ended():
            if known:
                assert call.result() == ipv4(known)
            else:
                assert isinstance(call.exception(), LookUpError)

    def end(self, *, is_latest: bool, error: Exception | None) -> int:
        """Let the latest or the earliest look-up end; return its number."""
        number = (max if is_latest else min)(self.running)
        del self.running[number]
        self.runner.run(self.dns.end(number, error or f"192.0.2.{number}"))
        return number

    def ended(self) -> Iterator[tuple[Call, str | None]]:
        """Yield each call that waited, with the address it knew; all have ended."""
        calls, self.calls = self.calls, {}
        for call, known in calls.items():
            self.runner.run(wait(call))
            yield call, known

    @rule(passed=st.one_of(seconds, st.sampled_from([FRESH, HUNG, QUIET, STALE])))
    def pass_time(self, passed: float) -> None:
        """Let time pass."""
        self.dns.clock.pass_(passed)

    @invariant()
    def the_counters_agree(self) -> None:
        """Compare the counters: they show what runs and what hangs, and two look-ups at most."""
        look_ups = self.dns.resolver.look_ups
        assert look_ups.started == self.started
        assert look_ups.started - look_ups.finished == len(self.running) <= module.MAX_LOOK_UPS
        hung = [began for began in self.running.values() if self.now - began >= HUNG]
        assert look_ups.hung == len(hung)


async def wait(call: Call) -> None:
    """Wait until a call has ended."""
    await asyncio.wait([call])


TestResolverMachine = ResolverMachine.TestCase
TestResolverMachine.settings = settings(machines, max_examples=30)  # each step starts threads
