"""Raw-socket auth-api: it answers with any bytes that a test scripts."""

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Self

from sidecar.auth_api.client import Timeouts

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

TOKEN: Mapping[str, object] = {
    "access_token": "the.access.token",
    "token_type": "Bearer",
    "expires_in": 3600,
}


def within(seconds: float) -> Timeouts:
    """Return timeouts of a client of which only the total can expire."""
    return Timeouts(connect=seconds, one_try=seconds, total=seconds)


def answer(
    status: int,
    body: object = b"",
    content_type: str | None = "application/json",
    **headers: str,
) -> bytes:
    """Return a complete HTTP response; a `body` that is not bytes is sent as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {"Content-Length": str(len(data)), "Connection": "close"}
    if content_type is not None:
        fields["Content-Type"] = content_type
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} Status\r\n{head}\r\n".encode() + data


class Upstream:
    """An auth-api that listens inside its context, with TLS if `tls` is set.

    `requests` holds the requests that it received, head and body.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.requests: list[bytes] = []
        self.gone = asyncio.Event()
        self.received = asyncio.Event()
        self.script: Script = self._send_reply
        self.reset()

    def reset(self) -> None:
        """Forget all requests, and answer with a token from now on."""
        self.requests.clear()
        self.gone.clear()
        self.received.clear()
        self.reply = answer(200, TOKEN)
        self.script = self._send_reply

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        port = self._server.sockets[0].getsockname()[1]
        scheme = "https" if self._tls else "http"
        self.url = f"{scheme}://127.0.0.1:{port}/v1/oauth/token"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def hang(self, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        """Script that never answers, and sets `gone` when the client closes the connection."""
        await reader.read()
        self.gone.set()

    async def _send_reply(
        self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(self.reply)
        await writer.drain()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.requests.append(await read_request(reader))
            self.received.set()
            await self.script(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client left; its request, if complete, is in `requests`
        finally:
            writer.close()


class Hold:
    """Script of the upstream that answers no request before `release` is set."""

    def __init__(self, reply: bytes | None = None) -> None:
        self._reply = answer(200, TOKEN) if reply is None else reply
        self.release = asyncio.Event()
        self._held = asyncio.Semaphore(0)

    async def script(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Count the request as held, wait for `release`, and answer: with a token, by default."""
        self._held.release()
        await self.release.wait()
        writer.write(self._reply)
        await writer.drain()

    async def wait_for(self, requests: int) -> None:
        """Wait until `requests` more requests are held."""
        async with asyncio.timeout(30):
            for _ in range(requests):
                await self._held.acquire()


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """Return the next request, head and body. Raises IncompleteReadError if there is none."""
    head = await reader.readuntil(b"\r\n\r\n")
    return head + await reader.readexactly(_content_length(head))


def _content_length(head: bytes) -> int:
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
    return int(fields.get(b"content-length", 0))
