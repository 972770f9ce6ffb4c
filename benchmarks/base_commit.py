"""The product of an earlier commit, in a work tree and a virtual environment of its own."""

import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.sidecar_process import ROOT, Ended, path_of_a_terminal, printed, run


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """An earlier commit: its short name, its files, and its Python with what it needs."""

    commit: str
    folder: Path
    python: Path


async def short_name(commit: str) -> str:
    """Return the abbreviated hash of `commit`. Raises ToolError if git does not know it."""
    return printed(await _git("rev-parse", "--short", f"{commit}^{{commit}}")).strip()


@asynccontextmanager
async def checked_out(commit: str) -> AsyncIterator[Base]:
    """Give the base that `commit` names. Its files are removed at the end.

    Raises ToolError, with what was printed, if git or the installation fails.
    """
    name = await short_name(commit)
    folder = Path(tempfile.mkdtemp(prefix=f"base-{name}-", dir=ROOT / ".venv"))
    try:
        printed(await _git("worktree", "add", "--detach", str(folder), name))
        path = {"PATH": path_of_a_terminal()}
        printed(await run("make", "-C", folder, ".venv/runtime", env=path))
        yield Base(commit=name, folder=folder, python=folder / ".venv" / "bin" / "python")
    finally:
        shutil.rmtree(folder)
        await _git("worktree", "prune")


async def _git(*arguments: str) -> Ended:
    return await run("git", *arguments)
