"""Tools and packages of other languages, for tests that run third-party programs.

Where a tool is missing or too old, the calling test is skipped, or fails if the environment has
CI=true. Packages are those of a lock file, and are installed once.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.sidecar_process import find_tool, go_without

# The arguments of npm that install exactly a lock file, and run nothing of the packages.
_NPM_CI = ("ci", "--ignore-scripts", "--no-audit", "--no-fund")
_OLDEST_NODE = (20, 19)

Version = tuple[int, ...]
_HANG = 300.0  # seconds; an installation is far shorter


def find_tool_since(name: str, oldest: Version, flag: str = "--version") -> Path:
    """Return the path of the tool `name`, which must have at least the version `oldest`.

    `flag` makes the tool print its version.
    """
    tool = find_tool(name)
    said = subprocess.run([tool, flag], capture_output=True, text=True, check=True).stdout
    version = re.search(r"\d+(\.\d+)*", said)
    if version is None or tuple(map(int, version[0].split("."))) < oldest:
        go_without(f"{name} is older than {'.'.join(map(str, oldest))}")
    return tool


def install(
    lock: Path, folder: Path, *command: str | Path, env: Mapping[str, str] | None = None
) -> None:
    """Run `command` beside `lock`, unless it has run for the same content of `lock`.

    The command installs into `folder`, which is removed before. Raises RuntimeError with the
    output of the command if it fails, and TimeoutExpired if it hangs.
    """
    mark = folder / ".installed"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    with _locked(lock.parent):
        if mark.exists() and mark.read_text("utf-8") == digest:
            return
        shutil.rmtree(folder, ignore_errors=True)
        done = subprocess.run(
            command,
            cwd=lock.parent,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            check=False,
            timeout=_HANG,
        )
        if done.returncode:
            raise RuntimeError(f"{command} failed:\n{done.stdout}{done.stderr}")
        mark.write_text(digest, "utf-8")


def install_npm(folder: Path) -> Path:
    """Install the packages that the lock file in `folder` names, and return the path of node."""
    node, npm = find_tool_since("node", _OLDEST_NODE), find_tool("npm")
    install(folder / "package-lock.json", folder / "node_modules", npm, *_NPM_CI)
    return node


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other test runs in the same tree out of the context.

    The folder itself is locked, because Go waits for locks of its files.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
