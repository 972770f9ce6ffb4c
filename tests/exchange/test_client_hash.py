"""Tests of the hash that stands for a client in the log."""

import hashlib
import re

import pytest

from sidecar.exchange.client_hash import ClientHash
from sidecar.secret import Secret

KEY = "0123456789abcdefghijklmnopqrstuv"


def hmac_sha256(key: bytes, data: bytes) -> str:
    """Return HMAC-SHA256, written out as RFC 2104 defines it, for a key of at most 64 bytes."""
    inner, outer = (bytes(byte ^ pad for byte in key.ljust(64, b"\0")) for pad in (0x36, 0x5C))
    return hashlib.sha256(outer + hashlib.sha256(inner + data).digest()).hexdigest()


@pytest.mark.parametrize("client_id", ["demo-partner", "x", "a" * 10_000, "\u00e9", "\ud800"])
def test_the_hash_is_an_hmac(client_id: str) -> None:
    """With a key the hash is the beginning of HMAC-SHA256, in any process."""
    data = client_id.encode(errors="surrogatepass")
    assert ClientHash(Secret(KEY)).of(client_id) == hmac_sha256(KEY.encode(), data)[:16]


def test_the_key_decides() -> None:
    """Another key gives another hash; without one, each object has a key of its own."""
    keyed = [ClientHash(Secret(KEY)), ClientHash(Secret(KEY.upper())), ClientHash(), ClientHash()]
    hashes = [hashing.of("demo-partner") for hashing in keyed]
    assert len(set(hashes)) == 4
    assert all(re.fullmatch("[0-9a-f]{16}", text) for text in hashes)
    assert keyed[2].of("demo-partner") == hashes[2]
