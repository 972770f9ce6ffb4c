"""DNS is late while calls come: they wait for one look-up, and none is lost to it."""

import asyncio
import socket
import threading
from collections import Counter
from typing import Any

import pytest

from tests.faults.upstream_scene import BOTH, SENT, assert_token
from tests.upstream import Upstream
from tests.ways import open_deployment

pytestmark = pytest.mark.unmeasured

NAME = "auth-api.test"


@pytest.mark.timing("the look-up takes a time of its own, and nothing depends on how long")
@pytest.mark.parametrize("seconds", [0.04, 0.3])
async def test_calls_at_once(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """32 calls at once over both protocols are all served; they share their look-ups."""
    system, look_ups = socket.getaddrinfo, Counter[str]()

    def late(host: Any, *arguments: Any, **options: Any) -> Any:
        if host != NAME:
            return system(host, *arguments, **options)
        look_ups[host] += 1
        threading.Event().wait(seconds)
        return system("127.0.0.1", *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", late)
    async with (
        Upstream() as upstream,
        open_deployment(auth_api_token_url=upstream.url.replace("127.0.0.1", NAME)) as deployment,
    ):
        for _ in range(3):
            ways = [deployment.ways[way] for way in BOTH * 16]
            for outcome in await asyncio.gather(*(way(SENT) for way in ways)):
                assert_token(outcome)
    assert look_ups[NAME] < 10  # one, and perhaps a refresh, of 96 calls
