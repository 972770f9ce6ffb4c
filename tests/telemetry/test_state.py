"""Tests of the state at `GET /state`: what it has in each phase, and how values become JSON."""

import asyncio
import json
import signal
import ssl
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trustme

from sidecar.telemetry.state import to_json, versions
from tests.sidecar_process import Sidecar, serving
from tests.tls.test_reloading import Mount, leaf_of, pair, trust
from tests.upstream import Hold, Upstream
from tests.ways import Sent, basic, open_deployment, open_ways

KEY = "canary-0123456789-0123456789-0123456789"
CLIENT, SECRET = "canary-client", "canary-secret"
SENT = Sent(fields={"grant_type": "client_credentials"}, authorization=(basic(CLIENT, SECRET),))
HANG = 60


@dataclass(frozen=True, slots=True)
class Nested:
    """A value of a part."""

    closed: Mapping[str, int]
    at: datetime


def test_values_become_json() -> None:
    """Dataclasses, counters and dates become JSON."""
    at = datetime(2026, 1, 2, tzinfo=UTC)
    values = json.loads(to_json({"number": 1, "parts": (Nested(Counter(idle=2), at),)}))
    assert values == {
        "number": 1,
        "parts": [{"closed": {"idle": 2}, "at": "2026-01-02T00:00:00+00:00"}],
    }


def test_any_other_value_is_a_mistake() -> None:
    """An object that is no value is refused, and not shown as text."""
    with pytest.raises(TypeError, match=r"^object is no value of the state$"):
        to_json({"part": object()})


def test_versions() -> None:
    """The versions are those of the process, of each library that it needs, and of no extra."""
    told = versions()
    assert told["karmo-sidecar"] == version("karmo-sidecar")
    assert told["grpcio"] == version("grpcio")
    assert told["openssl"] == ssl.OPENSSL_VERSION
    assert "joserfc" not in told


async def read(sidecar: Sidecar) -> Mapping[str, Any]:
    """Return the state of a running sidecar."""
    return await read_at(sidecar.addresses["admin"])


async def read_at(admin: str) -> Mapping[str, Any]:
    """Return the state at the address of an admin listener."""
    async with httpx2.AsyncClient(trust_env=False, timeout=HANG) as client:
        response = await client.get(f"http://{admin}/state")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    assert "canary" not in response.text
    return dict(response.json())


async def test_the_state_of_a_sidecar() -> None:
    """The state has the calls in flight, the connections, fail-fast, the throttle, the versions."""
    hold = Hold()
    async with (
        asyncio.timeout(HANG),
        Upstream() as upstream,
        serving(
            "serve",
            env={"SIDECAR_LOG_CLIENT_KEY": KEY},
            auth_api_token_url=f"{upstream.url}?key=canary",
        ) as sidecar,
        open_ways(sidecar.addresses) as ways,
    ):
        upstream.script = hold.script
        calls = [asyncio.create_task(send(ways[name], SENT)) for name in ("form", "grpc")]
        await hold.wait_for(2)
        busy = await read(sidecar)
        hold.release.set()
        assert all([(await call).token for call in calls])
        idle = await read(sidecar)
    assert busy["phase"] == "serving"
    assert busy["calls"] == {
        "in_flight": 2,
        "limit": 32,
        "streams": 0,
        "streams_limit": 128,
        "watches": 0,
        "refused": 0,
    }
    assert busy["http"]["rest"] == {
        "open": 1,
        "idle": 0,
        "opening": 0,
        "refused": {},
        "dropped": {},
        "shed": 0,
    }
    assert busy["grpc"] == {"calls": 1, "waiting": 0, "evicted": 0}
    assert busy["http"]["admin"]["open"] == 1
    assert (busy["auth_api"]["tries"], busy["auth_api"]["is_down"]) == (2, False)
    assert busy["auth_api"]["connections"]["open"] == 2
    assert busy["throttle"]["calls"] == 1
    assert busy["certificates"] == []
    assert busy["log_lines_dropped"] == {"unread": 0, "unwritable": 0, "unformatted": 0}
    assert busy["versions"] == versions()
    assert busy["addresses"].items() <= sidecar.addresses.items()
    assert busy["addresses"]["auth_api_token_url"] == f"{upstream.url}?***"
    assert (idle["calls"]["in_flight"], idle["http"]["rest"]["idle"]) == (0, 1)
    assert idle["auth_api"]["connections"]["closed"]
    assert idle["throttle"]["trusted"] == 1


async def send(way: Any, sent: Sent) -> Any:
    """Send one request."""
    return await way(sent)


async def test_refused_calls_are_counted() -> None:
    """Calls beyond the limit are counted in the state and, in a shutdown, in its phase."""
    hold = Hold()
    limits: dict[str, Any] = {"max_in_flight": "1", "lame_duck": "40s", "termination_grace": "99s"}
    async with (
        asyncio.timeout(HANG),
        Upstream() as upstream,
        serving("serve", auth_api_token_url=upstream.url, **limits) as sidecar,
        open_ways(sidecar.addresses) as ways,
    ):
        upstream.script = hold.script
        call = asyncio.create_task(send(ways["form"], SENT))
        await hold.wait_for(1)
        for way in ("form", "form", "grpc"):
            assert (await ways[way](SENT)).problem
        state = await read(sidecar)
        sidecar.signal(signal.SIGTERM)
        while (await read(sidecar))["phase"] != "lame_duck":
            pass
        assert (await ways["grpc"](SENT)).problem
        sidecar.signal(signal.SIGTERM)
        ended = json.loads(await sidecar.log.find('"message": "lame duck ended"'))
        hold.release.set()
        assert (await call).token
    assert (ended["in_flight"], ended["refused"]) == (1, 1)
    # The body of httpx2 comes in a segment of its own, so that no request is a simple POST.
    assert state["calls"]["refused"] + state["http"]["rest"]["shed"] == 3
    assert state["calls"]["refused"] >= 1


async def test_an_auth_api_that_is_down() -> None:
    """The state says that fail-fast is active."""
    async with (
        asyncio.timeout(HANG),
        open_deployment(auth_api_token_url="http://127.0.0.1:9/token") as deployment,
    ):
        for _ in range(5):
            await deployment.ways["form"](SENT)
        state = await read_at(str(deployment.addresses.admin))
    assert state["auth_api"]["is_down"] is True


async def test_the_certificates(tmp_path: Path) -> None:
    """The state has the end of each certificate in use."""
    authority = trustme.CA()
    end = datetime.now(UTC).replace(microsecond=0)
    leaf = leaf_of(authority, not_before=datetime(2020, 1, 1, tzinfo=UTC), not_after=end)
    folder = Mount(tmp_path, pair(leaf) | trust(authority)).folder
    flags: Mapping[str, Any] = {
        "grpc_tls_certificate": str(folder / "tls.crt"),
        "grpc_tls_key": str(folder / "tls.key"),
        "grpc_tls_client_ca": str(folder / "ca.crt"),
    }
    async with asyncio.timeout(HANG), open_deployment(**flags) as deployment:
        state = await read_at(str(deployment.addresses.admin))
    own, authorities = state["certificates"]
    assert own == {
        "listener": "grpc",
        "file": flags["grpc_tls_certificate"],
        "not_before": "2020-01-01T00:00:00+00:00",
        "not_after": end.isoformat(),
        "days_left": -1,
        "is_early": False,
    }
    assert authorities["file"] == flags["grpc_tls_client_ca"]
    assert authorities["days_left"] > 0


async def test_the_state_during_the_drain() -> None:
    """The admin listener tells the phase of the drain, and the log has its lines with counts."""
    hold = Hold()
    async with (
        asyncio.timeout(HANG),
        Upstream() as upstream,
        serving("serve", auth_api_token_url=upstream.url) as sidecar,
        open_ways(sidecar.addresses) as ways,
    ):
        upstream.script = hold.script
        call = asyncio.create_task(send(ways["form"], SENT))
        await hold.wait_for(1)
        begin = time.monotonic()
        async with httpx2.AsyncClient(trust_env=False, timeout=HANG) as client:
            await client.post(f"http://{sidecar.addresses['admin']}/drain")
        ended = json.loads(await sidecar.log.find('"message": "lame duck ended"'))
        during = await read(sidecar)
        hold.release.set()
        assert (await call).token
        drained = json.loads(await sidecar.log.find('"message": "drain ended"'))
        stopped = json.loads(await sidecar.log.find('"message": "stopped"'))
        seconds = time.monotonic() - begin
    assert (during["phase"], during["calls"]["in_flight"]) == ("drain", 1)
    assert (ended["in_flight"], ended["rest_connections"]) == (1, 1)
    assert (drained["in_flight"], drained["refused"]) == (0, 0)
    assert (stopped["in_flight"], stopped["auth_api_connections"]) == (0, 0)
    assert 0 < drained["duration_ms"] <= stopped["duration_ms"] <= seconds * 1000
    assert "cut ended" not in await sidecar.log.all()
