"""An auth-api that answers each request with one token: `python -m benchmarks.auth_api SECONDS`.

It delays each answer by SECONDS, keeps its connections and prints where it listens.
It runs in a process of its own, so that the load does not delay it.
"""

import asyncio
import json
import sys
from typing import cast

import uvloop

from tests.upstream import TOKEN

_BODY = json.dumps(TOKEN).encode()
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
    len(_BODY),
    _BODY,
)


class Connection(asyncio.Protocol):
    """Answers each request. A request comes alone, in one piece or more."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)
        self._seen = b""

    def data_received(self, data: bytes) -> None:
        """Answer once the form is there."""
        self._seen += data
        if b"grant_type=" in self._seen:
            self._seen = b""
            self._answer_in_time()

    def _answer_in_time(self) -> None:
        if self._seconds:
            asyncio.get_running_loop().call_later(self._seconds, self._answer)
        else:
            self._answer()

    def _answer(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(ANSWER)


async def serve(seconds: float) -> None:
    """Serve until killed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(seconds), "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    print(f"listening on {host}:{port}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(float(sys.argv[1])))
