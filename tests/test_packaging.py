"""Tests of the wheel: its contents, and that it works without the rest of the project."""

import json
import re
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
import pytest_asyncio

from tests.sidecar_process import ROOT, Ended, Sidecar, find_tool, free, run, serving
from tests.upstream import TOKEN, Upstream

PACKAGES = {"sidecar": ROOT / "sidecar", "karmo": ROOT / "generated/karmo"}
SAMPLES = {
    "sidecar/cli.py",
    "sidecar/rest/pages/page.html",
    "karmo/py.typed",
    "karmo/descriptors.binpb",
    "karmo/auth/v1/token_service_pb2.pyi",
    "karmo/auth/v1/token_service_pb2_grpc.pyi",
    "karmo/problem/v1/problem_details_pb2.pyi",
}


@pytest_asyncio.fixture(scope="module", name="wheel")
async def _wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel, with installed tools and without a package index."""
    folder = tmp_path_factory.mktemp("dist")
    build = (sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder)
    end = await run(*build)
    assert end.status == 0, end.stderr
    (wheel,) = folder.iterdir()
    return wheel


def test_the_wheel_holds_the_two_packages(wheel: Path) -> None:
    """It contains all of `sidecar` and of the generated `karmo`, and nothing else."""
    expected = {
        f"{name}/{path.relative_to(folder)}"
        for name, folder in PACKAGES.items()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == expected
    assert held >= SAMPLES


async def test_the_wheel_works_by_itself(wheel: Path, tmp_path: Path) -> None:
    """In an empty environment it runs `dev`, and without the extra it runs `serve`."""
    python, program = await install(f"{wheel}[dev]", tmp_path)
    async with serving("dev", program=[program], cwd=tmp_path) as sidecar:
        token = await exchange(sidecar, "demo-partner:demo-secret")
        assert token["expires_in"] == 3600
    end = await run(python, "-m", "sidecar", "--version", cwd=tmp_path)
    assert end.stdout.strip() in wheel.name
    assert (await pip(python, "uninstall", "--yes", "joserfc")).status == 0
    refused = await run(program, "dev", *free(), cwd=tmp_path)
    assert refused.status == 78
    async with (
        Upstream() as upstream,
        serving(
            "serve", program=[program], cwd=tmp_path, auth_api_token_url=upstream.url
        ) as sidecar,
    ):
        assert await exchange(sidecar, "partner:secret") == TOKEN


async def install(requirement: str, folder: Path) -> tuple[Path, Path]:
    """Install the locked versions into a new environment; return its Python and our program."""
    environment = folder / "venv"
    creation = await run(sys.executable, "-m", "venv", "--without-pip", environment)
    assert creation.status == 0, creation.stderr
    python = environment / "bin/python"
    # Without hashes: with one, pip would require hashes of all packages, ours too.
    locked = re.findall(r"(?m)^[\w.-]+==[^\\\n]+", (ROOT / "requirements.txt").read_text("utf-8"))
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(locked), "utf-8")
    end = await pip(
        python, "install", "--no-compile", "--constraint", str(constraints), requirement
    )
    assert end.status == 0, end.stderr
    return python, environment / "bin/karmo-sidecar"


async def pip(python: Path, *arguments: str) -> Ended:
    """Run our pip for the environment of `python`."""
    return await run(sys.executable, "-m", "pip", "--python", python, *arguments)


async def exchange(sidecar: Sidecar, user: str) -> dict[str, object]:
    """Exchange a token with curl."""
    url = f"http://{sidecar.addresses['rest']}/v1/oauth/token"
    end = await run(
        find_tool("curl"), "-sS", "-u", user, "-d", "grant_type=client_credentials", url
    )
    token: dict[str, object] = json.loads(end.stdout)
    return token
