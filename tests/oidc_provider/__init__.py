"""Runs the npm package oidc-provider, an authorization server, as an upstream for the tests.

What belongs here: finding Node.js, installing the locked packages, starting and stopping the
server. What it is configured to issue is in `server.mjs`; what it proves is in the tests.
"""

import asyncio
import os
import re
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.sidecar_process import find_tool
from tests.third_party import NPM_CI, find_tool_since, install

CLIENT_ID = "oidc-partner"
CLIENT_SECRET = "oidcPartnerSecret0123456789abcdef"

_HERE = Path(__file__).parent
_LOCK = _HERE / "package-lock.json"
_START_TIMEOUT = 60.0  # seconds
_STOP_TIMEOUT = 10.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcProvider:
    """Where the running server is reached."""

    token_url: str
    jwks_url: str


@asynccontextmanager
async def running_oidc_provider() -> AsyncIterator[OidcProvider]:
    """Yield the running server, whose one client is CLIENT_ID with CLIENT_SECRET.

    Without Node.js the calling test is skipped, or fails where the environment has CI=true.
    Raises RuntimeError if the packages cannot be installed or the server does not start.
    """
    process = await _started(await asyncio.to_thread(_prepare))
    try:
        async with asyncio.timeout(_START_TIMEOUT):
            base = f"http://127.0.0.1:{await _port(process)}"
        yield OidcProvider(
            token_url=f"{base}/v1/oauth/token", jwks_url=f"{base}/.well-known/jwks.json"
        )
    finally:
        await _stop(process)


def _prepare() -> Path:
    """Install what the lock file names, unless it is installed, and return the path of node."""
    node, npm = find_tool_since("node", (20,)), find_tool("npm")
    install(_LOCK, _HERE / "node_modules", npm, *NPM_CI)
    return node


async def _started(node: Path) -> Process:
    return await asyncio.create_subprocess_exec(
        *(node, _HERE / "server.mjs"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "OIDC_CLIENT_ID": CLIENT_ID, "OIDC_CLIENT_SECRET": CLIENT_SECRET},
    )


async def _port(process: Process) -> int:
    """Return the port from the line that the server prints when it is ready."""
    assert process.stdout
    async for line in process.stdout:
        # The provider may print notices of its own before.
        if ready := re.fullmatch(rb"listening (\d+)\n", line):
            return int(ready[1])
    raise RuntimeError("oidc-provider ended before it was ready; its stderr tells why")


async def _stop(process: Process) -> None:
    """End the server by closing its stdin, or by force if that does not help."""
    try:
        async with asyncio.timeout(_STOP_TIMEOUT):
            await process.communicate(b"")
    except TimeoutError:
        process.kill()
        await process.communicate()
