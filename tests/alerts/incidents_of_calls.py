"""Incidents on the way to the auth-api, and of calls: each lets a fault happen and scrapes.

An incident gets a stage and a directory of its own.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trustme

from tests.alerts.stage import BEFORE, DURING, Stage, some_client
from tests.faults.scripted import resets
from tests.faults.upstream_scene import open_scene
from tests.scraped import scrape
from tests.sidecar_process import SIDECAR, Sidecar, find_tool, serving
from tests.tls.test_reloading import leaf_of
from tests.upstream import TOKEN, Hold, Script, Upstream, answer
from tests.ways import open_deployment, open_ways

WRONG = answer(401, {"error": "invalid_client"})
_DNS = """
mount --bind "$1/resolv.conf" /etc/resolv.conf
mount --bind "$1/hosts" /etc/hosts
shift
exec "$@"
"""


async def nothing(stage: Stage, _directory: Path) -> None:
    """Serve all calls."""
    async with open_deployment() as deployment:
        stage.add(deployment)
        await stage.scrapes(BEFORE + DURING)


async def auth_api_down(stage: Stage, _directory: Path) -> None:
    """Let nothing listen at the address of the auth-api."""
    async with open_scene(max_in_flight="100") as scene:
        stage.add(scene.deployment)
        await stage.scrapes(BEFORE)
        scene.chaos.refuse()
        scene.chaos.reset()
        await stage.scrapes(DURING)


async def auth_api_slow(stage: Stage, _directory: Path) -> None:
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


async def auth_api_resetting(stage: Stage, _directory: Path) -> None:
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
async def with_hosts_file(directory: Path, port: int, stale: str) -> AsyncIterator[Sidecar]:
    """Run a sidecar whose /etc/hosts is a file in `directory`; there is no DNS server.

    `stale` is the time for which the last IP addresses are used, as the setting has it.
    """
    (directory / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    (directory / "hosts").write_text("127.0.0.1 localhost auth-api.test\n")
    prefix = (find_tool("unshare"), "--mount", "sh", "-ec", _DNS, "sh", directory)
    async with serving(
        "serve",
        program=(*prefix, *SIDECAR),
        auth_api_token_url=f"http://auth-api.test:{port}/v1/oauth/token",
        auth_api_dns_stale=stale,
    ) as sidecar:
        yield sidecar


async def no_dns(stage: Stage, directory: Path) -> None:
    """Take the name of the auth-api out of the hosts file, and use no old IP address."""
    assert await _without_name(stage, directory, stale="1s") == {False}


async def dns_failing(stage: Stage, directory: Path) -> None:
    """Take the name of the auth-api out of the hosts file, and use the last IP address."""
    assert await _without_name(stage, directory, stale="300s") == {True}


async def _without_name(stage: Stage, directory: Path, *, stale: str) -> set[bool]:
    """Take the name out of the hosts file; return whether calls are served at the end."""
    async with (
        Upstream() as upstream,
        with_hosts_file(directory, int(upstream.url.split(":")[2].split("/")[0]), stale) as sidecar,
        open_ways(sidecar.addresses) as ways,
    ):
        admin = stage.admins["a"] = sidecar.addresses["admin"]
        stage.ways["a"] = ways
        await stage.scrapes(BEFORE)
        (directory / "hosts").write_text("127.0.0.1 localhost\n")
        failed = "karmo_sidecar_dns_look_ups_failed_total"
        while not (await scrape(admin)).value(failed):  # the last answer is fresh for 5 s
            await stage.call(some_client())
        await stage.scrapes(DURING)
        return {bool(outcome.token) for outcome in await stage.call(some_client())}


async def guesser(stage: Stage, _directory: Path) -> None:
    """Try secrets of many clients from one IP address."""
    limits = {"max_client_failures": "10", "max_address_failures": "12"}
    async with open_deployment(**limits) as deployment:
        stage.add(deployment)
        await stage.scrapes(BEFORE)
        deployment.upstream.reply = WRONG
        for _ in range(DURING):
            await asyncio.gather(*(stage.call(some_client(), each=1) for _ in range(4)))
            await stage.recording.take(stage.admins)


async def wrong_secret(stage: Stage, _directory: Path) -> None:
    """Let a partner have a wrong secret since a deployment, and try again and again."""
    async with open_deployment(max_client_failures="3") as deployment:
        stage.add(deployment)
        await stage.scrapes(BEFORE)
        deployment.upstream.reply = WRONG
        await stage.scrapes(DURING, some_client())


async def shedding(stage: Stage, _directory: Path) -> None:
    """Let the auth-api hold as many calls as there may be, and send more."""
    async with open_deployment(max_in_flight="2") as deployment:
        stage.add(deployment)
        for _ in range(BEFORE):
            await stage.call(some_client(), each=1)
            await stage.recording.take(stage.admins)
        hold = Hold()
        deployment.upstream.script = hold.script
        held = asyncio.gather(*(deployment.ways["form"](some_client()) for _ in range(2)))
        await hold.wait_for(2)
        await stage.scrapes(DURING)
        hold.release.set()
        assert all(outcome.token for outcome in await held)
