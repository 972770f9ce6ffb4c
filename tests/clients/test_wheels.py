"""Tests of both wheels in one environment, and in one process with different schemas."""

import os
import re
import shutil
import sys
import sysconfig
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from zipfile import ZipFile

import pytest
import pytest_asyncio

from tests.clients.sources import Scripted, issued, serving
from tests.sidecar_process import BIN, ROOT, printed, run

FOLDERS: Mapping[str, Path] = {"karmo_sidecar": ROOT, "karmo_auth_client": ROOT / "clients/python"}
SOURCES = ROOT / "clients/python/src"
MAX_SIZE = 60_000  # bytes
GET = """
from karmo_auth_client import TokenSource
with TokenSource("{}", "partner", "secret", plaintext=True) as tokens:
    print(tokens.get().authorization)
"""
# How a test sees that a wheel works, by its name. The server has no address to call.
WORKS: Mapping[str, str] = {
    "karmo_sidecar": "import sidecar.runtime; print(sidecar.__file__)",
    "karmo_auth_client": GET,
}
SERVER_CODE = """
from karmo.auth.v1 import token_service_pb2, token_service_pb2_grpc
from karmo.problem.v1 import problem_details_pb2
"""


@pytest.fixture(scope="module", name="wheels")
async def _wheels(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Build both wheels, with installed tools and without a package index."""
    folder = tmp_path_factory.mktemp("dist")
    for source in FOLDERS.values():
        build = (sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder)
        printed(await run(*build, cwd=source))
    return {wheel.name.partition("-")[0]: wheel for wheel in folder.iterdir()}


@pytest_asyncio.fixture(name="address")
async def _address() -> AsyncIterator[str]:
    async with serving(Scripted(*[issued()] * 3)) as address:
        yield address


class Environment:
    """A new virtual environment, with only our wheels in it."""

    def __init__(self, folder: Path) -> None:
        self._python = folder / "bin/python"

    async def create(self) -> None:
        """Make its folder."""
        folder = self._python.parent.parent
        printed(await run(sys.executable, "-m", "venv", "--without-pip", folder))

    async def pip(self, command: str, *arguments: str | Path) -> None:
        """Run a command of pip for it, by uv: that is ten times faster than pip."""
        uv = (BIN / "uv", "pip", command, "--offline", "--no-config", "--no-cache")
        printed(await run(*uv, "--python", self._python, *arguments))

    async def run(self, code: str) -> str:
        """Run Python in it, and return what it prints. Their dependencies are those of the tests.

        A path in PYTHONPATH is no site folder: the editable install of our own is not in it.
        """
        libraries = {"PYTHONPATH": sysconfig.get_path("purelib")}
        folder = self._python.parent.parent
        return printed(await run(self._python, "-c", code, env=libraries, cwd=folder))


@pytest.mark.parametrize("names", [tuple(FOLDERS), tuple(FOLDERS)[::-1]])
async def test_each_wheel_outlives_the_other(
    names: tuple[str, str], wheels: Mapping[str, Path], address: str, tmp_path: Path
) -> None:
    """Installed in either order, both work; uninstalled, the first one takes nothing along."""
    environment = Environment(tmp_path / "venv")
    await environment.create()
    for name in names:
        await environment.pip("install", "--no-deps", wheels[name])
    both = "".join(WORKS[name].format(address) + "\n" for name in names)
    shown = await environment.run(both)
    assert "Bearer the.access.token" in shown
    assert str(tmp_path) in shown
    first, second = names
    await environment.pip("uninstall", first)
    assert await environment.run(WORKS[second].format(address)) in shown
    with pytest.raises(Exception, match="No module named"):
        await environment.run(WORKS[first].format(address))


def test_the_wheels_share_no_file(wheels: Mapping[str, Path]) -> None:
    """No top-level package is in both wheels."""
    tops = []
    for wheel in wheels.values():
        with ZipFile(wheel) as archive:
            tops.append({name.partition("/")[0] for name in archive.namelist()})
    server, client = tops
    assert not server & client
    assert {name for name in client if ".dist-info" not in name} == {"karmo_auth_client"}


def test_the_client_is_whole(wheels: Mapping[str, Path]) -> None:
    """The client's wheel has its types, is small, and depends on nothing of ours."""
    wheel = wheels["karmo_auth_client"]
    assert wheel.stat().st_size < MAX_SIZE
    with ZipFile(wheel) as archive:
        held = {name: archive.read(name).decode() for name in archive.namelist()}
    (metadata,) = (text for name, text in held.items() if name.endswith("/METADATA"))
    assert sorted(re.findall(r"(?m)^Requires-Dist: ([\w-]+)", metadata)) == [
        "googleapis-common-protos",
        "grpcio",
        "protobuf",
    ]
    package = {path.relative_to(SOURCES) for path in SOURCES.rglob("*") if path.is_file()}
    expected = {str(path) for path in package if "__pycache__" not in path.parts}
    assert {name for name in held if ".dist-info/" not in name} == expected
    assert "karmo_auth_client/py.typed" in expected
    assert not [
        name for name, text in held.items() if re.search(r"(?m)^(from|import) karmo\.", text)
    ]


@pytest.fixture(scope="module", name="newer")
async def _newer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return code for the server that is generated from a newer schema, by the one recipe."""
    copy = tmp_path_factory.mktemp("newer")
    shutil.copytree(ROOT / "proto", copy / "proto")
    shutil.copy(ROOT / "Makefile", copy)
    (copy / ".venv").symlink_to(sys.prefix)
    changed = copy / "proto/karmo/auth/v1/token_service.proto"
    text = changed.read_text("utf-8")
    changed.write_text(text.replace("string token_type = 2", "string kind_of_token = 2"), "utf-8")
    changed = copy / "proto/karmo/problem/v1/problem_details.proto"
    text = changed.read_text("utf-8")
    changed.write_text(text.replace("definition = 50701", "definition = 50702"), "utf-8")
    make = ("make", "--old-file=.venv/complete", "generate")
    printed(await run(*make, env={"MAKEFLAGS": ""}, cwd=copy))
    return copy / "generated"


@pytest.mark.parametrize("implementation", ["upb", "python"])
@pytest.mark.parametrize("client_is_first", [True, False])
async def test_two_versions_of_the_schema(
    implementation: str, *, client_is_first: bool, newer: Path, address: str
) -> None:
    """In one process, the server's newer code and the client's work, whichever comes first."""
    parts = [GET.format(address), SERVER_CODE]
    code = "".join(parts if client_is_first else reversed(parts))
    seen = "print([*token_service_pb2.ExchangeTokenResponse.DESCRIPTOR.fields_by_name])"
    env = {
        "PYTHONPATH": os.pathsep.join((str(newer), str(SOURCES))),
        "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": implementation,
    }
    shown = printed(await run(sys.executable, "-c", code + seen, env=env))
    assert "Bearer the.access.token" in shown
    assert "['access_token', 'kind_of_token', 'expires_in']" in shown
