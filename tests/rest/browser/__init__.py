"""Runs Chromium and axe-core, which npm installs from the lock file, on pages."""

import asyncio
from pathlib import Path

from tests.sidecar_process import find_tool, printed, run
from tests.third_party import install_npm

_HERE = Path(__file__).parent


async def faults_of(*urls: str) -> list[str]:
    """Return what is wrong with the pages at `urls`, wide and narrow, light and dark.

    Without Node.js, npm or Chromium the calling test is skipped, or fails if the environment has
    CI=true. Raises ToolError if a tool fails.
    """
    chromium = find_tool("chromium")
    node = await asyncio.to_thread(install_npm, _HERE)
    checked = await run(node, _HERE / "check.mjs", chromium, *urls)
    return printed(checked).splitlines()
