"""Client IP address: that of the connection, or one that a trusted proxy reports.

A connection over a Unix socket has no IP address: UNIX_PEER stands for it.
"""

import ipaddress
import re
import socket
from collections.abc import Sequence

UNIX_PEER = "unix"
# An address with the port that some proxies add.
_WITH_PORT = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]+)?|([0-9.]+):[0-9]+")

# Prefix of the IPv4 addresses in IPv6 (RFC 4291 section 2.5.5.2).
_MAPPED = bytes(10) + b"\xff\xff"


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

    For IPv6 this is the /64 network, without a zone id; for IPv4, also if it is mapped to IPv6,
    the address. Text that is not an IP address is returned unchanged.
    """
    if ":" not in address:
        return address
    try:
        packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    except (OSError, ValueError):
        return address
    if packed.startswith(_MAPPED):
        return socket.inet_ntop(socket.AF_INET, packed[len(_MAPPED) :])
    return socket.inet_ntop(socket.AF_INET6, packed[:8] + bytes(8)) + "/64"


def _parse(text: str) -> str | None:
    match = _WITH_PORT.fullmatch(text)
    if "%" in text:
        return None  # a zone id (RFC 4007 section 11) is any text, valid on its own host only
    try:
        return str(ipaddress.ip_address((match[1] or match[2]) if match else text))
    except ValueError:
        return None
