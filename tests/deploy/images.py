"""The image of the sidecar, built by buildah over a Debian root, and processes in it.

There is no registry and no container engine here. So the base is a root file system of packages,
and a process of the image runs by chroot: as the image's user, on a root that is read-only.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.markers import Marker

from tests.sidecar_process import ROOT, find_tool, go_without

# Debian 12 has Python 3.11. gRPC needs the C++ library.
_PACKAGES = "python3-venv,libstdc++6,ca-certificates"
_SUITE, _PYTHON = "bookworm", "3.11"
_BASE, _IMAGE = "localhost/debian", "localhost/karmo-sidecar"
# The other format, OCI, has no health check.
_DOCKER = ("--format", "docker")
_HANG = 600.0  # seconds; each step takes less than a minute on a quiet machine
_SHELLS = ("bash", "dash", "sh", "rbash")
# A mount of its own, made read-only, and a command in it with the image's environment and user,
# and without a way to gain a privilege.
_ENTER = """
setpriv=$(command -v setpriv) chroot=$(command -v chroot)
mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" &&
exec env -i PATH="$1" $setpriv --no-new-privs $chroot --userspec="$2" "$0" "${@:3}"
"""


@dataclass(frozen=True, slots=True)
class Image:
    """A built image: its configuration, and a container of it with its root file system."""

    config: dict[str, Any]
    container: str
    root: Path

    @property
    def program(self) -> tuple[str | Path, ...]:
        """The start of a command that runs the program of the image."""
        (name,) = self.config["Entrypoint"]
        return self.command(name)

    def command(self, *command: str) -> tuple[str | Path, ...]:
        """Return the command that runs `command` of the image, as the image's user."""
        variables = dict(each.split("=", 1) for each in self.config["Env"])
        enter = ("unshare", "--mount", "bash", "-c", _ENTER, self.root, variables["PATH"])
        return (*enter, self.config["User"], *command)

    def remove_shells(self) -> None:
        """Remove every shell of its root file system."""
        for folder in ("bin", "usr/bin"):
            for name in _SHELLS:
                (self.root / folder / name).unlink(missing_ok=True)


class Buildah:
    """buildah with storage of its own in `folder`."""

    def __init__(self, folder: Path) -> None:
        storage = ("--storage-driver", "vfs", "--root", str(folder), "--runroot", f"{folder}/run")
        self._command = (str(find_tool("buildah")), *storage)

    @property
    def build(self) -> str:
        """The command that builds an image, for `make image`."""
        return " ".join((*self._command, "bud", "--quiet", "--isolation", "chroot", *_DOCKER))

    def __call__(self, *arguments: str | Path) -> str:
        """Run one command and return its output."""
        return _run(*self._command, *arguments).strip()


@contextmanager
def built(folder: Path) -> Iterator[tuple[Image, Buildah]]:
    """Build the image with `make image` in `folder`, which is emptied at the end."""
    buildah, mmdebstrap = Buildah(folder / "storage"), find_tool("mmdebstrap")
    if os.geteuid():
        go_without("only root can make a root file system and enter it")
    try:
        context = folder / "base"
        context.mkdir()
        packages = ("--quiet", "--variant=essential", f"--include={_PACKAGES}")
        _run(mmdebstrap, *packages, _SUITE, context / "root.tar")
        (context / "Dockerfile").write_text("FROM scratch\nADD root.tar /\n", "utf-8")
        buildah("bud", "--quiet", "--tag", _BASE, context)
        base = (f"BASE={_BASE}", f"BASE_PYTHON={_PYTHON}", "OFFLINE=1")
        image = (f"IMAGE={_IMAGE}", f"BUILDER={buildah.build}")
        # The environment that runs this test is complete.
        _run("make", "-o", ".venv/complete", "image", *base, *image)
        config = json.loads(buildah("inspect", "--type", "image", _IMAGE))["Docker"]["config"]
        container = buildah("from", "--quiet", _IMAGE)
        yield Image(config, container, Path(buildah("mount", container))), buildah
    finally:
        shutil.rmtree(folder)


def locked(lock: Path, python: str = "3.11.0") -> dict[str, str]:
    """Return the versions in a lock file by name, those for this platform and release of Python."""
    pattern = re.compile(r"^([\w.-]+)==([^\s;\\]+)(?: ; (.+?))? \\$", re.MULTILINE)
    return {
        _normalized(name): version
        for name, version, marker in pattern.findall(lock.read_text("utf-8"))
        if not marker or Marker(marker).evaluate({"python_full_version": python})
    }


def _normalized(name: str) -> str:
    """Return a name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _run(*command: str | Path) -> str:
    """Run a command in the root of the project and return its output."""
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=_HANG
    )
    if done.returncode:
        raise RuntimeError(f"{command} failed:\n{done.stdout}{done.stderr}")
    return done.stdout
