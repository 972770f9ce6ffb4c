"""The end of an HTTP listener: what the system has accepted for it is served."""

import socket

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from sidecar.http_server.listener import HttpListener
from sidecar.process import sockets
from sidecar.settings.types import Address
from tests.loops import on_each_loop

REQUEST = b"GET / HTTP/1.1\r\nHost: sidecar.test\r\n\r\n"
GUARD = 20  # seconds


async def serve(_request: Request) -> Response:
    """Answer."""
    return PlainTextResponse("served")


class Late:
    """Clients that connect in the last moment, when the loop has no more turn before the end."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self.sockets: list[socket.socket] = []

    def connect(self) -> None:
        """Connect ten times, and send a request by each."""
        for _number in range(10):
            client = socket.create_connection((self._address.host, self._address.port), GUARD)
            client.sendall(REQUEST)
            self.sockets.append(client)

    def statuses(self) -> list[bytes]:
        """Return the first lines of the answers. Raises OSError for a connection that was reset."""
        return [client.makefile("rb").readline() for client in self.sockets]

    def close(self) -> None:
        """Hang up."""
        for client in self.sockets:
            client.close()


@pytest.mark.timing("the clients have sent all, and read what the system keeps for them")
@on_each_loop
async def test_late_connections_are_served() -> None:
    """Who is in the backlog when the listener closes gets an answer, not a reset."""
    bound = sockets.listen(Address("127.0.0.1", 0))
    late = Late(sockets.address_of(bound))
    listener = HttpListener(Starlette(routes=[Route("/", serve)]), bound, grace=GUARD)
    await listener.start()
    try:
        late.connect()  # the next step, in the same turn of the loop, closes the listener
        await listener.stop()
        assert late.statuses() == [b"HTTP/1.1 200 OK\r\n"] * 10
    finally:
        late.close()
