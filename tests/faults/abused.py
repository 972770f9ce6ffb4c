"""A sidecar in a process of its own, on uvloop as in production, for clients to abuse over REST."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from sidecar.settings.types import Address
from tests.faults.conditions import no_secret
from tests.faults.wire import host_and_port
from tests.raw_http import FORM, GUARD, Received, answer_to, next_answer
from tests.sidecar_process import Sidecar, serving
from tests.upstream import TOKEN, Upstream

CLIENT_ID, SECRET = "client-of-the-abuse", "canary-secret-of-the-abuse"
BODY = f"grant_type=client_credentials&client_id={CLIENT_ID}&client_secret={SECRET}".encode()
PROBLEM = "application/problem+json"


def identity() -> bytes:
    """Return a new request id."""
    return str(uuid.uuid4()).encode()


def exchange(
    *fields: bytes, request_id: bytes = b"", body: bytes = BODY, length: int | None = None
) -> bytes:
    """Return a token request that keeps its connection, and tells `length` in place of its own."""
    size = len(body) if length is None else length
    told = [b"Host: sidecar.test", FORM, *fields, b"Content-Length: %d" % size]
    told += [b"X-Request-Id: " + request_id] if request_id else []
    return b"POST /v1/oauth/token HTTP/1.1\r\n" + b"\r\n".join(told) + b"\r\n\r\n" + body


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The process, and the auth-api that it calls."""

    sidecar: Sidecar
    upstream: Upstream

    @property
    def rest(self) -> Address:
        """Where REST is."""
        return Address(*host_and_port(self.sidecar.addresses["rest"]))

    async def good(self) -> None:
        """Exchange a token on a new connection, as anybody may at any time."""
        received = await answer_to(self.rest, exchange(b"Connection: close"))
        assert (received.status, json.loads(received.body)) == (200, dict(TOKEN))

    async def line(self, request_id: bytes) -> Mapping[str, Any]:
        """Return the access line of that request, once it is written."""
        line: Mapping[str, Any] = json.loads(await self.sidecar.log.find(request_id.decode()))
        return line


@asynccontextmanager
async def abused(**flags: str) -> AsyncIterator[Scene]:
    """Run one, with `flags` as settings by field name. Its log must show no secret and no error."""
    limits = dict.fromkeys(("max_client_failures", "max_address_failures"), "1000000")
    limits["max_client_calls"] = "1000000"
    async with Upstream() as upstream:
        chosen: Any = {"auth_api_token_url": upstream.url} | limits | flags
        async with serving("serve", **chosen) as sidecar:
            yield Scene(sidecar=sidecar, upstream=upstream)
        log = await sidecar.log.all() + await sidecar.stderr.all()
    no_secret(log, SECRET, CLIENT_ID, str(TOKEN["access_token"]))
    assert '"level": "error"' not in log, log


async def answers_to(address: Address, data: bytes, *, ends: bool = False) -> list[Received]:
    """Send `data`, with `ends` also the end of this direction, and return what comes to the end."""
    async with asyncio.timeout(GUARD):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(data)
        if ends:
            writer.write_eof()
        try:
            return await answers_of(reader)
        finally:
            writer.close()


async def answers_of(reader: asyncio.StreamReader) -> list[Received]:
    """Return every answer that comes before the connection ends, in whatever way."""
    answers: list[Received] = []
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            answers.append(await next_answer(reader))
    return answers
