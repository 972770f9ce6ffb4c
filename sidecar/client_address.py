"""Client IP address: that of the connection, or one that a trusted proxy reports.

A connection over a Unix socket has no IP address: UNIX_PEER stands for it.
"""

import ipaddress
import re
from collections.abc import Sequence

UNIX_PEER = "unix"
# An address with the port that some proxies add.
_WITH_PORT = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]+)?|([0-9.]+):[0-9]+")


def find(peer: str, forwarded: Sequence[str], *, trusted: int) -> str:
    """Return the IP address of the client whose request came over a connection from `peer`.

    `forwarded` holds the values of X-Forwarded-For in order. Each proxy appends the address
    of its own client. Only the entries of the last `trusted` proxies are believed, because a
    client can forge the ones before. Returns `peer` if there are fewer than `trusted` entries,
    or if the first believed one is not an IP address.
    """
    entries = [part.strip() for value in forwarded for part in value.split(",")]
    if not trusted or len(entries) < trusted:
        return peer
    return _parse(entries[-trusted]) or peer


def network_of(address: str) -> str:
    """Return the part of `address` that a client cannot choose freely, for limits by address.

    For IPv6 this is the /64 network, for IPv4 the address. Text that is not an IP address is
    returned unchanged.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed), 64), strict=False))


def _parse(text: str) -> str | None:
    match = _WITH_PORT.fullmatch(text)
    if "%" in text:
        return None  # a zone id (RFC 4007 section 11) is any text, valid on its own host only
    try:
        return str(ipaddress.ip_address((match[1] or match[2]) if match else text))
    except ValueError:
        return None
