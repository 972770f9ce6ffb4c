"""Shared fixtures: one sidecar with a scripted upstream, which each test finds reset."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.ways import WAYS, Deployment, Way, open_deployment


@pytest_asyncio.fixture(scope="session", name="_deployment")
async def _open_deployment() -> AsyncIterator[Deployment]:
    async with open_deployment() as deployment:
        yield deployment


@pytest.fixture
def deployment(_deployment: Deployment) -> Deployment:
    """Return the shared sidecar, with its upstream reset."""
    _deployment.upstream.reset()
    return _deployment


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, deployment: Deployment) -> Way:
    """Return each way into the sidecar in turn."""
    return deployment.ways[request.param]
