"""The address of a client: that of its socket, or what trusted proxies tell of it."""

import ipaddress
import re
from collections.abc import Sequence

# With the port that some proxies add.
_WITH_PORT = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]+)?|([0-9.]+):[0-9]+")


def find(peer: str, forwarded: Sequence[str], *, trusted: int) -> str:
    """Return the IP address of the client whose connection comes from `peer`.

    `forwarded` are the values of X-Forwarded-For in their order, to which each proxy
    adds the address that it was called from. Of the last `trusted` proxies that is
    believed; what stands before them anybody may have written. Where one of them
    added none, or no address, the peer is all that is known.
    """
    told = [part.strip() for value in forwarded for part in value.split(",")]
    if not trusted or len(told) < trusted:
        return peer
    return _parse(told[-trusted]) or peer


def network_of(address: str) -> str:
    """Return what of `address` one client cannot choose freely: of IPv6, its /64.

    What is no IP address is returned as it is.
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
    found = _WITH_PORT.fullmatch(text)
    if "%" in text:
        return None  # a zone (RFC 4007 section 11) is any text, and means nothing elsewhere
    try:
        return str(ipaddress.ip_address((found[1] or found[2]) if found else text))
    except ValueError:
        return None
