"""Tests of signals: calls in flight finish after each one."""

import asyncio
import json
import os
import pty
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass

import psutil
import pytest
import pytest_asyncio

from sidecar.call import Call, entered
from sidecar.process import signals, startup_signals
from sidecar.process.drain import Drain
from tests.faults.conditions import eventually
from tests.sidecar_process import SIDECAR, Sidecar, free, log_lines, serving
from tests.upstream import Hold, Upstream
from tests.ways import Outcome, Sent, Way, basic, open_ways

pytestmark = pytest.mark.usefixtures("measured")

SENT = Sent(fields={"grant_type": "client_credentials"}, authorization=(basic(),))
BOTH = ("form", "grpc")
HANG = 60.0  # seconds; time limit of every wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A sidecar, the ways into it, and its upstream."""

    sidecar: Sidecar
    ways: Mapping[str, Way]
    upstream: Upstream


@asynccontextmanager
async def running() -> AsyncIterator[Scene]:
    """Run a scene."""
    async with (
        Upstream() as upstream,
        serving("serve", auth_api_token_url=upstream.url) as sidecar,
        open_ways(sidecar.addresses) as ways,
    ):
        yield Scene(sidecar=sidecar, ways=ways, upstream=upstream)


@pytest_asyncio.fixture(scope="module", name="shared")
async def _run_shared() -> AsyncIterator[Scene]:
    """Run a scene for all signals that do not stop it."""
    async with running() as scene:
        yield scene


@asynccontextmanager
async def held(scene: Scene) -> AsyncIterator[tuple[Hold, list[asyncio.Task[Outcome]]]]:
    """Hold a call in flight on each protocol."""
    hold = Hold()
    scene.upstream.script = hold.script
    async with asyncio.timeout(HANG):
        calls = [asyncio.create_task(_send(scene.ways[name])) for name in BOTH]
        await hold.wait_for(len(BOTH))
        yield hold, calls


async def _send(way: Way) -> Outcome:
    return await way(SENT)


async def finish(hold: Hold, calls: list[asyncio.Task[Outcome]]) -> None:
    """Let the auth-api answer, and check that each call has its token."""
    hold.release.set()
    assert all([(await call).token for call in calls])


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR2, signal.SIGALRM])
async def test_a_signal_of_log_rotation_loses_no_call(
    number: signal.Signals, shared: Scene
) -> None:
    """A signal of log rotation or of a timer is logged, and has no other effect."""
    async with held(shared) as (hold, calls):
        shared.sidecar.signal(number)
        line = await shared.sidecar.log.find(f'"signal": "{number.name}"')
        await finish(hold, calls)
    assert '"message": "signal ignored"' in line


async def test_sigusr1_shows_the_state(shared: Scene) -> None:
    """SIGUSR1 writes the state to the log, with the calls in flight, which go on."""
    async with held(shared) as (hold, calls):
        shared.sidecar.signal(signal.SIGUSR1)
        state = json.loads(await shared.sidecar.log.find('"message": "state"'))
        await finish(hold, calls)
    assert (state["phase"], state["calls"]["in_flight"]) == ("serving", len(BOTH))
    assert state["addresses"]["rest"] == shared.sidecar.addresses["rest"]


SILENT = (*startup_signals.IGNORED, signal.SIGWINCH, signal.SIGCHLD, signal.SIGURG, signal.SIGCONT)


def ignored(sidecar: Sidecar) -> int:
    """Return the number of signals that the log so far calls ignored."""
    return sum('"message": "signal ignored"' in line for line in sidecar.log.seen)


async def test_a_signal_that_the_system_sends_has_no_effect(shared: Scene) -> None:
    """Signals of a failing read or write, and those that systems ignore, end and stop nothing."""
    sidecar = shared.sidecar
    before = ignored(sidecar)
    async with held(shared) as (hold, calls):
        for number in SILENT:
            sidecar.signal(number)
        sidecar.signal(signal.SIGUSR2)
        await eventually(lambda: ignored(sidecar) > before)
        await finish(hold, calls)
    assert ignored(sidecar) == before + 1


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGTSTP])
async def test_a_process_that_was_stopped_goes_on(number: signal.Signals, shared: Scene) -> None:
    """Calls that are in flight while a terminal stops the process are answered afterwards."""
    async with held(shared) as (hold, calls):
        process = psutil.Process(shared.sidecar.pid)
        shared.sidecar.signal(number)
        # The system ignores SIGTSTP for a process whose parent is not at a terminal.
        if number is signal.SIGSTOP:
            await eventually(lambda: process.status() == psutil.STATUS_STOPPED)
        hold.release.set()
        shared.sidecar.signal(signal.SIGCONT)
        assert all([(await call).token for call in calls])


@pytest.mark.parametrize("number", [*startup_signals.STOP, signal.SIGINT])
async def test_a_signal_that_stops_loses_no_call(number: signal.Signals) -> None:
    """Calls in flight finish on both protocols, and the log has the signal."""
    async with running() as scene, held(scene) as (hold, calls):
        scene.sidecar.signal(number)
        await scene.sidecar.log.find('"message": "stopping"')
        await finish(hold, calls)
        end = await scene.sidecar.ended()
    sources = [line["by"] for line in log_lines(end.stdout) if line["message"] == "stop requested"]
    assert (end.status, sources) == (0, [number.name])


async def test_a_terminal_that_closes_loses_no_call() -> None:
    """SIGHUP of a closed terminal begins the drain as Ctrl-C does: calls in flight finish."""
    ours, theirs = pty.openpty()
    hold = Hold()
    with closing(os.fdopen(ours, "rb", buffering=0)), closing(os.fdopen(theirs, "rb")) as terminal:
        async with asyncio.timeout(HANG), Upstream() as upstream:
            upstream.script = hold.script
            process = await asyncio.create_subprocess_exec(
                *SIDECAR,
                "serve",
                *free(auth_api_token_url=upstream.url, lame_duck="200s", termination_grace="300s"),
                stdin=terminal,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            sidecar = Sidecar(process)
            try:
                await sidecar.serve()
                async with open_ways(sidecar.addresses) as ways:
                    calls = [asyncio.create_task(_send(ways[name])) for name in BOTH]
                    await hold.wait_for(len(BOTH))
                    sidecar.signal(signal.SIGHUP)
                    lame_duck = json.loads(await sidecar.log.find('"lame duck ended"'))
                    await finish(hold, calls)
                end = await sidecar.ended()
            finally:
                await sidecar.kill()
    assert end.status == 0
    assert lame_duck["in_flight"] == len(BOTH)
    assert log_lines(end.stdout)[-1]["message"] == "stopped"


async def test_each_signal_does_what_its_row_says() -> None:
    """Each signal has the effect of its row on the drain."""
    begun = {}
    for number in startup_signals.HANDLED:
        drain = Drain(lame_duck=0, timeout=0)
        handlers = dict(signals._handlers(drain, has_terminal=False))
        with entered(Call.of(request_id=None, traceparent=None)):
            handlers[number]()
        begun[number.name] = drain.has_begun
    assert begun == {
        "SIGTERM": True,
        "SIGQUIT": True,
        "SIGPWR": True,
        "SIGINT": True,
        "SIGHUP": False,
        "SIGUSR1": False,
        "SIGUSR2": False,
        "SIGALRM": False,
    }
