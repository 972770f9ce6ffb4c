"""Incidents: each runs sidecars with a fault, sends calls, and scrapes again and again.

An incident gets a `Stage` and a directory of its own. Callers of both protocols send calls
before each scrape.
"""

import asyncio
import itertools
import json
import os
import signal
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

from tests import test_runtime
from tests.alerts.recording import Recording
from tests.faults.scripted import resets
from tests.faults.upstream_scene import BOTH, open_scene
from tests.scraped import scrape_until
from tests.sidecar_process import SIDECAR, Sidecar, environment, find_tool, free, serving
from tests.tls.test_reloading import Mount, leaf_of, pair
from tests.upstream import TOKEN, Hold, Script, Upstream, answer
from tests.ways import Deployment, Outcome, Sent, Way, basic, open_deployment, open_ways

GRANT = {"grant_type": "client_credentials"}
WRONG = answer(401, {"error": "invalid_client"})
# Scrapes before a fault and during one: with tests.alerts.recording.STEP a quarter of an hour.
BEFORE, DURING = 4, 9
_DNS = """
mount --bind "$1/resolv.conf" /etc/resolv.conf
mount --bind "$1/hosts" /etc/hosts
shift
exec "$@"
"""


@dataclass(slots=True)
class Stage:
    """The sidecars of an incident, by instance: their admin listeners, and the ways into them."""

    recording: Recording = field(default_factory=Recording)
    admins: dict[str, object] = field(default_factory=dict)
    ways: dict[str, Mapping[str, Way]] = field(default_factory=dict)

    def add(self, deployment: Deployment, instance: str = "a") -> None:
        """Add a sidecar that runs in this process."""
        self.admins[instance] = deployment.addresses.admin
        self.ways[instance] = deployment.ways

    async def call(self, sent: Sent, each: int = 4) -> list[Outcome]:
        """Send so many equal calls at once, by each protocol, to each sidecar."""
        calls = [ways[way](sent) for ways in self.ways.values() for way in BOTH * each]
        return await asyncio.gather(*calls)

    async def scrapes(self, count: int, sent: Sent | None = None) -> None:
        """Scrape so often, each time after calls."""
        for _ in range(count):
            await self.call(sent or some_client())
            await self.recording.take(self.admins)


Incident = Callable[[Stage, Path], Awaitable[None]]
_numbers = itertools.count()


def some_client() -> Sent:
    """Return a good request of a client that has sent none before."""
    return Sent(fields=GRANT, authorization=(basic(f"partner-{next(_numbers)}"),))


async def nothing(stage: Stage, _: Path) -> None:
    """Serve all calls."""
    async with open_deployment() as deployment:
        stage.add(deployment)
        await stage.scrapes(BEFORE + DURING)


async def auth_api_down(stage: Stage, _: Path) -> None:
    """Let nothing listen at the address of the auth-api."""
    async with open_scene(max_in_flight="100") as scene:
        stage.add(scene.deployment)
        await stage.scrapes(BEFORE)
        scene.chaos.refuse()
        scene.chaos.reset()
        await stage.scrapes(DURING)


async def auth_api_slow(stage: Stage, _: Path) -> None:
    """Let the auth-api take 1.2 seconds for a token."""
    async with open_deployment() as deployment:
        stage.add(deployment)
        await stage.scrapes(BEFORE)
        deployment.upstream.script = late(1.2)
        await stage.scrapes(DURING)


def late(seconds: float) -> Script:
    """Return a script that answers with a token after so many seconds."""

    async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(seconds)
        writer.write(answer(200, TOKEN))
        await writer.drain()

    return script


async def auth_api_resetting(stage: Stage, _: Path) -> None:
    """Let the auth-api reset each connection on which a request has come."""
    async with open_deployment() as deployment:
        stage.add(deployment)
        await stage.scrapes(BEFORE)
        deployment.upstream.script = resets()
        await stage.scrapes(DURING)


async def wrong_certificate(stage: Stage, directory: Path) -> None:
    """Give the auth-api a certificate of an authority that the sidecar does not trust."""
    trusted, other = trustme.CA(), trustme.CA()
    trusted.cert_pem.write_to_path(directory / "ca.crt")
    flags = {"auth_api_tls_ca": str(directory / "ca.crt"), "max_in_flight": "100"}
    async with (
        open_scene(server_tls(trusted), **flags) as scene,
        Upstream(server_tls(other)) as replaced,
    ):
        stage.add(scene.deployment)
        await stage.scrapes(BEFORE)
        scene.chaos.target = replaced.url.split("/")[2]
        await stage.scrapes(DURING)


def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    """Return the context of an auth-api with a certificate of `authority`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf_of(authority).configure_cert(context)
    return context


@asynccontextmanager
async def with_hosts_file(directory: Path, port: int) -> AsyncIterator[Sidecar]:
    """Run a sidecar whose /etc/hosts is a file in `directory`; there is no DNS server."""
    (directory / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    (directory / "hosts").write_text("127.0.0.1 localhost auth-api.test\n")
    prefix = (find_tool("unshare"), "--mount", "sh", "-ec", _DNS, "sh", directory)
    async with serving(
        "serve",
        program=(*prefix, *SIDECAR),
        auth_api_token_url=f"http://auth-api.test:{port}/v1/oauth/token",
        auth_api_dns_stale="1s",
    ) as sidecar:
        yield sidecar


async def no_dns(stage: Stage, directory: Path) -> None:
    """Take the name of the auth-api out of the hosts file, where there is no DNS server."""
    async with (
        Upstream() as upstream,
        with_hosts_file(directory, int(upstream.url.split(":")[2].split("/")[0])) as sidecar,
        open_ways(sidecar.addresses) as ways,
    ):
        stage.admins["a"], stage.ways["a"] = sidecar.addresses["admin"], ways
        await stage.scrapes(BEFORE)
        (directory / "hosts").write_text("127.0.0.1 localhost\n")
        failed = "karmo_sidecar_dns_look_ups_failed_total"
        while (await stage.call(some_client()))[0].token:  # the last answer is fresh for 5 s
            await scrape_until(stage.admins["a"], lambda page: page.value(failed) >= 0)
        await stage.scrapes(DURING)


async def guesser(stage: Stage, _: Path) -> None:
    """Try secrets of many clients from one IP address."""
    limits = {"max_client_failures": "10", "max_address_failures": "12"}
    async with open_deployment(**limits) as deployment:
        stage.add(deployment)
        await stage.scrapes(BEFORE)
        deployment.upstream.reply = WRONG
        for _ in range(DURING):
            await asyncio.gather(*(stage.call(some_client(), each=1) for _ in range(4)))
            await stage.recording.take(stage.admins)


async def wrong_secret(stage: Stage, _: Path) -> None:
    """Let a partner have a wrong secret since a deployment, and try again and again."""
    async with open_deployment(max_client_failures="3") as deployment:
        stage.add(deployment)
        await stage.scrapes(BEFORE)
        deployment.upstream.reply = WRONG
        await stage.scrapes(DURING, some_client())


async def shedding(stage: Stage, _: Path) -> None:
    """Let the auth-api hold as many calls as there may be, and send more."""
    async with open_deployment(max_in_flight="2") as deployment:
        stage.add(deployment)
        for _ in range(BEFORE):
            await stage.call(some_client(), each=1)
            await stage.recording.take(stage.admins)
        hold = Hold()
        deployment.upstream.script = hold.script
        held = [asyncio.create_task(deployment.ways["form"](some_client())) for _ in range(2)]
        await hold.wait_for(2)
        await stage.scrapes(DURING)
        hold.release.set()
        assert all([(await call).token for call in held])


async def log_unread(stage: Stage, _: Path) -> None:
    """End what reads the log."""
    reading, writing = os.pipe()
    async with Upstream() as upstream:
        flags = free(auth_api_token_url=upstream.url)
        process = await asyncio.create_subprocess_exec(
            *SIDECAR, "serve", *flags, stdout=writing, env=environment()
        )
        os.close(writing)
        with os.fdopen(reading) as log:
            lines = await asyncio.to_thread(_until_serving, log.fileno())
            addresses = json.loads(lines)
            async with open_ways(addresses) as ways:
                stage.admins["a"], stage.ways["a"] = addresses["admin"], ways
                await stage.scrapes(BEFORE)
                log.close()
                await stage.scrapes(DURING)
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


async def replicas_differ(stage: Stage, _: Path) -> None:
    """Run two sidecars with different limits."""
    async with (
        open_deployment(max_in_flight="32") as one,
        open_deployment(max_in_flight="64") as other,
    ):
        stage.add(one, "a")
        stage.add(other, "b")
        await stage.scrapes(BEFORE)
    stage.recording.hold(90)


async def drain_under_load(stage: Stage, _: Path) -> None:
    """Stop one of two sidecars while it serves, and replace it by a new one."""
    async with open_deployment() as other, Upstream() as upstream:
        stage.add(other, "b")
        serve = {"auth_api_token_url": upstream.url, "lame_duck": "3s"}
        async with serving("serve", **serve) as old, open_ways(old.addresses) as ways:
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
        async with serving("serve", **serve) as new, open_ways(new.addresses) as ways:
            stage.admins["a"], stage.ways["a"] = new.addresses["admin"], ways
            await stage.scrapes(DURING)


async def drain_without_end(stage: Stage, _: Path) -> None:
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


async def restarted(stage: Stage, _: Path) -> None:
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


async def gone(stage: Stage, _: Path) -> None:
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
