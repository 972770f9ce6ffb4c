"""Tests of the counts of all parts: what is there before the last part, and for the shutdown."""

import json
from dataclasses import asdict

import httpx2
from starlette.applications import Starlette

from sidecar.interceptors.admission import Admission
from sidecar.process.drain import Drain, DrainCounts
from sidecar.settings.model import Settings
from sidecar.telemetry.counts import Parts, counts_for_drain
from sidecar.telemetry.metrics.metrics import Metrics
from sidecar.telemetry.state import State
from sidecar.tls.certificates import Certificates
from tests.running_server import open_server
from tests.scraped import Scrape


async def test_the_counts_of_a_sidecar_that_starts() -> None:
    """While the sidecar starts, state and metrics have the parts that exist, and say so."""
    async with open_server() as running:
        parts = Parts(
            drain=Drain(lame_duck=0, timeout=0),
            admission=Admission(3, streams=9),
            server=running.server,
            certificates=Certificates.load(Settings()),
        )
        app = Starlette(
            routes=[State({"rest": "here"}, parts.counts).route(), Metrics().route(parts.counts)]
        )
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://admin.test") as admin:
            values = json.loads((await admin.get("/state")).content)
            page = Scrape.of((await admin.get("/metrics")).text)
    assert values["phase"] == "starting"
    assert values["addresses"] == {"rest": "here"}
    assert values["calls"] == {
        "in_flight": 0,
        "limit": 3,
        "streams": 0,
        "streams_limit": 9,
        "watches": 0,
        "refused": 0,
    }
    assert values["grpc"] == {"calls": 0, "waiting": 0, "evicted": 0}
    assert values["http"] == {}
    assert values["auth_api"] is values["throttle"] is values["sharing"] is None
    assert page.by("karmo_sidecar_phase", "phase") == {"starting": 1}
    assert page.value("karmo_sidecar_calls_in_flight_limit") == 3
    assert "karmo_sidecar_connections_open" not in page.text
    assert asdict(counts_for_drain(parts.counts())) == asdict(DrainCounts())
