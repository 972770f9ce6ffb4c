"""Tests of deploy/systemd: the unit is valid and hardened, and fits the settings."""

import configparser
import re
import subprocess
from pathlib import Path

import pytest

from sidecar.process import file_limits
from sidecar.settings.addresses import EXAMPLE
from sidecar.settings.commands import EX_CONFIG
from sidecar.settings.sources import load
from tests.sidecar_process import BIN, ROOT, SIDECAR, find_tool, run

SYSTEMD = ROOT / "deploy/systemd"
UNIT = (SYSTEMD / "karmo-sidecar.service").read_text("utf-8")
PROGRAM = "/opt/karmo-sidecar/bin/karmo-sidecar"
# The scale of `systemd-analyze security` goes from 0 to 100; a unit without hardening has 96.
MOST_EXPOSED = 15


def settings_of_the_file() -> dict[str, str]:
    """Return the variables of settings.env."""
    lines = (SYSTEMD / "settings.env").read_text("utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if not line.startswith("#"))


def member(name: str) -> str:
    """Return the only value of a member of the unit's service."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign] # so its manual says
    parser.read_string(UNIT)
    return parser["Service"][name]


async def test_the_settings_are_right() -> None:
    """`check-config`, which the unit runs before each start, accepts settings.env."""
    end = await run(*SIDECAR, "check-config", env=settings_of_the_file())
    assert (end.status, end.stderr) == (0, "")


def test_the_limits_fit_the_settings() -> None:
    """The times and descriptors are those that the settings need, and a wrong setting stops it."""
    settings = load(settings_of_the_file(), {})
    assert float(member("TimeoutStopSec")) >= settings.termination_grace
    needed, _ = file_limits.raise_soft_limit(
        connections=settings.max_connections, calls=settings.max_in_flight
    )
    assert needed <= int(member("LimitNOFILE"))
    assert member("RestartPreventExitStatus") == str(EX_CONFIG)
    assert member("KillMode") == "mixed"


def test_there_is_a_folder_for_unix_sockets() -> None:
    """The unit makes the folder that the pages and faults name, for its user and group alone."""
    assert f"/run/{member('RuntimeDirectory')}/rest.sock" in EXAMPLE
    assert member("RuntimeDirectoryMode") == "0750"
    assert "AF_UNIX" in member("RestrictAddressFamilies").split()


def test_the_account_is_that_of_the_unit() -> None:
    """systemd-sysusers makes the user that the unit names."""
    account = (SYSTEMD / "karmo-sidecar.conf").read_text("utf-8")
    assert re.findall(r"^u (\S+)", account, re.MULTILINE) == [member("User")]


@pytest.mark.tools
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    """`systemd-analyze verify` finds nothing, and `security` little exposure."""
    analyze = find_tool("systemd-analyze")
    unit = tmp_path / "karmo-sidecar.service"
    unit.write_text(UNIT.replace(PROGRAM, str(BIN / "karmo-sidecar")), "utf-8")
    assert UNIT.count(PROGRAM) == 2
    assert analyzed(analyze, "verify", unit) == (0, "")
    threshold = f"--threshold={MOST_EXPOSED}"
    status, said = analyzed(analyze, "security", "--offline=true", "--no-pager", threshold, unit)
    assert status == 0, said
    unit.write_text(UNIT.replace("ProtectSystem=strict", "ProtectSystem=strictly"), "utf-8")
    assert "strictly" in analyzed(analyze, "verify", unit)[1]


def analyzed(analyze: Path, *arguments: str | Path) -> tuple[int, str]:
    """Return the status and the whole output of systemd-analyze."""
    done = subprocess.run([analyze, *arguments], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr
