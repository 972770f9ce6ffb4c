"""Fixtures of the tests that need a sidecar with demo clients."""

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.openapi.scene import Scene, open_scene


@pytest_asyncio.fixture(scope="module", name="scene")
async def _scene() -> AsyncIterator[Scene]:
    async with open_scene() as scene:
        yield scene
