"""Runs the npm package oidc-provider, an authorization server, as an upstream for the tests.

What belongs here: finding Node.js, installing the locked packages, starting and stopping the
server. What it is configured to issue is in `server.mjs`; what it proves is in the tests.
"""

import asyncio
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

CLIENT_ID = "oidc-partner"
CLIENT_SECRET = "oidcPartnerSecret0123456789abcdef"

_HERE = Path(__file__).parent
_LOCK = _HERE / "package-lock.json"
_INSTALLED = _HERE / "node_modules" / ".installed"
_OLDEST_NODE = 20
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


def _prepare() -> str:
    """Install what the lock file names, unless it is installed, and return the path of node."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        _go_without("node and npm are not on the PATH")
    if _major_version(node) < _OLDEST_NODE:
        _go_without(f"node is older than {_OLDEST_NODE}")
    with _LOCK.open("rb") as lock:
        # Two test runs in one tree must not install at once.
        fcntl.flock(lock, fcntl.LOCK_EX)
        _install(npm, hashlib.file_digest(lock, "sha256").hexdigest())
    return node


def _go_without(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(f"continuous integration must run this test, but {reason}")
    pytest.skip(reason)


def _major_version(node: str) -> int:
    found = re.match(r"v(\d+)\.", _run(node, "--version"))
    return int(found[1]) if found else 0


def _install(npm: str, digest: str) -> None:
    if _INSTALLED.exists() and _INSTALLED.read_text() == digest:
        return
    # This removes node_modules first, and so the mark.
    _run(npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
    _INSTALLED.write_text(digest)


def _run(*command: str) -> str:
    done = subprocess.run(command, cwd=_HERE, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout


async def _started(node: str) -> Process:
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
