"""Asks the auth-api by aiohttp."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from benchmarks.servers.clients import FORM, Ask, Token


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[Ask]:
    """Give a function that asks the auth-api at `url`."""
    async with aiohttp.ClientSession() as session:

        async def ask(client_id: str, client_secret: str) -> Token:
            fields = {"Authorization": aiohttp.encode_basic_auth(client_id, client_secret)}
            async with session.post(url, data=FORM, headers=fields) as answer:
                answer.raise_for_status()
                token: Token = await answer.json()
                return token

        yield ask
