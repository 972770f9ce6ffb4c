"""Tests of core dumps: a crash leaves no file with memory of the process."""

import signal
import sys
from pathlib import Path

import pytest

from tests import sidecar_process
from tests.sidecar_process import ROOT, SIDECAR, free, run, started

pytestmark = pytest.mark.usefixtures("measured")

# The limit that a shell may have set, so that a dump would be in the working directory.
UNLIMITED = 'ulimit -S -c "$(ulimit -H -c)" && cd "$0" && PYTHONPATH="$OLDPWD" exec "$@"'
FORBIDDEN = """
import ctypes, resource
from sidecar.process import core_dumps
core_dumps.forbid()
print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""
ELSEWHERE = """
import ctypes, resource
ctypes.CDLL = lambda _name: object()
from sidecar.process import core_dumps
core_dumps.forbid()
print(resource.getrlimit(resource.RLIMIT_CORE))
"""
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="prctl and /proc are of Linux")


def core_limit(pid: int) -> list[str]:
    """Return the soft and hard limit of core files of the process, and their unit."""
    limits = Path("/proc", str(pid), "limits").read_text("ascii").splitlines()
    (core,) = (line.split() for line in limits if line.startswith("Max core file size"))
    return core[4:]


def files_in(directory: Path) -> list[Path]:
    """Return the names of the files in `directory`."""
    return list(directory.iterdir())


@on_linux
async def test_a_crash_leaves_no_file(tmp_path: Path) -> None:
    """A serving sidecar has a core limit of zero, and leaves no dump after a crash."""
    shell = ("bash", "-c", UNLIMITED, tmp_path)
    flags = free(auth_api_token_url="http://127.0.0.1:9/v1/oauth/token")
    async with started(*shell, *SIDECAR, "serve", *flags, cwd=ROOT) as sidecar:
        await sidecar.serve()
        limit = core_limit(sidecar.pid)
        sidecar.signal(signal.SIGSEGV)
        end = await sidecar.ended()
    assert limit == ["0", "0", "bytes"]
    assert end.status == -signal.SIGSEGV
    assert files_in(tmp_path) == []


@on_linux
async def test_a_program_gets_no_dump_either() -> None:
    """The limit cannot be raised again, and PR_GET_DUMPABLE reports not dumpable."""
    end = await run(sys.executable, "-c", FORBIDDEN)
    assert sidecar_process.printed(end) == "(0, 0) 0\n"


async def test_where_there_is_no_prctl() -> None:
    """Without prctl in the C library, the limit is still set."""
    end = await run(sys.executable, "-c", ELSEWHERE)
    assert sidecar_process.printed(end) == "(0, 0)\n"
