"""Tests of the client address: the socket's peer, and how far proxies are believed."""

import ipaddress
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.client_address import find, network_of
from tests.properties import many

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
        ("2001:DB8:0:1:0:0:0:1", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("fe80::2%any text", "fe80::/64"),
        ("::ffff:192.0.2.1%eth0", "192.0.2.1"),
        ("1:2:3", "1:2:3"),
        ("::1\x00", "::1\x00"),
        ("::\ud800", "::\ud800"),
        ("", ""),
        ("testclient", "testclient"),
    ],
)
def test_network_of(address: str, network: str) -> None:
    """The 2^64 addresses of an IPv6 client count as one."""
    assert network_of(address) == network


@many
@given(st.ip_addresses(v=6).map(str) | st.ip_addresses(v=6).map(lambda one: one.exploded))
def test_network_of_any_address(address: str) -> None:
    """The networks are those of the standard library's `ipaddress`."""
    mapped = IPv6Address(address).ipv4_mapped
    expected = mapped or ipaddress.ip_network(f"{address}/64", strict=False)
    assert network_of(address) == str(expected)


@many
@given(st.ip_addresses(v=4))
def test_network_of_an_ipv4_address(address: IPv4Address) -> None:
    """An IPv4 address is its own network, also where it is mapped to IPv6."""
    assert network_of(f"{address}") == network_of(f"::ffff:{address}") == str(address)
