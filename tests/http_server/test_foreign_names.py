"""The process does not start beside a library that lacks a private name which is replaced."""

import re

import pytest

from sidecar.http_server.foreign_names import ATTRIBUTES, NAMES, find_missing
from tests.sidecar_process import ROOT, SIDECAR, free, run

pytestmark = pytest.mark.usefixtures("measured")

MOST = 8  # may only become less
TAKE_AWAY = """
import sys
{code}
from sidecar.cli import main
sys.exit(main())
"""
LOSSES = {
    "a method": (
        "from h11._receivebuffer import ReceiveBuffer\ndel ReceiveBuffer.maybe_extract_lines",
        "h11._receivebuffer:ReceiveBuffer.maybe_extract_lines",
    ),
    "a class": ("import h11\ndel h11.Connection", "h11:Connection._receive_buffer"),
    "an attribute": (
        "import h11\nclass Other:\n    def __init__(self, role): pass\nh11.Connection = Other",
        "h11:Connection._receive_buffer",
    ),
}


@pytest.mark.parametrize(("code", "name"), LOSSES.values(), ids=LOSSES)
async def test_a_missing_name_stops_the_start(code: str, name: str) -> None:
    """One line says which library does not fit, and what to install; the status is 78."""
    end = await run(SIDECAR[0], "-c", TAKE_AWAY.format(code=code), "dev", *free())
    assert (end.status, end.stdout) == (78, "")
    assert end.stderr == (
        f"karmo-sidecar: {name} is missing: this release of the library does not fit; "
        "install the versions in requirements.txt\n"
    )


def test_every_name_is_there() -> None:
    """The installed libraries have all of them."""
    assert list(find_missing()) == []


def test_the_list_only_shrinks() -> None:
    """The names stand in docs/architecture.md and nowhere else, and there are not more of them."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    section = page.partition("## Private names of libraries")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)
    attributes = [f"{kind}.{attribute}" for kind, attribute in ATTRIBUTES]
    assert sorted(listed) == sorted([*NAMES, *attributes])
    assert len(listed) <= MOST


def test_no_other_module_has_private_names_of_libraries() -> None:
    """Only the parser of HTTP imports from a private module of a library."""
    pattern = re.compile(
        r"^ *(?:from|import) +(\w+(?:\.\w+)*\._\w+)|^ *from +([\w.]+ +import .*\b_[a-z]\w*)",
        re.MULTILINE,
    )
    found = {
        (path.name, "".join(names))
        for path in (ROOT / "sidecar").rglob("*.py")
        for names in pattern.findall(path.read_text())
    }
    assert found == {("connection.py", "h11._receivebuffer")}
