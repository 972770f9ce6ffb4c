"""Tests of the names of shared counts."""

import re

import pytest

from sidecar.exchange.client_hash import ClientHash
from sidecar.exchange.limit import Limit
from sidecar.exchange.shared_counts.names import CountNames
from sidecar.secret import Secret

KEY = Secret("0123456789abcdefghijklmnopqrstuv")
OTHER = Secret("vutsrqponmlkjihgfedcba9876543210")


def test_replicas_with_one_key_have_equal_names() -> None:
    """Two replicas with one key give a count the same name, and their throttles the same key."""
    one, two = CountNames(KEY), CountNames(Secret(KEY.reveal()))
    name = one.name(Limit.CLIENT_FAILURES, b"partner@192.0.2.1")
    assert re.fullmatch("karmo-sidecar:1:client_failures:[0-9a-f]{32}", name)
    assert two.name(Limit.CLIENT_FAILURES, b"partner@192.0.2.1") == name
    assert one.throttle_key.reveal() == two.throttle_key.reveal()


def test_everything_decides_the_name() -> None:
    """Another key, another limit or another count has another name."""
    names = {
        CountNames(key).name(limit, count)
        for key in (KEY, OTHER)
        for limit in (Limit.ADDRESS_FAILURES, Limit.ALL_FAILURES)
        for count in (b"192.0.2.1", b"192.0.2.2", b"")
    }
    assert len(names) == 12
    assert CountNames(KEY).throttle_key.reveal() != CountNames(OTHER).throttle_key.reveal()


@pytest.mark.parametrize("canary", ["canary", "192.0.2.77"])
def test_a_name_reveals_nothing(canary: str) -> None:
    """A name holds neither what it stands for, nor the hash that the log has of it, nor a key."""
    names = CountNames(KEY)
    name = names.name(Limit.ADDRESS_FAILURES, canary.encode())
    hidden = (canary, ClientHash(KEY).of(canary), KEY.reveal(), names.throttle_key.reveal().hex())
    assert [text for text in hidden if text in name] == []
    assert "***" in repr(names.throttle_key)
