"""Tests of listening sockets."""

import os
import sys

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
