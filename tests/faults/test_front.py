"""The fronts of the kit: they forward, they choose by /readyz, and they hide no failure."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.faults.conditions import eventually
from tests.faults.front import Haproxy, Reuse, haproxy, nginx
from tests.faults.scripted import KeepAlive
from tests.faults.wire import LOOPBACK, held_port, host_and_port
from tests.upstream import Upstream, answer

pytestmark = pytest.mark.soak  # which needs the proxies anyway

REQUEST = b"POST / HTTP/1.1\r\nHost: front.test\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
READY = answer(200)
NOT_READY = answer(503)


def address_of(upstream: Upstream) -> str:
    """Return the "host:port" of an upstream."""
    return upstream.url.split("/")[2]


async def ask(address: str) -> int:
    """Return the status of an answer."""
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection(*host_and_port(address))
        writer.write(REQUEST)
        told = await reader.read()
        writer.close()
    return int(told.split()[1])


@asynccontextmanager
async def checked(folder: Path, rest: Upstream, admin: Upstream) -> AsyncIterator[Haproxy]:
    """Run haproxy in front of one backend with a check, which is up, and one free slot."""
    async with haproxy(folder, [(address_of(rest), address_of(admin))], slots=1) as front:
        await eventually(lambda: front.is_up(0))
        yield front


async def test_haproxy_takes_turns(tmp_path: Path) -> None:
    """Each of two backends without a check is asked in turn."""
    async with Upstream() as one, Upstream() as other:
        backends = [(address_of(one), None), (address_of(other), None)]
        async with haproxy(tmp_path, backends) as front:
            assert [await ask(front.address) for _ in range(4)] == [200] * 4
        assert (len(one.requests), len(other.requests)) == (2, 2)


async def test_haproxy_asks_whether_a_backend_is_ready(tmp_path: Path) -> None:
    """A backend whose /readyz says no gets no request, and gets them again when it says yes."""
    async with Upstream() as rest, Upstream() as admin, checked(tmp_path, rest, admin) as front:
        assert await ask(front.address) == 200
        admin.reply = NOT_READY
        await eventually(lambda: ask_is(front.address, 503))
        assert not await front.is_up(0)
        admin.reply = READY
        await eventually(lambda: ask_is(front.address, 200))
        assert {seen.split()[1] for seen in admin.requests} == {b"/readyz"}


async def ask_is(address: str, status: int) -> bool:
    """Return whether the answer has that status."""
    return await ask(address) == status


async def test_haproxy_lets_a_backend_be_replaced(tmp_path: Path) -> None:
    """A new backend in a free slot takes over, once it is ready, from one that is taken out."""
    async with Upstream() as old, Upstream() as new, Upstream() as admin, Upstream() as later:
        async with checked(tmp_path, old, admin) as front:
            assert not await front.is_up(1)
            later.reply = NOT_READY
            await front.put(1, address_of(new), address_of(later))
            await asyncio.wait_for(later.received.wait(), 20)
            assert not await front.is_up(1)
            later.reply = READY
            await eventually(lambda: front.is_up(1))
            await front.take_out(0)
            old.reset()
            assert [await ask(front.address) for _ in range(4)] == [200] * 4
        assert (len(old.requests), len(new.requests)) == (0, 4)


@pytest.mark.parametrize(("reuse", "connections"), [("never", 3), ("safe", 3), ("always", 1)])
async def test_haproxy_shares_connections_as_told(
    tmp_path: Path, reuse: Reuse, connections: int
) -> None:
    """Three clients, one after the other, share the connection to a backend only if they may."""
    async with KeepAlive(20) as server:
        async with haproxy(tmp_path, [(server.address, None)], reuse=reuse) as front:
            assert [await ask(front.address) for _ in range(3)] == [200] * 3
        assert server.connections == connections


async def closes(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Be a script that closes without an answer."""


async def test_haproxy_hides_no_failure(tmp_path: Path) -> None:
    """A request that one backend failed is not sent to the other."""
    async with Upstream() as one, Upstream() as other:
        one.script = other.script = closes
        backends = [(address_of(one), None), (address_of(other), None)]
        async with haproxy(tmp_path, backends) as front:
            assert await ask(front.address) == 502
        assert len(one.requests) + len(other.requests) == 1


async def test_nginx_takes_turns_and_hides_no_failure(tmp_path: Path) -> None:
    """Each of two backends is asked in turn; what one failed is not sent to the other."""
    async with Upstream() as one, Upstream() as other:
        async with nginx(tmp_path, [address_of(one), address_of(other)]) as address:
            assert [await ask(address) for _ in range(4)] == [200] * 4
            assert (len(one.requests), len(other.requests)) == (2, 2)
            one.script = other.script = closes
            assert await ask(address) == 502
        assert len(one.requests) + len(other.requests) == 5


async def test_a_port_without_a_listener_is_a_failure_too(tmp_path: Path) -> None:
    """A backend that refuses connections is told to the caller by each front."""
    with held_port() as port:
        nobody = f"{LOOPBACK}:{port}"
        async with haproxy(tmp_path, [(nobody, None)]) as front, nginx(tmp_path, [nobody]) as other:
            assert (await ask(front.address), await ask(other)) == (503, 502)


async def test_a_front_that_does_not_start_says_why(tmp_path: Path) -> None:
    """What the tool writes about its configuration is in the error."""
    with pytest.raises(RuntimeError, match="no-such-host"):
        async with haproxy(tmp_path, [("no-such-host.invalid:1", None)]):
            pytest.fail("it started")
