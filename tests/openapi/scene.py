"""A sidecar with demo clients, and the OpenAPI document that it serves."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2

from tests.openapi.described import Tree
from tests.sidecar_process import serving

# Thousands of wrong secrets come from one address.
LIMITS: dict[str, Any] = dict.fromkeys(
    ("max_client_failures", "max_address_failures", "max_client_calls"), "1000000"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The base URL of the sidecar, and its document."""

    url: str
    document: Tree


@asynccontextmanager
async def open_scene() -> AsyncIterator[Scene]:
    """Run the sidecar in a process of its own."""
    async with serving("dev", **LIMITS) as sidecar, httpx2.AsyncClient() as client:
        url = f"http://{sidecar.addresses['rest']}"
        document = (await client.get(f"{url}/openapi.json")).json()
        yield Scene(url=url, document=document)
