"""Incidents of the processes: each runs sidecars in a certain state and scrapes.

An incident gets a stage and a directory of its own.
"""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import BinaryIO

import trustme

from sidecar.settings.types import Address
from tests import raw_http, test_runtime
from tests.alerts.stage import BEFORE, DURING, Stage, some_client
from tests.faults.upstream_scene import BOTH
from tests.faults.wire import host_and_port
from tests.scraped import scrape_until
from tests.sidecar_process import SIDECAR, environment, free, serving
from tests.tls.test_reloading import Mount, pair
from tests.upstream import Upstream
from tests.ways import open_deployment, open_ways


async def log_unread(stage: Stage, _directory: Path) -> None:
    """End what reads the log."""
    async with _with_log(stage) as log:
        await stage.scrapes(BEFORE)
        log.close()
        await stage.scrapes(DURING)


async def log_stalled(stage: Stage, _directory: Path) -> None:
    """Let what reads the log stop reading; it does not end."""
    async with _with_log(stage) as log:
        await stage.scrapes(BEFORE)
        for _ in range(DURING):
            await asyncio.gather(*(_many_lines(log.rest) for _ in range(4)))
            await stage.scrapes(1)
        log.close()


async def _many_lines(rest: Address) -> None:
    """Send 800 requests for a page that does not exist; each writes a line of the log."""
    get = b"GET /nowhere HTTP/1.1\r\nHost: sidecar.test\r\n%s\r\n"
    requests = get % b"" * 799 + get % b"Connection: close\r\n"
    async with raw_http.sent(rest, requests) as reader:
        assert (await reader.read()).count(b" 404 ") == 800


@dataclass(frozen=True, slots=True)
class _Log:
    """The end of a log that is read, up to `serving`, and the REST address of its sidecar."""

    pipe: BinaryIO
    rest: Address

    def close(self) -> None:
        """End the reader. Later lines cannot be written."""
        self.pipe.close()


@asynccontextmanager
async def _with_log(stage: Stage) -> AsyncIterator[_Log]:
    """Add a sidecar to `stage`, and give its log."""
    reading, writing = os.pipe()
    async with Upstream() as upstream:
        flags = free(auth_api_token_url=upstream.url)
        process = await asyncio.create_subprocess_exec(
            *SIDECAR, "serve", *flags, stdout=writing, env=environment()
        )
        os.close(writing)
        with os.fdopen(reading, "rb") as log:
            lines = await asyncio.to_thread(_until_serving, log.fileno())
            addresses = json.loads(lines)
            async with open_ways(addresses) as ways:
                stage.admins["a"], stage.ways["a"] = addresses["admin"], ways
                yield _Log(log, Address(*host_and_port(addresses["rest"])))
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


def _until_serving(descriptor: int) -> str:
    """Return the line that says that the sidecar serves."""
    text = b""
    while b'"message": "serving"' not in text or not text.endswith(b"\n"):
        text += os.read(descriptor, 65536)
    return next(line for line in text.decode().splitlines() if '"message": "serving"' in line)


async def certificates_expire(stage: Stage, directory: Path) -> None:
    """Use certificates that expire in ten days, in two days, and a day ago."""
    authority = trustme.CA()
    flags = {"auth_api_token_url": "https://localhost:9/"}
    for side, days in {"rest": 10, "grpc": 2, "auth_api": -1}.items():
        end = datetime.now(UTC) + timedelta(days=days)
        leaf = authority.issue_cert("localhost", not_after=end, not_before=end - timedelta(days=90))
        (directory / side).mkdir()
        files = Mount(directory / side, pair(leaf)).files("tls")
        flags[f"{side}_tls_certificate"] = str(files.certificate)
        flags[f"{side}_tls_key"] = str(files.key)
    async with open_deployment(**flags) as deployment:
        stage.admins["a"] = deployment.addresses.admin
        for _ in range(BEFORE):
            await stage.recording.take(stage.admins)


async def replicas_differ(stage: Stage, _directory: Path) -> None:
    """Run two sidecars with different limits."""
    async with (
        open_deployment(max_in_flight="32") as one,
        open_deployment(max_in_flight="64") as other,
    ):
        stage.add(one, "a")
        stage.add(other, "b")
        await stage.scrapes(BEFORE)
    stage.recording.hold(90)


async def drain_under_load(stage: Stage, _directory: Path) -> None:
    """Stop one of two sidecars while it serves, and replace it by a new one."""
    async with open_deployment() as other, Upstream() as upstream:
        stage.add(other, "b")
        serve = partial(serving, "serve", auth_api_token_url=upstream.url, lame_duck="3s")
        async with serve() as old, open_ways(old.addresses) as ways:
            stage.admins["a"], stage.ways["a"] = old.addresses["admin"], ways
            await stage.scrapes(BEFORE)
            old.signal(signal.SIGTERM)
            await old.log.find('"message": "stopping"')
            outcomes = await stage.call(some_client())
            await stage.recording.take(stage.admins)
            assert all(outcome.token for outcome in outcomes)
            del stage.ways["a"]
            await old.ended()
        await stage.scrapes(1)  # of the sidecar that has ended
        async with serve() as new, open_ways(new.addresses) as ways:
            stage.admins["a"], stage.ways["a"] = new.addresses["admin"], ways
            await stage.scrapes(DURING)


async def drain_without_end(stage: Stage, _directory: Path) -> None:
    """Stop the only sidecar while it has calls that do not end."""
    async with test_runtime.open_scene() as scene:
        admin = stage.admins["a"] = scene.callers.addresses["admin"]
        calls = [scene.call(way) for way in BOTH]
        await scene.hold.wait_for(len(calls))
        for _ in range(BEFORE):
            await stage.recording.take(stage.admins)
        await scene.stop()
        await scrape_until(admin, lambda page: page.value("karmo_sidecar_calls_in_flight") == 2)
        for _ in range(DURING):
            await stage.recording.take(stage.admins)
        scene.hold.release.set()
        assert all([(await call).token for call in calls])


async def restarted(stage: Stage, _directory: Path) -> None:
    """End the only sidecar and start it again, four times."""
    async with Upstream() as upstream:
        for _ in range(5):
            async with serving("serve", auth_api_token_url=upstream.url) as sidecar:
                stage.admins["a"] = sidecar.addresses["admin"]
                async with open_ways(sidecar.addresses) as ways:
                    stage.ways["a"] = ways
                    await stage.scrapes(1)
                sidecar.signal(signal.SIGTERM)
                await sidecar.ended()
    stage.recording.hold(4)


async def gone(stage: Stage, _directory: Path) -> None:
    """End the only sidecar, and start none."""
    async with Upstream() as upstream:
        async with (
            serving("serve", auth_api_token_url=upstream.url) as sidecar,
            open_ways(sidecar.addresses) as ways,
        ):
            stage.admins["a"], stage.ways["a"] = sidecar.addresses["admin"], ways
            await stage.scrapes(BEFORE)
        stage.ways.clear()
        await stage.scrapes(DURING)
