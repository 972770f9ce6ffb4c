"""Tests of tools and libraries that learn the schema by reflection, against a running sidecar.

grpcurl and buf are tested in tests/grpc_server/test_reflection.py and tests/test_debugging.py.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio

from tests.grpc_tools.programs import METHOD, go_tool, run_java, run_node
from tests.sidecar_process import Ended, printed, run, serving

pytestmark = pytest.mark.tools
CLIENT_ID, SECRET = "demo-partner", "demo-secret"
SERVICES = (
    "grpc.health.v1.Health grpc.reflection.v1.ServerReflection "
    "grpc.reflection.v1alpha.ServerReflection karmo.auth.v1.TokenService"
)
REFUSAL = "The client is unknown, or its secret is wrong. Check client_id and client_secret."


@pytest_asyncio.fixture(scope="module", name="address")
async def _address() -> AsyncIterator[str]:
    async with serving("dev") as sidecar:
        yield sidecar.addresses["grpc"]


@pytest.mark.parametrize("program", [run_node, run_java], ids=["grpc-js", "grpc-java"])
async def test_a_library_calls_by_reflection(
    address: str, program: Callable[..., Awaitable[Ended]]
) -> None:
    """The library lists the services, checks the health, gets a token, and reads a refusal."""
    for secret, line in ((SECRET, "token: Bearer 3600"), ("wrong", f"UNAUTHENTICATED: {REFUSAL}")):
        end = await program(address, CLIENT_ID, secret)
        assert printed(end).splitlines() == [f"services: {SERVICES}", "health: SERVING", line]


async def report_of_ghz(address: str, secret: str) -> Any:
    """Return the report of five calls by ghz, which learns the schema by reflection."""
    request = {"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": secret}
    options = ("--insecure", "--total=5", "--concurrency=1", "--format=json")
    ghz = await go_tool("ghz")
    end = await run(ghz, *options, "--call", METHOD, "--data", json.dumps(request), address)
    return json.loads(printed(end))


async def test_ghz_measures_calls(address: str) -> None:
    """Ghz gets a token in each call, and reports a refusal by its code and its text."""
    report = await report_of_ghz(address, SECRET)
    assert report["statusCodeDistribution"] == {"OK": 5}
    refused = await report_of_ghz(address, "wrong")
    assert refused["statusCodeDistribution"] == {"Unauthenticated": 5}
    assert refused["errorDistribution"] == {
        f"rpc error: code = Unauthenticated desc = {REFUSAL}": 5
    }


@pytest.mark.parametrize(
    ("service", "status", "text"),
    [
        ("", 0, "status: SERVING"),
        ("karmo.auth.v1.TokenService", 0, "status: SERVING"),
        ("karmo.auth.v1.Other", 3, "code = NotFound"),
    ],
)
async def test_grpc_health_probe_tells_the_health(
    address: str, service: str, status: int, text: str
) -> None:
    """The probe reports the health of the server and of our service, and an unknown service."""
    end = await run(await go_tool("grpc-health-probe"), f"-addr={address}", f"-service={service}")
    assert (end.status, text in end.stderr) == (status, True)
