"""An ASGI server of one request at a time: what it tells an application, and what it is told."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Scope

# How long an application may take before the test fails, in seconds.
GUARD = 20


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What an application answered, and what it left in the scope."""

    status: int
    headers: dict[str, str]
    body: bytes
    scope: Scope


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One request. `chunks` is what is sent of its body; without any the client keeps silent."""

    method: str = "POST"
    path: str = "/v1/shelves"
    query: bytes = b""
    headers: Sequence[tuple[str, str | bytes]] = ()
    chunks: Sequence[bytes] = (b"",)
    is_complete: bool = True

    async def run(self, app: ASGIApp) -> Answer:
        """Send it to `app` and return the answer, of which there must be one."""
        wire = Wire(self)
        await wire.serve(app)
        return wire.answer


class Wire:
    """One request on its way. `scope` may be changed before it is served."""

    def __init__(self, exchange: Exchange) -> None:
        self.scope: dict[str, Any] = _scope(exchange)
        self.sent: list[Message] = []
        self.abandoned = asyncio.Event()
        self._gone = asyncio.Event()
        count = len(exchange.chunks)
        self._messages: list[Message] = [
            {
                "type": "http.request",
                "body": chunk,
                "more_body": number < count or not exchange.is_complete,
            }
            for number, chunk in enumerate(exchange.chunks, 1)
        ]

    @property
    def unread(self) -> int:
        """How many parts of the body the application has not read."""
        return len(self._messages)

    @property
    def answer(self) -> Answer:
        """What was answered."""
        start, *parts = self.sent
        return Answer(
            status=start["status"],
            headers={name.decode(): value.decode() for name, value in start["headers"]},
            body=b"".join(part["body"] for part in parts),
            scope=self.scope,
        )

    async def serve(self, app: ASGIApp) -> None:
        """Let `app` answer, or leave."""
        async with asyncio.timeout(GUARD):
            await app(self.scope, self._receive, self._send)

    def disconnect(self) -> None:
        """Let the client go away, after what it has sent."""
        self._gone.set()

    async def _receive(self) -> Message:
        """Give the next part of the body; after the last, wait for the client to go away.

        Who stops waiting has `abandoned` the client.
        """
        if self._messages:
            return self._messages.pop(0)
        try:
            await self._gone.wait()
        except asyncio.CancelledError:
            self.abandoned.set()
            raise
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        self.sent.append(message)


def _scope(exchange: Exchange) -> dict[str, Any]:
    fields = [
        (name.lower().encode(), value if isinstance(value, bytes) else value.encode())
        for name, value in exchange.headers
    ]
    return {
        "type": "http",
        "http_version": "1.1",
        "method": exchange.method,
        "scheme": "http",
        "path": exchange.path,
        "raw_path": exchange.path.encode(),
        "query_string": exchange.query,
        "headers": fields,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }


def with_body(body: bytes, content_type: str = "application/json", **members: Any) -> Exchange:
    """Return a request with a body whose length is told."""
    headers = [("Content-Type", content_type), ("Content-Length", str(len(body)))]
    return Exchange(headers=[*headers, *members.pop("headers", ())], chunks=(body,), **members)


def in_chunks(*chunks: bytes, content_type: str = "application/json") -> Exchange:
    """Return a request with a body whose length nobody knows."""
    headers = [("Content-Type", content_type), ("Transfer-Encoding", "chunked")]
    return Exchange(headers=headers, chunks=chunks)
