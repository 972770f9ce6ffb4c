"""Tests of the admin application: the probes, and who may request a drain."""

from collections.abc import Mapping
from dataclasses import dataclass

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sidecar import admin_app


async def show(_request: Request) -> Response:
    """Respond for another part."""
    return Response("shown")


@dataclass(slots=True, kw_only=True)
class Process:
    """The state that the application asks for, and the drains that it requested."""

    started: bool = True
    ready: bool = True
    drains: int = 0

    def drain(self) -> None:
        """Count one request to drain."""
        self.drains += 1

    def client(self, host: str = "127.0.0.1") -> httpx2.AsyncClient:
        """Return a client of the application with the address `host`."""
        app = admin_app.build(
            is_started=lambda: self.started,
            is_ready=lambda: self.ready,
            drain=self.drain,
            further=[Route("/further", show)],
        )
        transport = httpx2.ASGITransport(app, client=(host, 1))
        return httpx2.AsyncClient(transport=transport, base_url="http://admin.test")


@pytest.mark.parametrize(
    ("path", "ready", "status_code", "status"),
    [
        ("/livez", True, 200, "alive"),
        ("/livez", False, 200, "alive"),
        ("/readyz", True, 200, "ready"),
        ("/readyz", False, 503, "not ready"),
        ("/startupz", True, 200, "started"),
        ("/startupz", False, 503, "not started"),
    ],
)
async def test_probe(path: str, ready: bool, status_code: int, status: str) -> None:
    """Only readiness depends on the drain, and no response may be cached."""
    async with Process(ready=ready, started=ready).client() as probes:
        response = await probes.get(path)
    assert (response.status_code, response.json()) == (status_code, {"status": status})
    assert response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1"])
async def test_further_routes(host: str) -> None:
    """The routes of other parts are served to any client, and only with their method."""
    async with Process().client(host) as admin:
        response = await admin.get("/further")
        other = await admin.post("/further")
    assert (response.status_code, response.text) == (200, "shown")
    assert other.status_code == 405


async def test_readiness_is_asked_each_time() -> None:
    """A probe reports the current state, not the state when the application was built."""
    process = Process(ready=False)
    async with process.client() as probes:
        statuses = [(await probes.get("/readyz")).status_code]
        process.ready = True
        statuses.append((await probes.get("/readyz")).status_code)
    assert statuses == [503, 200]


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "::1", "::ffff:127.0.0.1"],
)
async def test_drain(host: str) -> None:
    """A client on this machine may request a drain."""
    process = Process()
    async with process.client(host) as admin:
        response = await admin.post("/drain")
    assert (response.status_code, response.json()) == (202, {"status": "draining"})
    assert process.drains == 1


@pytest.mark.parametrize(
    ("host", "origin", "detail"),
    [
        ("192.0.2.1", {}, "A drain must be requested from this machine."),
        ("2001:db8::1", {}, "A drain must be requested from this machine."),
        (
            "127.0.0.1",
            {"Origin": "http://admin.test"},
            "A drain must not be requested by a web page.",
        ),
        ("127.0.0.1", {"Origin": "null"}, "A drain must not be requested by a web page."),
        (
            "127.0.0.1",
            {"Sec-Fetch-Site": "cross-site"},
            "A drain must not be requested by a web page.",
        ),
    ],
)
async def test_nobody_else_may_drain(host: str, origin: Mapping[str, str], detail: str) -> None:
    """Neither another machine nor a web page in a browser on this one may request a drain."""
    process = Process()
    async with process.client(host) as admin:
        response = await admin.post("/drain", headers=origin)
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json() == {
        "type": "about:blank",
        "title": "Forbidden",
        "status": 403,
        "detail": detail,
    }
    assert process.drains == 0


@pytest.mark.parametrize(
    ("method", "path", "status_code"),
    [
        ("HEAD", "/livez", 200),
        ("POST", "/livez", 405),
        ("GET", "/drain", 405),
        ("DELETE", "/readyz", 405),
        ("GET", "/", 404),
        ("GET", "/readyz/", 307),
        ("GET", "/v1/oauth/token", 404),
        ("GET", "/problems", 404),
    ],
)
async def test_nothing_else_is_here(method: str, path: str, status_code: int) -> None:
    """The admin listener serves only the probes, the drain and the further routes."""
    async with Process().client() as probes:
        response = await probes.request(method, path)
    assert response.status_code == status_code
    if status_code >= 400:
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["status"] == status_code
        assert response.headers["cache-control"] == "no-store"
    assert ("allow" in response.headers) == (status_code == 405)
