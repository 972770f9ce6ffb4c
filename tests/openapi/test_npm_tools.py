"""Tests by tools of npm: linters accept the document, and clients made from it work."""

import asyncio
import copy
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.openapi.described import DOCUMENT, Tree
from tests.openapi.scene import Scene
from tests.sidecar_process import ToolError, printed, run
from tests.third_party import install_npm
from tests.ways import PUBLIC_URL

pytestmark = pytest.mark.tools

NPM = Path(__file__).parent / "npm"
TOOLS = NPM / "node_modules/.bin"
# Without it, Redocly CLI reports each run to its vendor.
QUIET = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Node.js, with the packages of the lock file."""

    program: Path

    async def run(self, tool: str, *arguments: str | Path, cwd: Path) -> str:
        """Run a tool of a package; return its output. Raises ToolError."""
        return printed(await run(self.program, TOOLS / tool, *arguments, env=QUIET, cwd=cwd))


@pytest_asyncio.fixture(scope="module", name="node")
async def _node() -> Node:
    return await asyncio.to_thread(prepare)


def prepare() -> Node:
    """Install what the lock file names, unless it is installed."""
    return Node(program=install_npm(NPM))


def public(document: Tree = DOCUMENT) -> Tree:
    """Return a copy of the document with a URL that linters do not take for an example."""
    text = json.dumps(document).replace(DOCUMENT["servers"][0]["url"], PUBLIC_URL)
    return json.loads(text)


# Linters


async def redocly(node: Node, document: Tree, folder: Path) -> list[str]:
    """Return the rules of Redocly CLI (`recommended`) that `document` breaks."""
    (folder / "openapi.json").write_text(json.dumps(document), "utf-8")
    arguments = ("lint", "--config", NPM / "redocly.yaml", "--format", "json", "openapi.json")
    end = await run(node.program, TOOLS / "redocly", *arguments, env=QUIET, cwd=folder)
    return [problem["ruleId"] for problem in json.loads(end.stdout)["problems"]]


async def spectral(node: Node, document: Tree, folder: Path) -> list[str]:
    """Return the rules of Spectral (`spectral:oas`) that `document` breaks."""
    (folder / "openapi.json").write_text(json.dumps(document), "utf-8")
    arguments = ("lint", "--ruleset", NPM / "spectral.yaml", "--format", "json", "--quiet")
    end = await run(
        node.program, TOOLS / "spectral", *arguments, "openapi.json", env=QUIET, cwd=folder
    )
    return [problem["code"] for problem in json.loads(end.stdout)]


async def test_redocly_has_no_finding(node: Node, tmp_path: Path) -> None:
    """Redocly CLI finds nothing, neither an error nor a warning."""
    assert await redocly(node, public(), tmp_path) == []


async def test_spectral_has_no_finding(node: Node, tmp_path: Path) -> None:
    """Spectral finds nothing, not even a hint."""
    assert await spectral(node, public(), tmp_path) == []


async def test_linters_see_faults(node: Node, tmp_path: Path) -> None:
    """Both linters find what is missing in a document with faults."""
    document = copy.deepcopy(public())
    del document["servers"], document["info"]["contact"]
    del document["paths"]["/v1/oauth/token"]["post"]["operationId"]
    assert {"no-empty-servers", "operation-operationId"} <= {
        *await redocly(node, document, tmp_path)
    }
    assert {"info-contact", "oas3-api-servers"} <= {*await spectral(node, document, tmp_path)}


# Clients

RESULT: Mapping[str, Any] = {
    "tokenType": "Bearer",
    "lifetime": 3600,
    "code": "40120001",
    "status": 401,
}


@pytest_asyncio.fixture(scope="module", name="clients")
async def _clients(node: Node, scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generate both clients and compile them with a program for each; return the folder."""
    folder = tmp_path_factory.mktemp("clients")
    (folder / "node_modules").symlink_to(NPM / "node_modules")
    for path in (*NPM.glob("*.ts"), NPM / "tsconfig.json"):
        shutil.copy(path, folder)
    (folder / "openapi.json").write_text(json.dumps(scene.document), "utf-8")
    types = ("openapi.json", "--output", "generated/types.ts")
    await node.run("openapi-typescript", *types, cwd=folder)
    client = ("--input", "openapi.json", "--output", "generated/client")
    await node.run("openapi-ts", *client, "--client", "@hey-api/client-fetch", cwd=folder)
    await node.run("tsc", "--project", ".", cwd=folder)
    return folder


@pytest.mark.parametrize("program", ["openapi_fetch", "hey_api"])
async def test_a_generated_client_works(
    program: str, clients: Path, node: Node, scene: Scene
) -> None:
    """A strictly typed client gets a token, and a typed problem for a wrong secret."""
    end = await run(node.program, clients / f"build/{program}.js", scene.url)
    assert json.loads(printed(end)) == RESULT


async def test_the_compiler_sees_wrong_types(node: Node, clients: Path, tmp_path: Path) -> None:
    """A program that takes the karmoCode for a number does not compile."""
    shutil.copytree(clients, tmp_path / "wrong", symlinks=True)
    program = tmp_path / "wrong/openapi_fetch.ts"
    text = program.read_text("utf-8")
    program.write_text(text.replace("const code: string", "const code: number"), "utf-8")
    with pytest.raises(ToolError, match=r"openapi_fetch\.ts.*not assignable to type 'number'"):
        await node.run("tsc", "--project", ".", cwd=tmp_path / "wrong")
