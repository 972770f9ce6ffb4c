"""Kept connections over real sockets: when one is used again, and that nothing is mixed up."""

import asyncio
import os
import random
import socket
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

import httpx2
import pytest
import trustme

from sidecar.auth_api.dns.look_up import AddressInfo
from sidecar.auth_api.dns.resolver import Resolver
from sidecar.auth_api.transport import pool
from sidecar.auth_api.transport.errors import TransportError
from sidecar.auth_api.transport.keep_alive import Origin
from sidecar.auth_api.transport.pool import ConnectionPool
from sidecar.tls.resuming_context import ResumingContext
from tests.auth_api.transport.server import Answer, Client, Request, Server, echo, response
from tests.faults.conditions import eventually
from tests.faults.test_upstream_faults import full
from tests.faults.wire import reset
from tests.loops import on_each_loop, on_skipping_loop
from tests.virtual_time import skip

AUTHORITY = trustme.CA()


def server_tls() -> ssl.SSLContext:
    """Return the context of a server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert("127.0.0.1").configure_cert(context)
    return context


def client_tls() -> ssl.SSLContext:
    """Return the context of a client that trusts the server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    AUTHORITY.configure_trust(context)
    return context


async def failure_of(client: Client, body: bytes = b"x") -> TransportError:
    """Return the error of a request that must fail."""
    with pytest.raises(TransportError) as raised:
        await client.ask(body)
    return raised.value


# Used again


@on_each_loop
async def test_one_connection_for_many() -> None:
    """Exchanges one after the other share a connection; the target is that of the URL."""
    async with Server() as server, Client(server.url) as client:
        for number in range(10):
            assert await client.ask(b"%d" % number) == b"%d" % number
        assert server.connections == 1
        assert (client.pool.counters.opened, client.pool.counters.reused) == (1, 9)


@on_each_loop
async def test_one_connection_for_many_over_tls() -> None:
    """The same over TLS, whose session tickets come while the connection is idle."""
    context = client_tls()
    async with (
        Server(tls=server_tls()) as server,
        Client(server.url, tls=lambda: context) as client,
    ):
        for number in range(10):
            assert await client.ask(b"%d" % number) == b"%d" % number
        assert server.connections == 1


@on_each_loop
async def test_as_many_connections_as_exchanges_at_once() -> None:
    """Exchanges at once have a connection each, which later ones share."""
    async with Server() as server, Client(server.url) as client:
        for _ in range(5):
            bodies = [b"%d" % number for number in range(8)]
            assert await asyncio.gather(*map(client.ask, bodies)) == bodies
        assert server.connections == client.pool.counters.open == client.pool.counters.idle == 8


# Used once


def answers(data: bytes) -> Answer:
    """Return an answer that sends `data`, which holds the body b"x"."""

    async def answer(request: Request) -> bool:
        return await request.send(data)

    return answer


async def close_after(request: Request) -> bool:
    """Answer, and close the connection."""
    await echo(request)
    return False


X = response(b"x")
ONCE: Mapping[str, Answer] = {
    "Connection: close": answers(response(b"x", b"Connection: close")),
    "HTTP/1.0": answers(X.replace(b"1.1", b"1.0")),
    "a whole second response in the same read": answers(X + response(b"stolen")),
    "half a response in the same read": answers(X + X[:10]),
    "an empty line in the same read": answers(X + b"\r\n"),
    "an interim response in the same read": answers(X + b"HTTP/1.1 100 Continue\r\n\r\n"),
    "closed": close_after,
}


@pytest.mark.parametrize("tls", [None, server_tls()], ids=["plain", "TLS"])
@pytest.mark.parametrize("name", ONCE)
@on_each_loop
async def test_used_once(name: str, tls: ssl.SSLContext | None) -> None:
    """A response that is not framed exactly, or whose connection closes, is the last on it."""
    context = client_tls()
    async with Server(ONCE[name], tls) as server, Client(server.url, tls=lambda: context) as client:
        assert await client.ask(b"x") == b"x"
        await eventually(lambda: client.pool.counters.idle == 0)
        server.answer = echo
        assert await client.ask(b"y") == b"y"
        assert [request.connection for request in server.requests] == [0, 1]


IDLE: Mapping[str, Callable[[asyncio.StreamWriter], None]] = {
    "a whole response": lambda writer: writer.write(response(b"stolen")),
    "half a response": lambda writer: writer.write(X[:10]),
    "an empty line": lambda writer: writer.write(b"\r\n"),
    "an interim response": lambda writer: writer.write(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "an end": lambda writer: writer.close(),
    "an abort": lambda writer: writer.transport.abort(),
}


@pytest.mark.parametrize("tls", [None, server_tls()], ids=["plain", "TLS"])
@pytest.mark.parametrize("name", IDLE)
@on_each_loop
async def test_what_comes_while_idle(name: str, tls: ssl.SSLContext | None) -> None:
    """Bytes or an end without a request in hand end the connection, and reach nobody."""
    context = client_tls()
    async with Server(tls=tls) as server, Client(server.url, tls=lambda: context) as client:
        assert await client.ask(b"a") == b"a"
        IDLE[name](server.requests[0].writer)
        await eventually(lambda: client.pool.counters.open == 0)
        assert await client.ask(b"b") == b"b"
        assert server.connections == 2


async def test_what_waits_in_the_socket_is_no_response() -> None:
    """Bytes that the loop has not read yet when a request begins are not its response."""
    async with Server() as server, Client(server.url) as client:
        assert await client.ask(b"a") == b"a"
        # The system has it before the next turn of the loop.
        os.write(server.requests[0].writer.get_extra_info("socket").fileno(), response(b"stolen"))
        assert await client.ask(b"b") == b"b"
        assert server.connections == 2


# Closed before the request was seen


@pytest.mark.parametrize("end", ["close", "reset"])
@on_each_loop
async def test_a_kept_connection_that_ends_is_replaced(end: str) -> None:
    """A kept connection that ends at once, without a byte, costs one resend and no error."""

    async def answer(request: Request) -> bool:
        if request.number == 1:
            return await echo(request)
        if end == "reset":
            reset(request.writer)
        return False

    async with Server(answer) as server, Client(server.url) as client:
        for number in range(20):
            assert await client.ask(b"%d" % number) == b"%d" % number
        assert client.pool.counters.resent == 19
        assert len(server.requests) == 20 + 19


@on_each_loop
async def test_only_one_resend() -> None:
    """A fresh connection that ends without a byte may have been seen: nothing is sent again."""

    async def answer(request: Request) -> bool:
        return request.connection == 0 and request.number == 1 and await echo(request)

    async with Server(answer) as server, Client(server.url) as client:
        assert await client.ask(b"a") == b"a"
        assert (await failure_of(client)).name == "closed"
        assert len(server.requests) == 3
        assert client.pool.counters.resent == 1


@on_skipping_loop
async def test_a_late_end_may_have_been_seen() -> None:
    """After 100 ms a request on a kept connection is not sent again."""
    seen, go = asyncio.Event(), asyncio.Event()

    async def answer(request: Request) -> bool:
        if request.number == 1:
            return await echo(request)
        seen.set()
        await go.wait()
        return False

    async with Server(answer) as server, Client(server.url) as client:
        assert await client.ask(b"a") == b"a"
        asking = asyncio.create_task(failure_of(client))
        await seen.wait()
        skip(0.2)
        go.set()
        assert (await asking).name == "closed"
        assert len(server.requests) == 2


@on_each_loop
async def test_a_kept_connection_that_answers_in_part() -> None:
    """A byte of a response shows that the request was seen."""

    async def answer(request: Request) -> bool:
        if request.number == 1:
            return await echo(request)
        await request.send(b"H")
        return False

    async with Server(answer) as server, Client(server.url) as client:
        assert await client.ask(b"a") == b"a"
        assert (await failure_of(client)).name == "closed"
        assert len(server.requests) == 2


# Ended by us


@on_each_loop
async def test_a_cancelled_exchange_ends_its_connection() -> None:
    """What the auth-api answers to a caller who has gone away reaches nobody."""
    held = asyncio.Event()

    async def hold(_request: Request) -> bool:
        held.set()
        await asyncio.Event().wait()
        return True

    async with Server() as server, Client(server.url) as client:
        assert await client.ask(b"a") == b"a"
        server.answer = hold
        asking = asyncio.create_task(client.ask(b"b"))
        await held.wait()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await eventually(lambda: client.pool.counters.closed["cancelled"] == 1)
        server.answer = echo
        assert await client.ask(b"c") == b"c"
        assert server.connections == 2


@pytest.mark.parametrize("tls", [None, server_tls()], ids=["plain", "TLS"])
@on_each_loop
async def test_a_call_that_is_cancelled_at_any_turn(tls: ssl.SSLContext | None) -> None:
    """Whenever a call is cancelled, no connection stays open that nobody can use."""
    context = client_tls()
    async with Server(tls=tls) as server:
        for turns in range(60):
            async with Client(server.url, tls=lambda: context) as client:
                call = asyncio.create_task(client.ask(b"x"))
                for _ in range(turns):
                    await asyncio.sleep(0)
                call.cancel()
                await asyncio.gather(call, return_exceptions=True)
                await eventually(partial(has_none_in_use, client.pool))


def has_none_in_use(pool: ConnectionPool) -> bool:
    """Return whether each open connection is idle."""
    return pool.counters.open == pool.counters.idle


@on_each_loop
async def test_three_addresses() -> None:
    """A server whose first two addresses are silent is reached at the third, in the same time."""
    hosts = ("127.0.0.2", "127.0.0.3", "127.0.0.1")

    def look_up(_host: str, port: int) -> list[AddressInfo]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (host, port)) for host in hosts]

    async with Server() as server:
        url = server.url.copy_with(host="auth-api.test")
        resolver = Resolver(stale=60.0, look_up=look_up)
        with full(f"{hosts[0]}:{server.port}"), full(f"{hosts[1]}:{server.port}"):
            async with Client(url, connect_timeout=3.0, resolver=resolver) as client:
                assert await client.ask(b"x") == b"x"


def test_a_name_in_punycode_stays() -> None:
    """A host name of another script is looked up as it is written in the URL (RFC 5891)."""
    origin = Origin.of(httpx2.URL("https://xn--fuball-cta.example/token"))
    assert origin.host == "xn--fuball-cta.example"


async def test_https_without_a_context() -> None:
    """No certificate is trusted by default."""
    with pytest.raises(ValueError, match="SSL context"):
        Client(httpx2.URL("https://127.0.0.1:1/"))


@on_skipping_loop
async def test_an_idle_connection_is_closed() -> None:
    """A connection that nobody uses ends with the keep-alive time."""
    async with Server() as server, Client(server.url, keep_alive=4.0) as client:
        assert await client.ask(b"a") == b"a"
        skip(3)
        assert await client.ask(b"b") == b"b"
        assert server.connections == 1
        skip(4.5)
        await eventually(lambda: client.pool.counters.closed["idle"] == 1)
        assert await client.ask(b"c") == b"c"
        assert server.connections == 2


@on_skipping_loop
async def test_an_old_connection_is_closed() -> None:
    """A connection ends with its age, so that an auth-api that has moved is followed."""
    async with Server() as server, Client(server.url, keep_alive=1000.0) as client:
        assert await client.ask(b"a") == b"a"
        skip(1.2 * pool.AGE)
        assert await client.ask(b"b") == b"b"
        await eventually(lambda: client.pool.counters.closed["age"] == 1)
        assert await client.ask(b"c") == b"c"
        assert server.connections == 2


@on_each_loop
async def test_without_keep_alive() -> None:
    """With a time of 0 each exchange has a connection of its own."""
    async with Server() as server, Client(server.url, keep_alive=0.0) as client:
        for _ in range(3):
            assert await client.ask(b"a") == b"a"
        assert server.connections == 3
        await eventually(lambda: client.pool.counters.open == 0)


@on_each_loop
async def test_the_end_closes_all() -> None:
    """Closing the transport ends every connection."""
    async with Server() as server:
        async with Client(server.url) as client:
            await asyncio.gather(*(client.ask(b"a") for _ in range(4)))
        await eventually(lambda: client.pool.counters.open == 0)
        assert client.pool.counters.closed == {"shutdown": 4}
        await eventually(lambda: server.ended == 4)


# TLS sessions


@on_each_loop
async def test_sessions_are_resumed() -> None:
    """A second connection resumes the session of the first, until the context is replaced."""
    contexts, resumed = [client_tls()], []

    async def answer(request: Request) -> bool:
        tls: ssl.SSLObject = request.writer.get_extra_info("ssl_object")
        resumed.append(tls.session_reused)
        await echo(request)
        return False

    async with (
        Server(answer, server_tls()) as server,
        Client(server.url, tls=lambda: contexts[-1]) as client,
    ):
        for _ in range(3):
            await client.ask(b"a")
            await eventually(lambda: client.pool.counters.open == 0)
        contexts.append(client_tls())
        for _ in range(2):
            await client.ask(b"a")
            await eventually(lambda: client.pool.counters.open == 0)
    assert resumed == [False, True, True, False, True]


def test_no_session_is_kept_of_plain_connections() -> None:
    """A connection that is gone, or has no session, leaves the last one in its place."""
    resuming = ResumingContext.of(client_tls())
    resuming.keep(None)
    assert resuming.session is None


@on_each_loop
async def test_no_connection_of_a_replaced_context_is_used() -> None:
    """Replaced certificates count from the next exchange on."""
    contexts = [client_tls()]
    async with (
        Server(tls=server_tls()) as server,
        Client(server.url, tls=lambda: contexts[-1]) as client,
    ):
        await client.ask(b"a")
        contexts.append(client_tls())
        await client.ask(b"a")
        assert server.connections == 2
        await eventually(lambda: client.pool.counters.closed["replaced"] == 1)


@on_each_loop
async def test_no_session_of_a_replaced_context_is_resumed() -> None:
    """An exchange that ends after its certificates were replaced leaves them no session."""
    contexts, release = [client_tls()], asyncio.Event()

    async def answer(request: Request) -> bool:
        if request.body == b"held":
            await release.wait()
        return await echo(request)

    async with (
        Server(answer, server_tls()) as server,
        Client(server.url, tls=lambda: contexts[-1]) as client,
    ):
        held = asyncio.create_task(client.ask(b"held"))
        await eventually(lambda: len(server.requests) == 1)
        contexts.append(client_tls())
        await client.ask(b"a")
        release.set()
        assert await held == b"held"
        assert list(await asyncio.gather(client.ask(b"b"), client.ask(b"c"))) == [b"b", b"c"]
        assert server.connections == 3


# Nobody gets what is another's


class Malicious:
    """Answers each request with its own body, and tries to give it to the next one as well."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 to choose a fault
        self.tried: set[str] = set()

    async def __call__(self, request: Request) -> bool:
        """Answer well, with more than the answer, too late, or not at all."""
        own, again = response(request.body), response(b"stolen " + request.body)
        fault = self._random.choice(("none", "twice", "later", "half", "line", "close", "hints"))
        self.tried.add(fault)
        if fault == "close":
            return False
        await request.send(
            {"twice": own + again, "half": own + again[:20], "line": own + b"\r\n"}.get(fault, own)
        )
        if fault in {"later", "hints"}:
            await asyncio.sleep(0)
            await request.send(again if fault == "later" else b"HTTP/1.1 103 X\r\n\r\n" + again)
        return True


async def exchange_with(answer: Malicious, exchanges: int, tls: ssl.SSLContext | None) -> None:
    """Let two clients exchange at once, and check that each gets its own or nothing."""
    context = client_tls()
    async with Server(answer, tls) as server, Client(server.url, tls=lambda: context) as client:

        async def caller(name: bytes, numbers: range) -> int:
            served = 0
            for number in numbers:
                body = b"%b-%d" % (name, number)
                with suppress(TransportError):
                    assert await client.ask(body) == body
                    served += 1
            return served

        half = range(exchanges // 2)
        served = await asyncio.gather(caller(b"one", half), caller(b"two", half))
    assert min(served) > exchanges // 4
    assert len(answer.tried) == 7


@pytest.mark.parametrize("tls", [None, server_tls()], ids=["plain", "TLS"])
@on_each_loop
async def test_a_malicious_server(tls: ssl.SSLContext | None) -> None:
    """In 300 exchanges with a server that answers twice, nobody gets what is another's."""
    await exchange_with(Malicious(1), 300, tls)


@pytest.mark.soak
@pytest.mark.parametrize(("tls", "times"), [(None, 100), (server_tls(), 20)], ids=["plain", "TLS"])
async def test_a_malicious_server_for_long(tls: ssl.SSLContext | None, times: int) -> None:
    """The same in 100,000 exchanges, and in 20,000 over TLS."""
    for seed in range(times):
        await exchange_with(Malicious(seed), 1000, tls)


@pytest.mark.soak
@pytest.mark.timing("each exchange must be served, whenever the server closes")
async def test_u08_every_moment() -> None:
    """A server that closes idle connections after 0 to 20 ms loses none of 2,000 exchanges."""
    chance = random.Random(1)  # noqa: S311 to choose moments

    async def answer(request: Request) -> bool:
        await echo(request)
        asyncio.get_running_loop().call_later(chance.uniform(0, 0.02), request.writer.close)
        return True

    async with Server(answer) as server, Client(server.url) as client:
        for number in range(2000):
            assert await client.ask(b"%d" % number) == b"%d" % number
            await asyncio.sleep(chance.uniform(0, 0.02))
        assert client.pool.counters.resent > 0
