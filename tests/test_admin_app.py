"""The probes: alive as long as the process answers, ready while calls are wanted."""

import httpx2
import pytest

from sidecar import admin_app


def client(*, ready: bool) -> httpx2.AsyncClient:
    """Return a client of an application that is ready or not."""
    transport = httpx2.ASGITransport(admin_app.build(lambda: ready))
    return httpx2.AsyncClient(transport=transport, base_url="http://admin.test")


@pytest.mark.parametrize(
    ("path", "ready", "status_code", "status"),
    [
        ("/livez", True, 200, "alive"),
        ("/livez", False, 200, "alive"),
        ("/readyz", True, 200, "ready"),
        ("/readyz", False, 503, "not ready"),
    ],
)
async def test_probe(path: str, ready: bool, status_code: int, status: str) -> None:
    """Only readiness depends on whether calls are wanted, and no answer is kept by a cache."""
    async with client(ready=ready) as probes:
        response = await probes.get(path)
    assert (response.status_code, response.json()) == (status_code, {"status": status})
    assert response.headers["cache-control"] == "no-store"


async def test_readiness_is_asked_each_time() -> None:
    """A probe tells what is so now, not what was so when the application was built."""
    answers = iter([False, True, False])
    transport = httpx2.ASGITransport(admin_app.build(lambda: next(answers)))
    async with httpx2.AsyncClient(transport=transport, base_url="http://admin.test") as probes:
        told = [(await probes.get("/readyz")).status_code for _ in range(3)]
    assert told == [503, 200, 503]


@pytest.mark.parametrize(
    ("method", "path", "status_code"),
    [
        ("HEAD", "/livez", 200),
        ("POST", "/livez", 405),
        ("DELETE", "/readyz", 405),
        ("GET", "/", 404),
        ("GET", "/readyz/", 307),
        ("GET", "/v1/oauth/token", 404),
        ("GET", "/problems", 404),
    ],
)
async def test_nothing_else_is_here(method: str, path: str, status_code: int) -> None:
    """The admin listener serves the probes alone."""
    async with client(ready=True) as probes:
        assert (await probes.request(method, path)).status_code == status_code
