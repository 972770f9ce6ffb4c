"""Runs Chromium and axe-core, which npm installs from the lock file, on pages."""

import asyncio
import fcntl
from pathlib import Path

from tests.sidecar_process import find_tool, printed, run

_HERE = Path(__file__).parent


async def faults_of(*urls: str) -> list[str]:
    """Return what is wrong with the pages at `urls`, wide and narrow, light and dark.

    Without Node.js, npm or Chromium the calling test is skipped, or fails if the environment has
    CI=true. Raises ToolError if a tool fails.
    """
    node, npm, chromium = map(find_tool, ("node", "npm", "chromium"))
    with (_HERE / "package-lock.json").open("rb") as lock:
        # Two test runs in one tree must not install at once.
        await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
        installed = await run(npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=_HERE)
        printed(installed)
    checked = await run(node, _HERE / "check.mjs", chromium, *urls)
    return printed(checked).splitlines()
