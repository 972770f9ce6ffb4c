"""Processes as a user starts them: the sidecar, and the tools that are run against it.

What belongs here: starting, reading, stopping. What the processes must do is in the tests.
"""

import asyncio
import json
import os
import shutil
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.patience import PATIENT

ROOT = Path(__file__).parent.parent
# As a module, not as the console script: coverage then measures it too.
SIDECAR = (sys.executable, "-m", "sidecar")
LISTENERS = ("rest_listen", "grpc_listen", "admin_listen", "dev_auth_api_listen")
_HANG = 180.0  # seconds; no step of any process takes nearly as long
BIN = Path(sys.prefix, "bin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What a process left behind."""

    status: int
    stdout: str
    stderr: str


class Lines:
    """The lines of a stream, read as they come, so that their writer never waits."""

    def __init__(self, stream: asyncio.StreamReader) -> None:
        self.seen: list[str] = []
        self._has_ended = False
        self._grown = asyncio.Condition()
        self._reading = asyncio.create_task(self._read(stream))

    async def _read(self, stream: asyncio.StreamReader) -> None:
        async for line in stream:
            self.seen.append(line.decode())
            await self._tell()
        self._has_ended = True
        await self._tell()

    async def _tell(self) -> None:
        async with self._grown:
            self._grown.notify_all()

    async def find(self, text: str) -> str:
        """Return the first line that holds `text`, once it came. Raises EOFError if none does."""
        async with asyncio.timeout(_HANG), self._grown:
            await self._grown.wait_for(lambda: self._first(text) or self._has_ended)
        found = self._first(text)
        if found is None:
            raise EOFError(f"no line with {text!r}")
        return found

    def _first(self, text: str) -> str | None:
        return next((line for line in self.seen if text in line), None)

    async def all(self) -> str:
        """Return everything, once the stream has ended."""
        await self._reading
        return "".join(self.seen)


class Sidecar:
    """A running sidecar. `addresses` are those that it logs, by name."""

    def __init__(self, process: Process) -> None:
        assert process.stdout
        assert process.stderr
        self._process = process
        self.log = Lines(process.stdout)
        self.stderr = Lines(process.stderr)
        self.addresses: Mapping[str, str] = {}

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self._process.pid

    async def serve(self) -> None:
        """Wait until everything answers. Raises EOFError, with its stderr, if it ends instead."""
        try:
            self.addresses = json.loads(await self.log.find('"message": "serving"'))
        except EOFError:
            raise EOFError(await self.stderr.all()) from None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it still runs."""
        if self._process.returncode is None:
            self._process.send_signal(number)

    async def ended(self) -> Ended:
        """Wait for its end, which something else must bring about."""
        async with asyncio.timeout(_HANG):
            status = await self._process.wait()
            return Ended(status=status, stdout=await self.log.all(), stderr=await self.stderr.all())

    async def kill(self) -> None:
        """End it whatever it does."""
        self.signal(signal.SIGKILL)
        await self.ended()


@asynccontextmanager
async def serving(
    command: str,
    *,
    program: Sequence[str | Path] = SIDECAR,
    env: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
    **flags: str,
) -> AsyncIterator[Sidecar]:
    """Start a sidecar, on free ports where `flags` (settings by field name) say nothing else.

    Enters when everything answers. At its end the sidecar gets SIGTERM, unless it
    has ended, and must have ended with status 0.
    """
    sidecar = Sidecar(await _start(*program, command, *free(**flags), env=env, cwd=cwd))
    try:
        await sidecar.serve()
        yield sidecar
        sidecar.signal(signal.SIGTERM)
        end = await sidecar.ended()
    finally:
        await sidecar.kill()
    assert end.status == 0, end.stderr


@asynccontextmanager
async def started(*command: str | Path, cwd: Path = ROOT) -> AsyncIterator[Sidecar]:
    """Start another server, which is read as a sidecar is, and end it whatever it does."""
    server = Sidecar(await _start(*command, env=None, cwd=cwd))
    try:
        yield server
    finally:
        await server.kill()


async def run(
    *command: str | Path, env: Mapping[str, str] | None = None, cwd: Path = ROOT
) -> Ended:
    """Run `command` to its end."""
    process = await _start(*command, env=env, cwd=cwd)
    try:
        async with asyncio.timeout(_HANG):
            stdout, stderr = await process.communicate()
            status = await process.wait()
    except BaseException:
        process.kill()
        await process.communicate()
        raise
    return Ended(status=status, stdout=stdout.decode(), stderr=stderr.decode())


async def _start(*command: str | Path, env: Mapping[str, str] | None, cwd: Path) -> Process:
    return await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        env=environment(env),
        cwd=cwd,
    )


def free(**flags: str) -> tuple[str, ...]:
    """Return flags for free ports and patient timeouts, unless `flags` say else."""
    return as_flags(dict.fromkeys(LISTENERS, "127.0.0.1:0") | dict(PATIENT) | flags)


def as_flags(settings: Mapping[str, str]) -> tuple[str, ...]:
    """Return the flags that give `settings`, which are by field name."""
    return tuple(f"--{name.replace('_', '-')}={value}" for name, value in settings.items())


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return our environment without settings of the sidecar, and with `extra`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SIDECAR_")}
    return kept | dict(extra or {})


def path_of_a_terminal() -> str:
    """Return the PATH of a terminal that never entered our virtual environment."""
    entries = os.environ["PATH"].split(os.pathsep)
    return os.pathsep.join(entry for entry in entries if Path(entry) != BIN)


def find_tool(name: str) -> Path:
    """Return where `name` is, in the virtual environment, on the PATH or where Debian has servers.

    Without it the calling test is skipped, or fails where the environment has CI=true.
    """
    found = shutil.which(name, path=os.pathsep.join((str(BIN), os.environ["PATH"], "/usr/sbin")))
    return Path(found) if found else _go_without(name)


def _go_without(name: str) -> NoReturn:
    reason = f"{name} is not installed"
    if os.environ.get("CI") == "true":
        pytest.fail(f"continuous integration must run this test, but {reason}")
    pytest.skip(reason)


class ToolError(Exception):
    """A command failed; its text is what it printed."""


def printed(end: Ended) -> str:
    """Return what a command printed. Raises ToolError if it failed."""
    if end.status:
        raise ToolError(end.stdout + end.stderr)
    return end.stdout


def log_lines(log: str) -> list[dict[str, Any]]:
    """Return the records of a log. Raises ValueError unless each line is one."""
    return [json.loads(line) for line in log.splitlines()]
