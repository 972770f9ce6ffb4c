"""Answers with a constant token and asks no auth-api."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.servers.clients import Ask, Token

_TOKEN = {"access_token": "the.access.token", "token_type": "Bearer", "expires_in": 3600}


@asynccontextmanager
async def connect(_url: str) -> AsyncIterator[Ask]:
    """Give a function that returns the token."""

    async def ask(_client_id: str, _client_secret: str) -> Token:
        return _TOKEN

    yield ask
