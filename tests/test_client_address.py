"""Tests of the client address: the socket's peer, and how far proxies are believed."""

from collections.abc import Sequence

import pytest

from sidecar.client_address import find, network_of

PEER = "192.0.2.1"


@pytest.mark.parametrize(
    ("forwarded", "trusted", "address"),
    [
        ([], 0, PEER),
        (["198.51.100.1"], 0, PEER),  # a client can forge it
        (["198.51.100.1"], 1, "198.51.100.1"),
        (["203.0.113.9, 198.51.100.1"], 1, "198.51.100.1"),
        (["203.0.113.9, 198.51.100.1"], 2, "203.0.113.9"),
        (["203.0.113.9", "198.51.100.1"], 2, "203.0.113.9"),
        (["forged, 203.0.113.9", "198.51.100.1"], 2, "203.0.113.9"),
        ([" 203.0.113.9 ,\t198.51.100.1 "], 2, "203.0.113.9"),
        (["198.51.100.1"], 2, PEER),  # fewer entries than trusted proxies
        ([], 1, PEER),
        (["unknown"], 1, PEER),
        ([""], 1, PEER),
        (["_hidden"], 1, PEER),
        (["198.51.100.1:4711"], 1, "198.51.100.1"),
        (["2001:db8::1"], 1, "2001:db8::1"),
        (["[2001:DB8::1]"], 1, "2001:db8::1"),
        (["[2001:db8::1]:4711"], 1, "2001:db8::1"),
        (["1.2.3"], 1, PEER),
        (["fe80::1%eth0"], 1, PEER),
        (["fe80::1%any text"], 1, PEER),
        (["198.51.100.1\x00"], 1, PEER),
    ],
)
def test_find(forwarded: Sequence[str], trusted: int, address: str) -> None:
    """The entry `trusted` places from the end counts; without a valid one, the socket's peer."""
    assert find(PEER, forwarded, trusted=trusted) == address


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("2001:db8:0:1:ffff::9", "2001:db8:0:1::/64"),
        ("2001:db8:0:2::1", "2001:db8:0:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::1", "::/64"),
        ("", ""),
        ("testclient", "testclient"),
    ],
)
def test_network_of(address: str, network: str) -> None:
    """The 2^64 addresses of an IPv6 client count as one."""
    assert network_of(address) == network
