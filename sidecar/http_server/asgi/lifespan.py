"""The lifespan of an ASGI application: its start before the first request, its stop after the last.

https://asgi.readthedocs.io/en/latest/specs/lifespan.html
"""

import asyncio
from typing import Any

from starlette.types import ASGIApp, Message

# Seconds that an application has to return after it has stopped.
_RETURN = 1.0


class Lifespan:
    """Starts and stops `app`. `state` is filled by the application, and copied to each request."""

    def __init__(self, app: ASGIApp) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._events: asyncio.Queue[Message] = asyncio.Queue()
        self._replies: asyncio.Queue[Message] = asyncio.Queue()
        self._task: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Start the application. Raises RuntimeError, with its cause, if it does not start."""
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}}
        scope["state"] = self.state
        self._task = asyncio.ensure_future(self._app(scope, self._events.get, self._replies.put))
        await self._pass("startup", self._task)

    async def stop(self, limit: float) -> None:
        """Stop the application, once. Raises RuntimeError, with its cause, if it fails.

        It is cancelled, too, if it does not stop within `limit` seconds. If it does not return a
        second after it has stopped, it is cancelled without an error.
        """
        task, self._task = self._task, None
        if task is not None:
            await self._pass("shutdown", task, limit)
            await asyncio.wait((task,), timeout=_RETURN)
            error = task.exception() if task.done() else None
            task.cancel()
            if error is not None:
                raise RuntimeError("the application failed after its shutdown") from error

    async def _pass(
        self, phase: str, task: asyncio.Future[None], limit: float | None = None
    ) -> None:
        """Have the application do `phase`. Raises RuntimeError, with its cause, if it does not."""
        self._events.put_nowait({"type": f"lifespan.{phase}"})
        reply = asyncio.ensure_future(self._replies.get())
        both = (reply, task)
        await asyncio.wait(both, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        if reply.done() and reply.result()["type"] == f"lifespan.{phase}.complete":
            return
        reply.cancel()
        cause = task.exception() if task.done() else None
        task.cancel()
        raise RuntimeError(f"the application did not complete its {phase}") from cause
