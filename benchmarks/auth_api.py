"""An auth-api that answers each request with one token: `python -m benchmarks.auth_api SECONDS`.

It takes so many seconds for an answer, runs in a process of its own so as not to wait
for the load, and prints where it listens.
"""

import asyncio
import sys
from typing import cast

import uvloop

from tests.upstream import TOKEN, answer


class Connection(asyncio.Protocol):
    """Answers whatever it receives, which is one request in one piece or two."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)
        self._seen = b""

    def data_received(self, data: bytes) -> None:
        """Answer, in time, once the form has come."""
        self._seen += data
        if b"grant_type=" in self._seen:
            self._seen = b""
            asyncio.get_running_loop().call_later(self._seconds, self._answer)

    def _answer(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer(200, TOKEN))


async def serve(seconds: float) -> None:
    """Serve until killed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(seconds), "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    print(f"listening on {host}:{port}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(float(sys.argv[1])))
