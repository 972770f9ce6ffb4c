"""Tests of the endpoint that a span names."""

import pytest

from sidecar.spans import Endpoint


@pytest.mark.parametrize(
    ("url", "host", "port", "shown"),
    [
        ("http://a/b", "a", 80, "http://a/b"),
        ("https://a/b", "a", 443, "https://a/b"),
        ("https://u:canary@a:1/b?canary=canary", "a", 1, "https://a:1/b"),
        ("http://[::1]:5/", "::1", 5, "http://[::1]:5/"),
    ],
)
def test_endpoint(url: str, host: str, port: int, shown: str) -> None:
    """Host and port are those of the URL, which is shown without user and query."""
    assert Endpoint.of(url) == Endpoint(host=host, port=port, url=shown)
