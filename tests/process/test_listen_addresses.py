"""Tests of what a listen address stands for, with and without IPv6."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from sidecar.process.listen_addresses import has_ipv6, resolve
from sidecar.settings.addresses import UnixAddress
from sidecar.settings.types import Address
from tests.faults.namespaces import enter
from tests.faults.wire import ipv6_works
from tests.sidecar_process import run

pytestmark = pytest.mark.usefixtures("measured")

# In a namespace with its own names, without DNS.
NAMES = """
mount --bind "$1/hosts" /etc/hosts
mount --bind "$1/resolv.conf" /etc/resolv.conf
shift
"""
WITHOUT_IPV6 = "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6"
ALL, ALL_IPV4 = "::", "0.0.0.0"  # noqa: S104 these are what is tested
HOSTS = """\
127.0.0.1 localhost
127.0.0.5 both.test
::1 both.test
::1 six.test
"""
RESOLVE = """
import sys
from sidecar.process.listen_addresses import resolve
from sidecar.settings.types import Address

for host in sys.argv[1:]:
    try:
        print(*resolve(Address(host, 80)))
    except OSError as error:
        print(error)
"""


@pytest.mark.parametrize(
    "address",
    [Address("127.0.0.1", 1), Address(ALL_IPV4, 1), Address("::1", 1), UnixAddress("/a")],
)
def test_one_address(address: Address) -> None:
    """An IP address and a Unix socket are themselves; 0.0.0.0 stays IPv4."""
    assert resolve(address) == (address,)


def test_addresses_of_this_machine() -> None:
    """`[::]` and `localhost` have IPv6 where the machine has it, and keep the port."""
    assert has_ipv6() is ipv6_works()
    loopback, every = resolve(Address("localhost", 7)), resolve(Address(ALL, 7))
    if ipv6_works():
        assert (loopback, every) == (
            (Address("127.0.0.1", 7), Address("::1", 7)),
            (Address(ALL, 7),),
        )
    else:
        assert (loopback, every) == ((Address("127.0.0.1", 7),), (Address(ALL_IPV4, 7),))


async def resolved(folder: Path, script: str, *hosts: str) -> Sequence[str]:
    """Return what each of `hosts` stands for in a namespace that `script` has changed."""
    (folder / "hosts").write_text(HOSTS)
    (folder / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    prefix = await enter(f"{NAMES}{script}", folder)
    end = await run(*prefix, sys.executable, "-c", RESOLVE, *hosts)
    assert (end.status, end.stderr) == (0, "")
    return end.stdout.splitlines()


async def test_names(tmp_path: Path) -> None:
    """A name is all of its IP addresses; one without any names the address that was asked for."""
    both, missing = await resolved(tmp_path, "", "both.test", "missing.test")
    assert set(both.split()) == {"127.0.0.5:80", "[::1]:80"}
    assert missing.startswith("cannot listen on missing.test:80: ")


async def test_a_machine_without_ipv6(tmp_path: Path) -> None:
    """Without IPv6, every address that has IPv4 stands for that alone."""
    hosts = ("localhost", ALL, ALL_IPV4, "both.test", "six.test")
    assert await resolved(tmp_path, WITHOUT_IPV6, *hosts) == [
        "127.0.0.1:80",
        "0.0.0.0:80",
        "0.0.0.0:80",
        "127.0.0.5:80",
        "cannot listen on six.test:80: the name has no address of this machine",
    ]
