"""What the tests of the auth-api's faults share: one sidecar, as new for each test."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.faults.upstream_scene import Scene, shared_scene


@pytest_asyncio.fixture(scope="session", name="_upstream_scene")
async def _open_scene() -> AsyncIterator[Scene]:
    async with shared_scene() as scene:
        yield scene


@pytest.fixture
def scene(_upstream_scene: Scene) -> Iterator[Scene]:
    """Give the shared sidecar before an upstream that a test spoils."""
    with _upstream_scene.renewed():
        yield _upstream_scene
