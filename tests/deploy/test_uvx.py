"""Test of the wheel as uvx runs it: in an environment that it makes for the command."""

import sys
from pathlib import Path

import pytest

from tests.sidecar_process import ROOT, find_tool, run, serving
from tests.ways import Sent, basic, open_ways


@pytest.mark.tools
async def test_uvx_runs_the_wheel(tmp_path: Path) -> None:
    """`uvx` needs nothing but the wheel and the package of the extra `dev` to serve everything."""
    uvx = find_tool("uvx")
    build = (sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path)
    assert (await run(*build)).status == 0
    (wheel,) = tmp_path.glob("karmo_sidecar-*.whl")  # noqa: ASYNC240 nothing else waits here
    shown = "uvx --with joserfc --from dist/karmo_sidecar-*.whl karmo-sidecar dev"
    assert shown in (ROOT / "docs/deployment.md").read_text("utf-8")
    _, *arguments, _ = shown.replace("dist/karmo_sidecar-*.whl", str(wheel)).split()
    locked = ("--quiet", "--constraints", ROOT / "requirements.txt")
    async with (
        serving("dev", program=(uvx, *locked, *arguments), cwd=tmp_path) as sidecar,
        open_ways(sidecar.addresses) as ways,
    ):
        sent = Sent(
            fields={"grant_type": "client_credentials"},
            authorization=(basic("demo-partner", "demo-secret"),),
        )
        for way in ways.values():
            token = (await way(sent)).token
            assert token is not None
            assert token["token_type"] == "Bearer"
