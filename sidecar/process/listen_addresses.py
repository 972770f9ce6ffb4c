"""The IP addresses that a listen address stands for, the same for every listener."""

import socket

from sidecar.settings.addresses import UnixAddress
from sidecar.settings.types import Address, find_ip

_ALL, _ALL_IPV4 = "::", "0.0.0.0"  # noqa: S104 an operator chooses it
_LOOPBACK, _LOOPBACK_IPV4 = "::1", "127.0.0.1"


def resolve(address: Address) -> tuple[Address, ...]:
    """Return the addresses to listen on for `address`, each with its port. Raises OSError.

    * An IP address and a Unix socket are themselves.
    * `::` is all IPv6 and IPv4 addresses. On a machine without IPv6 it is `0.0.0.0`.
    * `localhost` is the loopback addresses of the machine (RFC 6761 section 6.3), IPv4 first.
    * Any other name is all of its IP addresses, without IPv6 on a machine without it.
    """
    if isinstance(address, UnixAddress):
        return (address,)
    return tuple(Address(host, address.port) for host in _hosts(address))


def _hosts(address: Address) -> tuple[str, ...]:
    host = address.host
    if host == _ALL:
        return (_ALL if has_ipv6() else _ALL_IPV4,)
    if host == "localhost":
        return (_LOOPBACK_IPV4, _LOOPBACK) if has_ipv6() else (_LOOPBACK_IPV4,)
    return _look_up(address) if find_ip(host) is None else (host,)


def _look_up(address: Address) -> tuple[str, ...]:
    try:
        found = socket.getaddrinfo(address.host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise OSError(f"cannot listen on {address}: {error.strerror}") from None
    usable = {socket.AF_INET, socket.AF_INET6} if has_ipv6() else {socket.AF_INET}
    hosts = tuple(dict.fromkeys(str(to[0]) for family, *_, to in found if family in usable))
    if not hosts:
        raise OSError(f"cannot listen on {address}: the name has no address of this machine")
    return hosts


def has_ipv6() -> bool:
    """Return whether the machine has IPv6: its kernel knows it, and its loopback address is set."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind((_LOOPBACK, 0))
    except OSError:
        return False
    return True
