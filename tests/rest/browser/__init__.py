"""Runs Chromium and axe-core, which npm installs from the lock file, on pages and streams."""

import asyncio
import json
from pathlib import Path
from typing import Any

from tests.sidecar_process import find_tool, printed, run
from tests.third_party import install_npm

_HERE = Path(__file__).parent


async def faults_of(*urls: str) -> list[str]:
    """Return what is wrong with the pages at `urls`, wide and narrow, light and dark.

    Without Node.js, npm or Chromium the calling test is skipped, or fails if the environment has
    CI=true. Raises ToolError if a tool fails.
    """
    return await _run("check.mjs", *urls)


async def events_of(origin: str, *streams: str) -> list[Any]:
    """Return what a page at `origin` sees of event streams, each a number of messages and a path.

    Without the tools it does what `faults_of` does.
    """
    return [json.loads(line) for line in await _run("events.mjs", origin, *streams)]


async def _run(script: str, *arguments: str) -> list[str]:
    chromium = find_tool("chromium")
    node = await asyncio.to_thread(install_npm, _HERE)
    ended = await run(node, _HERE / script, chromium, *arguments)
    return printed(ended).splitlines()
