"""The lifespan of applications: those that start, and those that do not."""

import asyncio

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sidecar.http_server.asgi.lifespan import Lifespan

GRACE = 20.0


async def test_an_application_lives_once() -> None:
    """It is started, keeps a state for its requests, and is stopped, once."""
    events: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["kept"] = True
        for phase in ("startup", "shutdown"):
            events.append((await receive())["type"])
            await send({"type": f"lifespan.{phase}.complete"})

    lifespan = Lifespan(app)
    await lifespan.start()
    assert (events, lifespan.state) == (["lifespan.startup"], {"kept": True})
    await lifespan.stop(GRACE)
    await lifespan.stop(GRACE)
    assert events == ["lifespan.startup", "lifespan.shutdown"]


async def test_an_application_that_never_started_is_not_stopped() -> None:
    """A listener that could not start is stopped like any other."""

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise AssertionError("called")

    lifespan = Lifespan(app)
    await lifespan.stop(GRACE)
    assert lifespan.state == {}


@pytest.mark.parametrize("phase", ["startup", "shutdown"])
async def test_an_application_that_says_that_it_failed(phase: str) -> None:
    """It is told by the phase, without the message of the application."""

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        message: Message = {"type": ""}
        while message["type"] != "lifespan.shutdown":
            message = await receive()
            outcome = "failed" if message["type"] == f"lifespan.{phase}" else "complete"
            await send({"type": f"{message['type']}.{outcome}", "message": "canary"})

    with pytest.raises(RuntimeError, match=f"^the application did not complete its {phase}$"):
        await live(app)


@pytest.mark.parametrize("phase", ["startup", "shutdown"])
async def test_an_application_that_raises(phase: str) -> None:
    """The exception is the cause."""
    error = LookupError("canary")

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != f"lifespan.{phase}":
            await send({"type": "lifespan.startup.complete"})
        raise error

    with pytest.raises(RuntimeError, match=phase) as caught:
        await live(app)
    assert caught.value.__cause__ is error


async def test_an_application_that_stays() -> None:
    """One that has stopped and does not return is cancelled, which nobody waits for long."""
    left = asyncio.Event()

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        for phase in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{phase}.complete"})
        try:
            await asyncio.Event().wait()
        finally:
            left.set()

    await live(app)
    await left.wait()


async def test_an_application_that_raises_after_its_end() -> None:
    """A failure behind the last reply is told like any other."""

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        for phase in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{phase}.complete"})
        raise LookupError("canary")

    with pytest.raises(RuntimeError, match="failed after its shutdown"):
        await live(app)


async def test_an_application_that_does_not_stop() -> None:
    """It is cancelled at the limit."""
    is_cancelled = asyncio.Event()

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        try:
            await asyncio.Event().wait()
        finally:
            is_cancelled.set()

    lifespan = Lifespan(app)
    await lifespan.start()
    with pytest.raises(RuntimeError, match="did not complete its shutdown"):
        await lifespan.stop(0.0)
    await is_cancelled.wait()


async def live(app: ASGIApp) -> None:
    """Start and stop an application."""
    lifespan = Lifespan(app)
    await lifespan.start()
    await lifespan.stop(GRACE)
