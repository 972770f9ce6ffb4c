"""Tests of the page of the Python client: its samples run, and print what it says."""

import re
import sys
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.sidecar_process import ROOT, Sidecar, printed, run, serving

README = (ROOT / "clients/python/README.md").read_text("utf-8")
SAMPLES: list[tuple[str, str]] = re.findall(
    r"```python\n(.*?)```\n\n```text\n(.*?)```", README, re.DOTALL
)


@pytest_asyncio.fixture(scope="module", name="sidecar")
async def _sidecar() -> AsyncIterator[Sidecar]:
    async with serving("dev") as sidecar:
        yield sidecar


@pytest.mark.parametrize(("sample", "text"), SAMPLES)
async def test_a_sample_runs(sample: str, text: str, sidecar: Sidecar) -> None:
    """A sample runs as pasted, and prints the text that follows it."""
    moved = sample.replace("127.0.0.1:50051", sidecar.addresses["grpc"])
    path = {"PYTHONPATH": str(ROOT / "clients/python/src")}
    assert printed(await run(sys.executable, "-c", moved, env=path)) == text


def test_every_sample_runs() -> None:
    """No sample is without its text, so that the test above runs them all."""
    assert len(SAMPLES) == README.count("```python") == 3


def test_every_link_is_absolute() -> None:
    """The page is the description of the wheel: a path in the repository leads nowhere there."""
    links = re.findall(r"\]\(([^)]*)\)", README)
    assert [link for link in links if not link.startswith(("https://", "#"))] == []


def test_every_name_is_one_of_the_service() -> None:
    """The codes and reasons on the page are also on that of the service."""
    rows = re.findall(r"^\| (`[A-Z_]+`.*?) \| (.*?) \|", README, re.MULTILINE)
    names = set(re.findall(r"`([A-Z_]+)`", str(rows)))
    assert len(rows) == 4
    page = (ROOT / "docs/grpc.md").read_text("utf-8")
    assert {name for name in names if f"`{name}`" not in page} == set()
    assert '"Errors"' in README
    assert "\n## Errors\n" in page


def test_a_token_takes_five_lines() -> None:
    """The first sample is short, and docs/grpc.md has it too."""
    sample, text = SAMPLES[0]
    assert len([line for line in sample.splitlines() if line]) <= 5
    page = (ROOT / "docs/grpc.md").read_text("utf-8")
    assert f"```python\n{sample}```\n\n```text\n{text}```" in page
