"""Commands in a network namespace of their own, which has only the loopback device."""

import os
from pathlib import Path

import pytest

from tests.faults import resolving
from tests.sidecar_process import find_tool, run

WITH_DNS = """
mount --bind "$1/resolv.conf" /etc/resolv.conf
mount --bind "$1/hosts" /etc/hosts
shift
"""


async def enter(script: str, *arguments: str | Path) -> tuple[str | Path, ...]:
    """Return what to put before a command, so that it runs after `script`, with its `arguments`.

    `script` is for sh, and shifts its arguments away. Skips the test where there are no network
    namespaces.
    """
    as_root = () if os.geteuid() == 0 else ("--map-root-user",)
    whole = f'ip link set lo up\n{script}\nexec "$@"'
    unshare = (find_tool("unshare"), *as_root, "--net", "--mount")
    prefix = (*unshare, "sh", "-ec", whole, "sh", *arguments)
    probe = await run(*prefix, "true")
    if probe.status:
        pytest.skip(f"no network namespaces: {probe.stderr.strip()}")
    return prefix


async def enter_with_dns(directory: Path) -> tuple[str | Path, ...]:
    """Return the same for a network whose DNS is at 127.0.0.1. Writes files to `directory`."""
    (directory / "resolv.conf").write_text(resolving.RESOLV_CONF)
    (directory / "hosts").write_text(resolving.HOSTS)
    return await enter(WITH_DNS, directory)
