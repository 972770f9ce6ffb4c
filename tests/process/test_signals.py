"""Tests of signals: calls in flight finish after each one."""

import asyncio
import os
import pty
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import pytest

from sidecar.call import Call, entered
from sidecar.process import signals
from sidecar.process.drain import Drain
from tests.sidecar_process import SIDECAR, Sidecar, free, log_lines, serving
from tests.upstream import Hold, Upstream
from tests.ways import Outcome, Sent, Way, basic, open_ways

SENT = Sent(fields={"grant_type": "client_credentials"}, authorization=(basic(),))
BOTH = ("form", "grpc")
HANG = 60.0  # seconds; time limit of every wait


@asynccontextmanager
async def held() -> AsyncIterator[tuple[Sidecar, Hold, list[asyncio.Task[Outcome]]]]:
    """Run a sidecar with a call in flight on each protocol."""
    hold = Hold()
    async with Upstream() as upstream:
        upstream.script = hold.script
        async with (
            asyncio.timeout(HANG),
            serving("serve", auth_api_token_url=upstream.url) as sidecar,
            open_ways(sidecar.addresses) as ways,
        ):
            calls = [asyncio.create_task(_send(ways[name])) for name in BOTH]
            await hold.wait_for(len(BOTH))
            yield sidecar, hold, calls


async def _send(way: Way) -> Outcome:
    return await way(SENT)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
async def test_a_signal_of_log_rotation_loses_no_call(number: signal.Signals) -> None:
    """A signal of log rotation is logged, and has no other effect."""
    async with held() as (sidecar, hold, calls):
        sidecar.signal(number)
        line = await sidecar.log.find('"message": "signal ignored"')
        hold.release.set()
        assert all([(await call).token for call in calls])
    assert f'"signal": "{number.name}"' in line


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT, signal.SIGINT])
async def test_a_signal_that_stops_loses_no_call(number: signal.Signals) -> None:
    """Calls in flight finish on both protocols, and the log has the signal."""
    async with held() as (sidecar, hold, calls):
        sidecar.signal(number)
        await sidecar.log.find('"message": "stopping"')
        hold.release.set()
        assert all([(await call).token for call in calls])
        end = await sidecar.ended()
    sources = [line["by"] for line in log_lines(end.stdout) if line["message"] == "stop requested"]
    assert (end.status, sources) == (0, [number.name])


async def test_a_terminal_that_closes_ends_it() -> None:
    """SIGHUP of a closed terminal ends the process as Ctrl-C does."""
    ours, theirs = pty.openpty()
    with closing(os.fdopen(ours, "rb", buffering=0)), closing(os.fdopen(theirs, "rb")) as terminal:
        process = await asyncio.create_subprocess_exec(
            *SIDECAR,
            "dev",
            *free(),
            stdin=terminal,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        sidecar = Sidecar(process)
        try:
            await sidecar.serve()
            sidecar.signal(signal.SIGHUP)
            end = await sidecar.ended()
        finally:
            await sidecar.kill()
    assert end.status == 0
    assert log_lines(end.stdout)[-1]["message"] == "stopped"


async def test_each_signal_does_what_its_row_says() -> None:
    """Each signal has the effect of its row on the drain."""
    begun = {}
    for number in (*signals._STOP, signal.SIGINT, signal.SIGHUP, *signals._IGNORED):
        drain = Drain(lame_duck=0, timeout=0)
        handlers = dict(signals._handlers(drain, has_terminal=False))
        with entered(Call.of(request_id=None, traceparent=None)):
            handlers[number]()
        begun[number.name] = drain.has_begun
    assert begun == {
        "SIGTERM": True,
        "SIGQUIT": True,
        "SIGINT": True,
        "SIGHUP": False,
        "SIGUSR1": False,
        "SIGUSR2": False,
    }
