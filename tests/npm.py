"""Installer of npm packages that the tests run."""

import fcntl
import hashlib
import re
import shutil
import subprocess
from pathlib import Path

from tests.sidecar_process import go_without

_OLDEST_NODE = 20


def install(folder: Path) -> str:
    """Install the packages that the lock file in `folder` names, if need be; return Node's path.

    Without Node.js the calling test is skipped, or fails if the environment has CI=true.
    Raises RuntimeError if the packages cannot be installed.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        go_without("node and npm are not on the PATH")
    if _major_version(node) < _OLDEST_NODE:
        go_without(f"node is older than {_OLDEST_NODE}")
    with (folder / "package-lock.json").open("rb") as lock:
        # Two test runs in one tree must not install at once.
        fcntl.flock(lock, fcntl.LOCK_EX)
        _install(npm, folder, hashlib.file_digest(lock, "sha256").hexdigest())
    return node


def _major_version(node: str) -> int:
    found = re.match(r"v(\d+)\.", _run(Path(), node, "--version"))
    return int(found[1]) if found else 0


def _install(npm: str, folder: Path, digest: str) -> None:
    mark = folder / "node_modules" / ".installed"
    if mark.exists() and mark.read_text() == digest:
        return
    # This removes node_modules first, and so the mark.
    _run(folder, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
    mark.write_text(digest)


def _run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout
