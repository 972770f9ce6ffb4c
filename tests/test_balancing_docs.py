"""Tests of the pages on proxies: what they show runs as it stands, but for names and ports."""

import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from sidecar.settings.addresses import UnixAddress
from sidecar.settings.sources import load
from tests.faults.conditions import eventually
from tests.faults.front import balanced
from tests.faults.wire import accepts, held_port
from tests.patience import PATIENT
from tests.sidecar_process import ROOT, SIDECAR, Sidecar, find_tool, run, started
from tests.upstream import TOKEN, Upstream
from tests.ways import Sent, basic, open_ways

OPERATIONS = (ROOT / "docs/operations.md").read_text("utf-8")
DEPLOYMENT = (ROOT / "docs/deployment.md").read_text("utf-8")
FORM = {"grant_type": "client_credentials"}
SENT = Sent(fields=FORM, authorization=(basic(),))
PUBLIC_URL = "https://api.example.com"


def block(page: str, heading: str, language: str) -> str:
    """Return the first block of `language` below `heading`."""
    section = page.partition(f"\n{heading}\n")[2]
    return section.partition(f"```{language}\n")[2].partition("```")[0]


def settings_in(text: str) -> Mapping[str, str]:
    """Return the settings that a block exports, by field name."""
    exported = dict(re.findall(r"^export SIDECAR_(\w+)=(\S+)$", text, re.MULTILINE))
    return {name.lower(): value for name, value in exported.items()}


@asynccontextmanager
async def pasted(text: str, upstream: Upstream) -> AsyncIterator[Sidecar]:
    """Run a block of a shell that ends with `karmo-sidecar serve`, on free ports, and kill it."""
    script = re.sub(r"(LISTEN=[\d.]+):\d+", r"\1:0", text)
    script = re.sub(r"(AUTH_API_TOKEN_URL)=\S+", rf"\1={upstream.url}", script)
    script = script.replace("karmo-sidecar", " ".join(SIDECAR))
    extra = {f"SIDECAR_{name.upper()}": value for name, value in PATIENT.items()}
    exports = "".join(f"export {name}={value}\n" for name, value in extra.items())
    async with started("bash", "-ec", exports + script) as sidecar:
        # check-config writes its line before the log begins.
        await sidecar.log.find("The settings are right.")
        await sidecar.serve()
        yield sidecar


async def exchange(addresses: Mapping[str, str]) -> Mapping[str, object]:
    """Exchange by both protocols, and return a problem."""
    async with open_ways(addresses) as ways:
        for way in ("form", "grpc"):
            assert (await ways[way](SENT)).token == TOKEN
        problem = (await ways["form"](Sent())).problem
        assert problem
        return problem


@pytest.mark.soak  # which needs the proxies anyway
async def test_behind_a_load_balancer(tmp_path: Path) -> None:
    """The commands of operations.md and the haproxy of scaling.md serve both protocols."""
    text = block(OPERATIONS, "### Behind a load balancer", "sh")
    assert settings_in(text)["public_url"] == PUBLIC_URL
    async with Upstream() as upstream, pasted(text, upstream) as sidecar:
        assert "warning" not in "".join(sidecar.stderr.seen)
        names = ("rest", "grpc", "admin")
        assert all(sidecar.addresses[name].startswith("0.0.0.0:") for name in names)
        here = {name: sidecar.addresses[name].replace("0.0.0.0", "127.0.0.1") for name in names}  # noqa: S104 as the page says
        async with balanced(tmp_path, [here]) as front:
            problem = await exchange(front)
    assert str(problem["type"]).startswith(f"{PUBLIC_URL}/problems/")


@asynccontextmanager
async def nginx(folder: Path, servers: str) -> AsyncIterator[Mapping[str, str]]:
    """Run nginx with `servers`, which listen on 8080 and 50051 as the page has it, elsewhere."""
    with held_port() as rest, held_port() as grpc:
        addresses = {"rest": f"127.0.0.1:{rest}", "grpc": f"127.0.0.1:{grpc}"}
        for name, port in (("rest", "8080"), ("grpc", "50051")):
            servers, count = re.subn(
                rf"listen {port}(.*);", rf"listen {addresses[name]}\1 reuseport;", servers
            )
            assert count == 1
        paths = "".join(
            f"{kind}_temp_path {kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        config = folder / "nginx.conf"
        config.write_text(
            "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr warn;\n"
            f"events {{ }}\nhttp {{\naccess_log off;\n{paths}{servers}}}\n"
        )
        command = (find_tool("nginx"), "-p", folder, "-c", config, "-e", "stderr")
        async with started(*command, cwd=folder):
            await eventually(lambda: all(map(accepts, addresses.values())))
            yield addresses


@pytest.mark.soak
async def test_nginx_before_unix_sockets() -> None:
    """The settings and the nginx of deployment.md serve both protocols over Unix sockets."""
    text = block(DEPLOYMENT, "## Unix sockets", "sh")
    servers = block(DEPLOYMENT, "## Unix sockets", "nginx")
    with TemporaryDirectory(prefix="karmo-") as name:
        folder = Path(name)
        script = text + (
            "export SIDECAR_ADMIN_LISTEN=127.0.0.1:0 SIDECAR_AUTH_API_TOKEN_URL=here\n"
            "karmo-sidecar check-config && exec karmo-sidecar serve\n"
        )
        async with (
            Upstream() as upstream,
            pasted(script.replace("/run/karmo-sidecar", name), upstream) as sidecar,
            nginx(folder, servers.replace("/run/karmo-sidecar", name)) as front,
        ):
            assert sidecar.addresses["rest"] == f"unix:{name}/rest.sock"
            problem = await exchange(front)
            assert str(problem["type"]).startswith(f"{PUBLIC_URL}/problems/")
            (curl,) = re.findall(r"^curl --unix-socket .*$", DEPLOYMENT, re.MULTILINE)
            end = await run("bash", "-c", curl.replace("/run/karmo-sidecar", name))
            assert json.loads(end.stdout) == TOKEN
            line = await sidecar.log.find('"protocol": "grpc"')
            assert '"peer": "unix"' in line
            assert '"client_address": "127.0.0.1"' in line


def test_every_form_of_an_address_is_one() -> None:
    """Each listen address in the table of deployment.md is accepted, and is shown so."""
    table = DEPLOYMENT.partition("| address | listens on |\n|---|---|\n")[2].partition("\n\n")[0]
    forms = [
        form for row in table.splitlines() for form in re.findall("`([^`]+)`", row.split("|")[1])
    ]
    assert len(forms) == 7
    for form in forms:
        address = load({}, {"rest_listen": form, "public_url": PUBLIC_URL}).rest_listen
        assert str(address) == form
        assert isinstance(address, UnixAddress) is form.startswith("unix:")
