"""Tests of the store of shared counts: its requests, its answers, and every fault of a server."""

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from sidecar.exchange.shared_counts.redis_store import TIMEOUTS, RedisStore, Timeouts
from sidecar.exchange.shared_counts.store import StoreError, Total
from sidecar.secret import Secret
from tests.exchange.shared_counts.resp_server import (
    OK,
    PATIENT,
    Command,
    RespServer,
    Script,
    amounts_of,
    counting,
    integers,
    replying,
    serving,
    silence,
)
from tests.faults.conditions import eventually
from tests.faults.wire import held_port
from tests.loops import on_each_loop, on_skipping_loop
from tests.recorded import recorded
from tests.virtual_time import skip_until

A, B = "karmo-sidecar:1:client_failures:a", "karmo-sidecar:1:address_failures:b"
PROBE = "karmo-sidecar:1:probe"


@asynccontextmanager
async def opened(url: str, timeouts: Timeouts = PATIENT) -> AsyncIterator[RedisStore]:
    """Open a store, and close it at the end."""
    store = RedisStore(Secret(url), timeouts)
    try:
        yield store
    finally:
        await store.aclose()


@asynccontextmanager
async def scripted(script: Script, **options: Any) -> AsyncIterator[tuple[RespServer, RedisStore]]:
    """Open a store on a server that answers as `script` says."""
    async with serving(script) as server, opened(server.url, **options) as store:
        yield server, store


async def fault_of(store: RedisStore) -> str:
    """Return the fault of a request."""
    with pytest.raises(StoreError) as raised:
        await store.add({A: 1})
    return raised.value.fault


@on_each_loop
async def test_amounts_are_added() -> None:
    """All amounts go in one command, and the totals come back in the same order, in seconds."""
    async with scripted(counting()) as (server, store):
        assert await store.add({A: 2, B: 1}) == [Total(2, 40.0), Total(1, 40.0)]
        assert await store.add({B: 3}) == [Total(4, 40.0)]
    first, second = server.commands
    assert first[0] == b"EVAL"
    assert amounts_of(first) == [(A, 2), (B, 1)]
    assert first[5] == b"60000"
    assert amounts_of(second) == [(B, 3)]
    assert server.connections == 1


async def test_without_amounts_the_server_is_tested() -> None:
    """0 is added to a count of its own, which needs what other requests need: to write."""
    async with scripted(counting()) as (server, store):
        assert await store.add({}) == []
    assert [amounts_of(command) for command in server.commands] == [[(PROBE, 0)]]


async def test_user_password_and_database() -> None:
    """They come from the URL, percent-decoded; nothing else is sent on a new connection."""
    async with (
        serving(counting()) as server,
        opened(f"VALKEY://some%2Fone:p%23%40ss@{server.address}/7") as store,
    ):
        assert store.server == server.address
        await store.add({A: 1})
    assert server.commands[:-1] == [(b"AUTH", b"some/one", b"p#@ss"), (b"SELECT", b"7")]
    assert "p#@ss" not in repr(store._client)


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("redis://redis.test", "redis.test:6379"),
        ("rediss://redis.test:7000/1", "redis.test:7000"),
        ("valkey://[2001:db8::1]", "[2001:db8::1]:6379"),
    ],
)
def test_the_server_is_shown_without_secrets(url: str, server: str) -> None:
    """The host and the port of a URL are for the log; the default port is that of Redis."""
    assert RedisStore(Secret(url.replace("://", "://canary:canary@"))).server == server


ANSWERS: Mapping[str, tuple[bytes | None, str]] = {
    "full": (b"-OOM command not allowed when used memory > 'maxmemory'.\r\n", "full"),
    "a replica": (b"-READONLY You can't write against a read only replica.\r\n", "read_only"),
    "no password": (b"-NOAUTH Authentication required.\r\n", "denied"),
    "wrong password": (b"-WRONGPASS invalid username-password pair\r\n", "denied"),
    "no permission": (b"-NOPERM this user has no permissions\r\n", "denied"),
    "loading": (b"-LOADING Redis is loading the dataset in memory\r\n", "loading"),
    "a cluster": (b"-MOVED 3999 127.0.0.1:6381\r\n", "error_response"),
    "another type": (b"-WRONGTYPE Operation against a key\r\n", "error_response"),
    "closes": (None, "connection"),
    "HTTP": (b"HTTP/1.1 400 Bad Request\r\n\r\n", "bad_answer"),
    "no array": (OK, "bad_answer"),
    "too few": (integers(1), "bad_answer"),
    "too many": (integers(1, 2, 3), "bad_answer"),
    "no numbers": (b"*2\r\n$1\r\na\r\n$1\r\nb\r\n", "bad_answer"),
    "a length that is none": (b"*x\r\n", "bad_answer"),
}


@pytest.mark.parametrize(("answer", "fault"), ANSWERS.values(), ids=ANSWERS)
async def test_every_bad_answer_has_its_fault(answer: bytes | None, fault: str) -> None:
    """A server that refuses, closes or is no Redis gives a fault of the list, and no text."""
    async with scripted(replying(answer)) as (_, store):
        assert await fault_of(store) == fault


async def test_after_a_fault() -> None:
    """Whatever an answer was, the next request gets its own answer."""
    count = counting()
    for answer, _ in ANSWERS.values():
        async with scripted(replying(answer)) as (server, store):
            await fault_of(store)
            server.script = count
            assert len(await store.add({A: 1})) == 1
    assert (await count((b"EVAL", b"", b"1", A.encode(), b"1", b"0"))) == integers(
        len(ANSWERS), 40_000
    )


async def test_a_connection_that_ended_while_it_was_idle() -> None:
    """The next request goes over a new connection, and is not lost."""
    async with scripted(counting()) as (server, store):
        await store.add({A: 1})
        server.disconnect()
        (connection,) = store._client.connection_pool._available_connections
        await eventually(connection.can_read)  # it has seen the end
        assert await store.add({A: 1}) == [Total(2, 40.0)]
        assert server.connections == 2


async def test_a_request_is_sent_once() -> None:
    """If the connection ends before the answer, the amounts may have been added: none is resent."""
    async with scripted(replying(None)) as (server, store):
        assert await fault_of(store) == "connection"
        assert len(server.commands) == server.connections == 1


async def test_nothing_listens() -> None:
    """A refused connection is a fault, and no text of the system is in it."""
    with held_port() as port:
        async with opened(f"redis://127.0.0.1:{port}") as store:
            assert await fault_of(store) == "connection"


@on_skipping_loop
async def test_a_server_that_never_answers() -> None:
    """After half a second without an answer the request fails, and its connection is closed."""
    async with scripted(silence, timeouts=TIMEOUTS) as (server, store):
        asking = asyncio.create_task(fault_of(store))
        await skip_until(lambda: bool(server.commands))
        start = asyncio.get_running_loop().time()
        await skip_until(asking.done)
        assert asyncio.get_running_loop().time() - start < 1.5
        assert await asking == "timeout"
        server.script = counting()
        assert server.connections == 1


@pytest.mark.timing("the server's time passes on the clock that is skipped")
@on_skipping_loop
async def test_a_server_that_answers_late_again_and_again() -> None:
    """All of a request ends after a second, although no single answer takes half of one."""

    async def late(_command: Command) -> bytes:
        await asyncio.sleep(0.45)
        return OK

    timeouts = Timeouts(connect=20, answer=20, request=1)
    async with serving(late) as server, opened(f"redis://:p@{server.address}/1", timeouts) as store:
        asking = asyncio.create_task(fault_of(store))
        await skip_until(asking.done)
        assert await asking == "timeout"
        assert len(server.commands) < 4


# Names


def resolve_to(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> list[str]:
    """Let each name have the addresses `hosts`; return the names that are looked up."""
    system, names = socket.getaddrinfo, list[str]()

    def look_up(host: Any, port: Any, *arguments: Any, **options: Any) -> Any:
        names.append(str(host))
        return [info for to in hosts for info in system(to, port, *arguments, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return names


@pytest.mark.parametrize("hosts", [("127.0.0.2", "127.0.0.1"), ("127.0.0.1", "127.0.0.2")])
async def test_the_addresses_of_a_name(
    monkeypatch: pytest.MonkeyPatch, hosts: tuple[str, str]
) -> None:
    """The first address that accepts is used, whichever refuse; we look the name up ourselves."""
    names = resolve_to(monkeypatch, *hosts)
    async with serving(counting()) as server:
        url = server.url.replace("127.0.0.1", "redis.test")
        async with opened(url) as store:
            assert await store.add({A: 1}) == [Total(1, 40.0)]
    assert (names, server.connections) == (["redis.test"], 1)


async def test_a_name_without_an_address() -> None:
    """A name that does not exist is a fault of its own."""
    async with opened("redis://redis.invalid") as store:
        assert await fault_of(store) == "dns"


@on_skipping_loop
async def test_a_look_up_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails the request after half a second; its thread is not one that the loop waits for."""
    release, threads = threading.Event(), list[threading.Thread]()

    def hang(*_: object, **__: object) -> None:
        threads.append(threading.current_thread())
        release.wait(60)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    async with opened("redis://redis.test", TIMEOUTS) as store:
        asking = asyncio.create_task(fault_of(store))
        await skip_until(asking.done)
        assert await asking == "dns"
    assert [thread.daemon for thread in threads] == [True]
    release.set()


# TLS


def contexts(authority: trustme.CA, name: str) -> ssl.SSLContext:
    """Return the context of a server with a certificate for `name`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    return context


@pytest.mark.parametrize(("name", "fault"), [("redis.test", None), ("other.test", "tls")])
async def test_tls(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, fault: str | None
) -> None:
    """By rediss the certificate must be for the name in the URL, by an authority of the system."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    resolve_to(monkeypatch, "127.0.0.1")
    async with serving(counting(), tls=contexts(authority, name)) as server:
        url = f"rediss://{server.address}".replace("127.0.0.1", "redis.test")
        async with opened(url) as store:
            if fault:
                assert await fault_of(store) == fault
            else:
                assert await store.add({A: 1}) == [Total(1, 40.0)]


async def test_an_authority_that_the_system_does_not_trust(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A certificate of any other authority is refused."""
    resolve_to(monkeypatch, "127.0.0.1")
    async with (
        serving(counting(), tls=contexts(trustme.CA(), "redis.test")) as server,
        opened(f"rediss://{server.address}".replace("127.0.0.1", "redis.test")) as store,
    ):
        assert await fault_of(store) == "tls"
    assert server.commands == []


async def test_nothing_is_logged() -> None:
    """redis-py and the resolver write no line of INFO or above about a request or a fault."""
    with recorded() as log:
        async with scripted(counting()) as (server, store):
            await store.add({A: 1})
            for answer in (b"-OOM canary\r\n", None):
                server.script = replying(answer)
                await fault_of(store)
    assert [line for line in log.entries if line["level"] != "debug"] == []
