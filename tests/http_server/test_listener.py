"""The end of an HTTP listener: what the system has accepted for it is served."""

import socket
from collections.abc import Sequence
from pathlib import Path

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

    def __init__(self, bound: Sequence[socket.socket]) -> None:
        self._bound = bound
        self.sockets: list[socket.socket] = []

    def connect(self) -> None:
        """Connect ten times to each socket, and send a request by each connection."""
        for bound in 10 * tuple(self._bound):
            client = socket.socket(bound.family)
            client.settimeout(GUARD)
            client.connect(bound.getsockname())
            client.sendall(REQUEST)
            self.sockets.append(client)

    def statuses(self) -> list[bytes]:
        """Return the first lines of the answers. Raises OSError for a connection that was reset."""
        return [client.makefile("rb").readline() for client in self.sockets]

    def close(self) -> None:
        """Hang up."""
        for client in self.sockets:
            client.close()


async def assert_late_are_served(bound: Sequence[socket.socket]) -> None:
    """Check that a listener on `bound` serves connections which come as it closes."""
    late = Late(bound)
    listener = HttpListener(Starlette(routes=[Route("/", serve)]), *bound, grace=GUARD)
    await listener.start()
    try:
        late.connect()  # the next step, in the same turn of the loop, closes the listener
        await listener.stop()
        assert late.statuses() == [b"HTTP/1.1 200 OK\r\n"] * 10 * len(bound)
        assert [each.fileno() for each in bound] == [-1] * len(bound)
    finally:
        late.close()


@pytest.mark.timing("the clients have sent all, and read what the system keeps for them")
@on_each_loop
async def test_late_connections_are_served() -> None:
    """Who is in the backlog when the listener closes gets an answer, not a reset."""
    await assert_late_are_served([sockets.listen(Address("127.0.0.1", 0)) for _ in range(2)])


@pytest.mark.timing("as above")
@on_each_loop
async def test_late_connections_of_a_unix_socket_are_served(tmp_path: Path) -> None:
    """A Unix socket, too, answers who is in its backlog."""
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(str(tmp_path / "r.sock"))
    bound.listen()
    await assert_late_are_served([bound])
