"""Tests of both token sources of the Python client against the sidecar."""

import asyncio
import logging
import os
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import suppress

import grpc
import pytest
import pytest_asyncio

from karmo_auth_client import AsyncTokenSource, ExchangeError, Token, TokenSource
from tests.clients.sources import (
    CLIENT_ID,
    KINDS,
    SECRET,
    Client,
    Clock,
    Kind,
    client_of,
    every_kind,
)
from tests.patience import HANG
from tests.upstream import TOKEN, Hold, Upstream, answer
from tests.ways import Deployment

NEW = answer(200, {**TOKEN, "access_token": "new"})
REFUSAL = answer(401, {"error": "invalid_client"})


@pytest.fixture(name="upstream")
def _upstream(deployment: Deployment) -> Upstream:
    return deployment.upstream


@pytest_asyncio.fixture(params=KINDS, name="client")
async def _client(request: pytest.FixtureRequest, deployment: Deployment) -> AsyncIterator[Client]:
    async with client_of(request.param, str(deployment.addresses.grpc)) as client:
        yield client


async def text_of(client: Client) -> str:
    """Return the text of the client's token."""
    return (await client.get()).access_token


async def test_a_token(client: Client, upstream: Upstream) -> None:
    """The token is the one that the auth-api issues for the client's id and secret."""
    token = await client.get()
    assert token == Token("the.access.token", "Bearer", 3600)
    assert token.authorization == "Bearer the.access.token"
    (request,) = upstream.requests
    assert f"client_id={CLIENT_ID}&client_secret={SECRET}".encode() in request


async def test_a_token_is_kept(client: Client, upstream: Upstream) -> None:
    """Until a minute before its end, a token costs no further exchange."""
    first = await client.get()
    upstream.reply = NEW
    client.clock.now += 3539
    assert await client.get() == first
    assert len(upstream.requests) == 1


async def test_a_refresh_delays_nobody(client: Client, upstream: Upstream) -> None:
    """In the last minute the old token is returned at once, while one refresh is in flight."""
    await client.get()
    upstream.reply = NEW
    hold = Hold(NEW)
    upstream.script = hold.script
    client.clock.now += 3540
    assert [await text_of(client) for _ in range(3)] == ["the.access.token"] * 3
    await hold.wait_for(1)
    client.clock.now += 54  # the old one is not usable any more
    waiting = asyncio.create_task(text_of(client))
    hold.release.set()
    assert await waiting == "new"
    assert len(upstream.requests) == 2


async def test_one_exchange_for_all_who_wait(client: Client, upstream: Upstream) -> None:
    """Callers that ask at the same time wait for the same exchange."""
    hold = Hold()
    upstream.script = hold.script
    waiting = [asyncio.create_task(client.get()) for _ in range(5)]
    await hold.wait_for(1)
    hold.release.set()
    assert {token.access_token for token in await asyncio.gather(*waiting)} == {"the.access.token"}
    assert len(upstream.requests) == 1


async def test_one_failure_for_all_who_wait(client: Client, upstream: Upstream) -> None:
    """If the exchange fails, each caller gets an exception of its own."""
    hold = Hold(REFUSAL)
    upstream.script = hold.script
    waiting = [asyncio.create_task(client.get()) for _ in range(3)]
    await hold.wait_for(1)
    hold.release.set()
    errors = await asyncio.gather(*waiting, return_exceptions=True)
    assert len({id(error) for error in errors}) == 3
    assert {getattr(error, "reason", error) for error in errors} == {"INVALID_CLIENT"}


async def test_a_failed_refresh_harms_nobody(
    client: Client, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    """While the kept token is valid, a failed refresh is logged, and tried again after a pause."""
    await client.get()
    upstream.reply = REFUSAL
    client.clock.now += 3540
    with caplog.at_level(logging.WARNING, "karmo_auth_client"):
        async with asyncio.timeout(HANG):
            while not caplog.records:
                assert await text_of(client) == "the.access.token"
                await asyncio.sleep(0)
    assert "the kept one is used for 54 s more: UNAUTHENTICATED INVALID_CLIENT" in caplog.text
    client.clock.now += 5.9
    assert await text_of(client) == "the.access.token"
    assert len(upstream.requests) == 2
    hold = Hold(NEW)
    upstream.script = hold.script
    client.clock.now += 0.1
    assert await text_of(client) == "the.access.token"
    await hold.wait_for(1)
    hold.release.set()


class Warnings(logging.Handler):
    """A handler of `logging` for which a task can wait."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self.came = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:  # noqa: ARG002 any record
        """Set `came`."""
        self._loop.call_soon_threadsafe(self.came.set)


async def test_a_pause_counts_from_the_failure(client: Client, upstream: Upstream) -> None:
    """A failed refresh is logged when it fails, and its pause begins then: nobody need ask."""
    await client.get()
    upstream.reply = REFUSAL
    client.clock.now += 3540
    warnings, logger = Warnings(), logging.getLogger("karmo_auth_client")
    logger.addHandler(warnings)
    try:
        await client.get()
        await asyncio.wait_for(warnings.came.wait(), HANG)
    finally:
        logger.removeHandler(warnings)
    hold = Hold(NEW)
    upstream.script = hold.script
    client.clock.now += 6
    await client.get()
    await hold.wait_for(1)
    hold.release.set()


async def begin_refresh(client: Client, upstream: Upstream) -> Hold:
    """Begin a refresh with a kept token, and return what holds it."""
    await client.get()
    hold = Hold(NEW)
    upstream.script = hold.script
    client.clock.now += 3540
    await client.get()
    return hold


async def test_close_during_a_refresh_logs_nothing(
    client: Client, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    """To close a source while it refreshes a token is no failure of the refresh."""
    hold = await begin_refresh(client, upstream)
    await hold.wait_for(1)
    refresh = client.source._refresh
    with caplog.at_level(logging.WARNING, "karmo_auth_client"):
        await client.close()
        if isinstance(refresh, asyncio.Task):
            await asyncio.wait([refresh])
        else:
            assert refresh is not None
            ended = threading.Event()
            refresh.call.add_done_callback(lambda _: ended.set())  # after that of the source
            assert await asyncio.to_thread(ended.wait, HANG)
    hold.release.set()
    assert caplog.records == []


@pytest.mark.parametrize("runs", [True, False], ids=["running", "not begun"])
async def test_a_cancelled_refresh(
    deployment: Deployment, caplog: pytest.LogCaptureFixture, *, runs: bool
) -> None:
    """If a loop cancels all tasks, nothing is logged, and a later `get` tries anew."""
    async with client_of(AsyncTokenSource, str(deployment.addresses.grpc)) as client:
        hold = await begin_refresh(client, deployment.upstream)
        if runs:
            await hold.wait_for(1)
        hold.release.set()
        refresh = client.source._refresh
        assert isinstance(refresh, asyncio.Task)
        with caplog.at_level(logging.WARNING, "karmo_auth_client"):
            refresh.cancel()
            await asyncio.wait([refresh])
        client.clock.now += 54
        assert await text_of(client) == "new"
    assert caplog.records == []


class FailingClock(Clock):
    """A clock that raises once, after `left` more readings."""

    left = -1  # never

    def __call__(self) -> float:
        """Return the seconds, or raise ZeroDivisionError."""
        self.left -= 1
        if self.left == -1:
            raise ZeroDivisionError
        return self.now


@every_kind
async def test_whatever_a_refresh_raises(kind: Kind, deployment: Deployment) -> None:
    """After any exception at the end of an exchange, the next `get` tries anew."""
    clock = FailingClock()
    async with client_of(kind, str(deployment.addresses.grpc), clock=clock) as client:
        clock.left = 1  # the second reading is at the end of the exchange
        with suppress(ZeroDivisionError):  # or gRPC's thread has it
            await client.get()
        assert clock.left < 0
        assert await text_of(client) == "the.access.token"
    assert len(deployment.upstream.requests) == 2


async def test_an_expired_token_is_never_returned(client: Client, upstream: Upstream) -> None:
    """In its last six seconds a token is not returned: the failure is raised instead."""
    await client.get()
    upstream.reply = REFUSAL
    client.clock.now += 3594
    with pytest.raises(ExchangeError, match="UNAUTHENTICATED INVALID_CLIENT 40120001"):
        await client.get()
    upstream.reply = NEW
    assert await text_of(client) == "new"


async def test_a_token_of_a_short_life(client: Client, upstream: Upstream) -> None:
    """A token of 30 s is kept for 24 s."""
    upstream.reply = answer(200, {**TOKEN, "expires_in": 30})
    await client.get()
    client.clock.now += 23
    await client.get()
    assert len(upstream.requests) == 1
    client.clock.now += 6.5
    await client.get()
    assert len(upstream.requests) == 2


async def test_a_cancelled_caller_cancels_nothing(deployment: Deployment) -> None:
    """If one of two waiting tasks is cancelled, the other gets the token of that exchange."""
    hold = Hold()
    deployment.upstream.script = hold.script
    async with client_of(AsyncTokenSource, str(deployment.addresses.grpc)) as client:
        leaving, staying = (asyncio.create_task(client.get()) for _ in range(2))
        await hold.wait_for(1)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        hold.release.set()
        assert (await staying).access_token == "the.access.token"
    assert len(deployment.upstream.requests) == 1


async def test_the_sidecar_asks_for_a_pause(client: Client, upstream: Upstream) -> None:
    """If the auth-api is unavailable, gRPC itself tries again after the delay of the sidecar."""
    replies = iter([answer(503), answer(200, TOKEN)])

    async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(next(replies))
        await writer.drain()

    upstream.script = script
    assert await text_of(client) == "the.access.token"
    assert len(upstream.requests) == 2


@pytest.mark.timing("it must pass, and the test waits for it as long as it takes")
@every_kind
async def test_a_timeout(kind: Kind) -> None:
    """After `timeout` seconds the exchange fails, even if the service says nothing at all."""
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel accepts the connection
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        async with client_of(kind, address, timeout=0.05) as client:
            with pytest.raises(ExchangeError) as failure:
                await client.get()
    assert failure.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert failure.value.karmo_code is None


async def test_close_ends_the_wait(client: Client, upstream: Upstream) -> None:
    """A caller that waits while the source is closed gets an error, and later ones another."""
    hold = Hold()
    upstream.script = hold.script
    waiting = asyncio.create_task(client.get())
    await hold.wait_for(1)
    await client.close()
    with pytest.raises(ExchangeError) as failure:
        await waiting
    hold.release.set()
    assert failure.value.code is grpc.StatusCode.CANCELLED
    with pytest.raises(RuntimeError, match="closed"):
        await client.get()


def test_close_between_check_and_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A `get` that another thread's `close` overtakes does not connect again."""
    source = TokenSource("localhost:1", CLIENT_ID, SECRET, plaintext=True, timeout=HANG)
    closing = iter([source.close])
    process = os.getpid()

    def getpid() -> int:  # `get` calls it before it takes the lock
        for close in closing:
            close()
        return process

    monkeypatch.setattr(os, "getpid", getpid)
    with pytest.raises(RuntimeError, match="closed"):
        source.get()
    assert source._is_closed
    assert source._channel is None


async def test_context_managers(deployment: Deployment) -> None:
    """`with` and `async with` close a source at their end."""
    address = str(deployment.addresses.grpc)
    async with AsyncTokenSource(address, CLIENT_ID, SECRET, plaintext=True) as tokens:
        assert (await tokens.get()).token_type == "Bearer"
    with pytest.raises(RuntimeError, match="closed"):
        await tokens.get()

    def blocking() -> None:
        with TokenSource(address, CLIENT_ID, SECRET, plaintext=True) as tokens:
            assert tokens.get().token_type == "Bearer"
        with pytest.raises(RuntimeError, match="closed"):
            tokens.get()

    await asyncio.to_thread(blocking)


async def test_another_loop_is_refused(deployment: Deployment) -> None:
    """A source for asyncio that one loop used cannot be used in another."""
    async with client_of(AsyncTokenSource, str(deployment.addresses.grpc)) as client:
        await client.get()
        with pytest.raises(RuntimeError, match="event loop that used it first"):
            await asyncio.to_thread(asyncio.run, client.get())
