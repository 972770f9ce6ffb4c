"""Tests of the documents: their statements are current, and their commands run."""

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
import pytest_asyncio

from sidecar.auth_api.faults import FAULTS
from sidecar.dev_auth_api import DEMO_CLIENTS
from sidecar.problems import CATALOGUE
from sidecar.transcoding import Options
from tests import sidecar_process
from tests.sidecar_process import ROOT
from tests.sources import modules
from tests.transcoding.cases.differences import DIFFERENCES
from tests.transcoding.test_envoy import CASES

DOCUMENTS = ("README.md", "docs/rest-api.md", "docs/grpc.md")
# The addresses in the documents, by the names in the sidecar's log.
DEFAULTS = {"rest": "127.0.0.1:8080", "grpc": "127.0.0.1:50051"}


def shown_commands() -> list[str]:
    """Return every curl and grpcurl command in the documents."""
    blocks = [
        block
        for name in DOCUMENTS
        for block in re.findall(r"```sh\n(.*?)```", (ROOT / name).read_text("utf-8"), re.DOTALL)
    ]
    commands = "".join(blocks).replace("\\\n", " ").splitlines()
    return [command for command in commands if re.match(r"curl|(\.venv/bin/)?grpcurl", command)]


@pytest_asyncio.fixture(scope="module", name="sidecar")
async def _sidecar() -> AsyncIterator[sidecar_process.Sidecar]:
    async with sidecar_process.serving("dev") as sidecar:
        yield sidecar


@pytest.mark.parametrize("command", shown_commands())
async def test_a_shown_command_runs(command: str, sidecar: sidecar_process.Sidecar) -> None:
    """A curl or grpcurl command of the documents runs as pasted, and has the described answer."""
    sidecar_process.find_tool("grpcurl")
    for name, address in DEFAULTS.items():
        command = command.replace(address, sidecar.addresses[name])
    path = {"PATH": f"{sidecar_process.BIN}:{sidecar_process.path_of_a_terminal()}"}
    end = await sidecar_process.run("bash", "-c", command, env=path)
    expected = "invalid_client" if "wrong" in command else ""
    assert expected in end.stdout + end.stderr
    assert (end.status == 0) is (not expected or command.startswith("curl")), end.stderr


def test_commands_are_found() -> None:
    """The documents have commands of both tools, so that the test above is not empty."""
    commands = shown_commands()
    assert sum(command.startswith("curl") for command in commands) >= 5
    assert sum("grpcurl" in command for command in commands) >= 3


async def test_the_demo_clients_are_those_of_the_readme(sidecar: sidecar_process.Sidecar) -> None:
    """README.md has every client of the embedded auth-api, with its secret and its outcome."""
    rows = re.findall(
        r"^\| `([\w-]+)` \| `([\w-]+)` \| (\d+)(?: `(\w+)`)?",
        (ROOT / "README.md").read_text("utf-8"),
        re.MULTILINE,
    )
    assert [name for name, *_ in rows] == [client.client_id for client in DEMO_CLIENTS]
    url = f"http://{sidecar.addresses['rest']}/v1/oauth/token"
    async with httpx2.AsyncClient(trust_env=False) as client:
        for name, secret, status, error in rows:
            form = {"grant_type": "client_credentials"}
            response = await client.post(url, auth=(name, secret), data=form)
            outcome = (response.status_code, response.json().get("error", ""))
            assert outcome == (int(status), error)


def test_git_ignores_the_files_of_the_documents() -> None:
    """What a shown command writes into the working tree, such as a key, is not committed."""
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    written = {
        name
        for page in pages
        for name in re.findall(
            r"(?:\w .*[^-=2&<]> ?|_out=)([a-z]\w+\.\w+)\b", page.read_text("utf-8")
        )
    }
    assert {"sidecar.log", "client.key"} <= written
    assert written <= set((ROOT / ".gitignore").read_text("utf-8").splitlines())


async def test_the_python_example_runs(sidecar: sidecar_process.Sidecar) -> None:
    """The script that docs/grpc.md names gets a token, and decodes the details of a failure."""
    assert "python docs/exchange_token.py`" in (ROOT / "docs/grpc.md").read_text("utf-8")
    script = (ROOT / "docs/exchange_token.py").read_text("utf-8")
    moved = script.replace(DEFAULTS["grpc"], sidecar.addresses["grpc"])
    end = await sidecar_process.run(sys.executable, "-c", moved)
    assert end.status == 0, end.stderr
    token, code, *details = end.stdout.splitlines()
    assert (token, code) == ("a token for 3600 seconds", "UNAUTHENTICATED")
    assert {"karmoCode: 40120001", "reason: INVALID_CLIENT"} <= set(details)


# Transcoding

TRANSCODING = (ROOT / "docs/transcoding.md").read_text("utf-8")


async def test_the_transcoding_example_runs(
    sidecar: sidecar_process.Sidecar, tmp_path: Path
) -> None:
    """docs/transcoding.md has the script unchanged, and it serves a remote gRPC service."""
    script = (ROOT / "docs/transcoding_example.py").read_text("utf-8")
    assert f"```python\n{script}```" in TRANSCODING
    moved = script.replace(DEFAULTS["grpc"], sidecar.addresses["grpc"])
    (tmp_path / "transcoding_example.py").write_text(moved, "utf-8")
    serve, call = re.findall(r"```sh\n(.*?)\n```", TRANSCODING)[:2]
    _, *arguments = serve.replace("docs", str(tmp_path)).replace("8090", "0").split()
    async with sidecar_process.started(sys.executable, *arguments) as server:
        said = await server.stderr.find("running on http://127.0.0.1:")
        address = re.search(r"127\.0\.0\.1:\d+", said)
        assert address
        end = await sidecar_process.run("bash", "-c", call.replace("127.0.0.1:8090", address[0]))
    assert json.loads(end.stdout)["token_type"] == "Bearer", end.stderr


async def test_the_openapi_example_runs() -> None:
    """docs/transcoding.md has the script unchanged, and it prints a document of the service."""
    script = (ROOT / "docs/openapi_example.py").read_text("utf-8")
    assert f"```python\n{script}```" in TRANSCODING
    end = await sidecar_process.run(sys.executable, "docs/openapi_example.py", cwd=ROOT)
    assert end.status == 0, end.stderr
    assert list(json.loads(end.stdout)["paths"]) == ["/v1/oauth/token"]


def test_the_options_table_is_complete() -> None:
    """docs/transcoding.md names every option of a transcoder, in order."""
    section = TRANSCODING.partition("## Options\n")[2].partition("\n## ")[0]
    named = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert named == [field.name for field in dataclasses.fields(Options)]


def test_the_differences_are_told() -> None:
    """docs/transcoding.md has every tested difference from Envoy, with its reason."""
    rows = "".join(f"| {name} | {reason} |\n" for name, reason in DIFFERENCES.items())
    assert f"|---|---|\n{rows}\n" in TRANSCODING
    assert f"sends {len(CASES)} requests" in TRANSCODING


@pytest.mark.parametrize(("page", "least"), [("transcoding.md", 24), ("reliability.md", 80)])
def test_what_shows_a_rule_is_there(page: str, least: int) -> None:
    """Every test that a page names exists."""
    named = re.findall(r"`(test_\w+)::(\w+)`", (ROOT / "docs" / page).read_text("utf-8"))
    assert len(named) >= least
    texts = {path.stem: path.read_text("utf-8") for path in modules()}
    assert [names for names in named if f"def {names[1]}(" not in texts[names[0]]] == []


@pytest.mark.parametrize("script", ["problem_examples", "layout_picture", "settings_table"])
def test_what_is_generated_is_current(script: str) -> None:
    """The problems, the picture of the layout and the table of settings are those of the code."""
    ended = subprocess.run(
        [sys.executable, ROOT / f"docs/{script}.py", "--check"], check=False, cwd=ROOT
    )
    assert ended.returncode == 0, "run `make docs`"


def test_every_upstream_fault_has_its_row() -> None:
    """docs/operations.md says of each fault, and of no other, what it means and what to do."""
    page = (ROOT / "docs/operations.md").read_text("utf-8")
    table = page.partition("| `upstream_fault` | meaning |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \| .+ \| .+ \|$", table, re.MULTILINE) == list(FAULTS)


def test_every_reason_has_its_row() -> None:
    """docs/operations.md has a row for each reason, with its status and the faults that give it."""
    page = (ROOT / "docs/operations.md").read_text("utf-8")
    table = page.partition("### Reasons\n")[2].partition("\n### ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| [^|]+ \|([^|]*)\|$", table, re.MULTILINE)
    assert [(name, int(status), re.findall(r"\w+", faults)) for name, status, faults in rows] == [
        (
            entry.name,
            entry.http_status,
            [name for name, fault in FAULTS.items() if fault.reason == reason],
        )
        for reason, entry in CATALOGUE.items()
    ]


def test_the_shown_problem_is_a_problem() -> None:
    """The failure in README is JSON with all members that a problem always has."""
    page = (ROOT / "README.md").read_text("utf-8")
    shown = [json.loads(block) for block in re.findall(r"```json\n({\"type.*?)\n```", page)]
    members = {"type", "title", "status", "karmoCode", "instance", "error"}
    assert [members - problem.keys() for problem in shown] == [set()]
