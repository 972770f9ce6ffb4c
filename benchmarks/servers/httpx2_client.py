"""Asks the auth-api by httpx2."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2

from benchmarks.servers.clients import FORM, Ask, Token


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[Ask]:
    """Give a function that asks the auth-api at `url`."""
    async with httpx2.AsyncClient(trust_env=False) as client:

        async def ask(client_id: str, client_secret: str) -> Token:
            answer = await client.post(url, data=FORM, auth=(client_id, client_secret))
            answer.raise_for_status()
            token: Token = answer.json()
            return token

        yield ask
