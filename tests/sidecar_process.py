"""Process runner: starts, reads and stops the sidecar and the tools for it, as a user does.

Expectations of the processes are in the tests.
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
# As a module and not as the console script, so that coverage measures it too.
SIDECAR = (sys.executable, "-m", "sidecar")
LISTENERS = ("rest_listen", "grpc_listen", "admin_listen", "dev_auth_api_listen")
_HANG = 180.0  # seconds; every step of every process is far shorter
BIN = Path(sys.prefix, "bin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The output and status of a process that has ended."""

    status: int
    stdout: str
    stderr: str


class Lines:
    """The lines of a stream, read at once so that the writer never blocks."""

    def __init__(self, stream: asyncio.StreamReader) -> None:
        self.seen: list[str] = []
        self._has_ended = False
        self._grown = asyncio.Condition()
        self._reading = asyncio.create_task(self._read(stream))

    async def _read(self, stream: asyncio.StreamReader) -> None:
        async for line in stream:
            self.seen.append(line.decode())
            await self._notify()
        self._has_ended = True
        await self._notify()

    async def _notify(self) -> None:
        async with self._grown:
            self._grown.notify_all()

    async def find(self, text: str) -> str:
        """Wait for the first line that contains `text`. Raises EOFError if there is none."""
        async with asyncio.timeout(_HANG), self._grown:
            await self._grown.wait_for(lambda: self._first(text) or self._has_ended)
        line = self._first(text)
        if line is None:
            raise EOFError(f"no line with {text!r}")
        return line

    def _first(self, text: str) -> str | None:
        return next((line for line in self.seen if text in line), None)

    async def all(self) -> str:
        """Wait for the end of the stream and return all of it."""
        await self._reading
        return "".join(self.seen)


class Sidecar:
    """A running sidecar, with its `addresses` by name, as it logs them."""

    def __init__(self, process: Process) -> None:
        assert process.stdout
        assert process.stderr
        self._process = process
        self.log = Lines(process.stdout)
        self.stderr = Lines(process.stderr)
        self.addresses: Mapping[str, str] = {}

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def serve(self) -> None:
        """Wait until it serves. Raises EOFError with its stderr if it ends instead."""
        try:
            self.addresses = json.loads(await self.log.find('"message": "serving"'))
        except EOFError:
            raise EOFError(await self.stderr.all()) from None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it is still running."""
        if self._process.returncode is None:
            self._process.send_signal(number)

    async def ended(self) -> Ended:
        """Wait for its end, which the caller must have caused."""
        async with asyncio.timeout(_HANG):
            status = await self._process.wait()
            return Ended(status=status, stdout=await self.log.all(), stderr=await self.stderr.all())

    async def kill(self) -> None:
        """Kill it."""
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
    """Start a sidecar with `flags`, which are settings by field name; free ports are the default.

    Yields when it serves. At the end of the context it gets SIGTERM, unless it has ended,
    and must end with status 0.
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
    """Start another server, whose output is read like that of a sidecar, and kill it at the end."""
    server = Sidecar(await _start(*command, env=None, cwd=cwd))
    try:
        yield server
    finally:
        await server.kill()


async def run(
    *command: str | Path,
    env: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
    within: float = _HANG,
) -> Ended:
    """Run `command` to its end. Raises TimeoutError after `within` seconds."""
    process = await _start(*command, env=env, cwd=cwd)
    try:
        async with asyncio.timeout(within):
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
    """Return `flags`, with free ports and patient timeouts as defaults.

    `serve` has no flag for the embedded auth-api, so `environment` gives that a free port.
    """
    return as_flags(dict.fromkeys(LISTENERS[:3], "127.0.0.1:0") | dict(PATIENT) | flags)


def as_flags(settings: Mapping[str, str]) -> tuple[str, ...]:
    """Return the command-line flags for `settings`, which are by field name."""
    return tuple(f"--{name.replace('_', '-')}={value}" for name, value in settings.items())


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return our environment with `extra`, and without other settings of the sidecar.

    The embedded auth-api has a free port.
    """
    foreign = ("SIDECAR_", "OTEL_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return kept | {"SIDECAR_DEV_AUTH_API_LISTEN": "127.0.0.1:0"} | dict(extra or {})


def path_of_a_terminal() -> str:
    """Return the PATH of a terminal outside of our virtual environment."""
    entries = os.environ["PATH"].split(os.pathsep)
    return os.pathsep.join(entry for entry in entries if Path(entry) != BIN)


def find_tool(name: str) -> Path:
    """Return the path of `name`: in the virtual environment, on the PATH, or in Debian's sbin.

    If it is missing the calling test is skipped, or fails if the environment has CI=true.
    """
    path = shutil.which(name, path=os.pathsep.join((str(BIN), os.environ["PATH"], "/usr/sbin")))
    return Path(path) if path else go_without(f"{name} is not installed")


def go_without(reason: str) -> NoReturn:
    """Skip the calling test for `reason`, or fail it if the environment has CI=true."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"continuous integration must run this test, but {reason}")
    pytest.skip(reason)


class ToolError(Exception):
    """A command failed; the text of the error is the output."""


def printed(end: Ended) -> str:
    """Return the output of a command. Raises ToolError if it failed."""
    if end.status:
        raise ToolError(end.stdout + end.stderr)
    return end.stdout


def log_lines(log: str) -> list[dict[str, Any]]:
    """Return the records of a log. Raises ValueError for a line that is not one."""
    return [json.loads(line) for line in log.splitlines()]
