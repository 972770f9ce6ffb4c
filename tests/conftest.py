"""Shared fixtures: one sidecar with a scripted upstream, which each test finds reset."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.ways import WAYS, House, Way, open_house


@pytest_asyncio.fixture(scope="session", name="_house")
async def _open_house() -> AsyncIterator[House]:
    async with open_house() as house:
        yield house


@pytest.fixture
def house(_house: House) -> House:
    """Return the shared sidecar, with its upstream reset."""
    _house.upstream.reset()
    return _house


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, house: House) -> Way:
    """Return each way into the sidecar in turn."""
    return house.ways[request.param]
