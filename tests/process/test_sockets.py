"""Tests of listening sockets."""

import os
import socket
import sys
from contextlib import ExitStack

import pytest

from sidecar.process.sockets import listen, open_all
from sidecar.settings.types import Address
from tests.faults.wire import ipv6_works
from tests.sidecar_process import find_tool, go_without, run

# In a network of its own, where sockets of IPv6 are without IPv4 by default.
ALONE = 'echo 1 > /proc/sys/net/ipv6/bindv6only && exec "$0" -c "$1"'
LISTENS = """
import socket
from sidecar.process.sockets import listen
from sidecar.settings.types import Address

plain = socket.socket(socket.AF_INET6)
for bound in (plain, listen(Address("::", 0))):
    print(bound.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))
"""


async def test_all_addresses_are_those_of_ipv4_too() -> None:
    """[::] means IPv6 and IPv4, as it does for gRPC, even if the system's default differs."""
    if os.geteuid():
        go_without("only root can make a network")
    unshare = (find_tool("unshare"), "--net", "bash", "-c")
    end = await run(*unshare, ALONE, sys.executable, LISTENS)
    assert (end.stdout.split(), end.stderr) == (["1", "0"], "")


class Taken:
    """Opens sockets as `listen` does, but finds the port of ::1 in use so many times."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.opened: list[socket.socket] = []

    def open(self, address: Address) -> socket.socket:
        """Return a listening socket. Raises OSError."""
        if address.host == "::1" and self.times:
            self.times -= 1
            raise OSError("in use")
        self.opened.append(listen(address))
        return self.opened[-1]


def are_open(sockets: list[socket.socket]) -> list[bool]:
    """Return for each socket whether it is open."""
    return [each.fileno() >= 0 for each in sockets]


@pytest.mark.skipif(not ipv6_works(), reason="no IPv6 here")
def test_a_free_port_is_free_at_each_address() -> None:
    """If the port of one address is in use at another, others are tried; the rest is closed."""
    taken = Taken(times=3)
    with ExitStack() as stack:
        bound = open_all(stack, Address("localhost", 0), taken.open)
        assert are_open(taken.opened) == [False, False, False, True, True]
        assert list(bound.sockets) == taken.opened[-2:]
        assert len({address.port for address in bound.endpoint.addresses}) == 1
        assert bound.endpoint.connectable == Address("localhost", bound.endpoint.addresses[0].port)
    assert not any(are_open(taken.opened))


@pytest.mark.skipif(not ipv6_works(), reason="no IPv6 here")
@pytest.mark.parametrize(("port", "trials"), [("any", 10), ("one", 1)])
def test_trials_end(port: str, trials: int) -> None:
    """Ten ports are tried where any will do, one where the setting names it; all are closed."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = 0 if port == "any" else server.getsockname()[1]
    taken = Taken(times=100)
    with ExitStack() as stack, pytest.raises(OSError, match="in use"):
        open_all(stack, Address("localhost", number), taken.open)
    assert are_open(taken.opened) == [False] * trials
