"""Tests by openapi-generator, a program in Java: the clients that it makes work."""

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from tests.openapi.scene import Scene
from tests.openapi.test_npm_tools import RESULT
from tests.sidecar_process import find_tool, printed, run
from tests.third_party import find_tool_since, install

pytestmark = pytest.mark.tools

HERE = Path(__file__).parent
GENERATOR = HERE / "generator"
DOWNLOADS = HERE / ".downloads"
# No documents and no tests of the generated code.
PARTS = "apiTests=false,modelTests=false,apiDocs=false,modelDocs=false"


@dataclass(frozen=True, slots=True, kw_only=True)
class Generator:
    """The generator, and the JDK that runs it."""

    java: Path
    javac: Path

    async def generate(self, scene: Scene, folder: Path, *options: str) -> None:
        """Write a client for the document of `scene` into `folder`. Raises ToolError."""
        document = folder / "openapi.json"
        document.write_text(json.dumps(scene.document), "utf-8")
        jar = DOWNLOADS / "openapi-generator.jar"
        command = (self.java, "-jar", jar, "generate", "--input-spec", document)
        arguments: Sequence[str | Path] = ("--output", folder, "--global-property", PARTS, *options)
        printed(await run(*command, *arguments))


@pytest_asyncio.fixture(scope="module", name="generator")
async def _generator() -> Generator:
    return await asyncio.to_thread(prepare)


def prepare() -> Generator:
    """Install what the pom names, unless it is installed."""
    java, javac = find_tool_since("java", (17,)), find_tool_since("javac", (17,))
    maven = (find_tool("mvn"), "--batch-mode", f"-Dmaven.repo.local={DOWNLOADS}/repository")
    goals = ("dependency:copy", "dependency:copy-dependencies")
    install(GENERATOR / "pom.xml", DOWNLOADS, *maven, f"-Ddownloads={DOWNLOADS}", *goals)
    return Generator(java=java, javac=javac)


async def test_a_client_for_java_works(generator: Generator, scene: Scene, tmp_path: Path) -> None:
    """The client for Java compiles, gets a token, and reads a problem by its type."""
    names = "invokerPackage=karmo,apiPackage=karmo.api,modelPackage=karmo.model"
    options = ("--generator-name", "java", "--library", "native", "--additional-properties", names)
    await generator.generate(scene, tmp_path, *options)
    sources = (tmp_path / "src/main/java").rglob("*.java")
    libraries = f"{DOWNLOADS}/libraries/*"
    compiler = (generator.javac, "-Xlint:-options", "-d", tmp_path / "classes", "-cp", libraries)
    printed(await run(*compiler, *sources, GENERATOR / "ExchangeToken.java"))
    path = f"{tmp_path / 'classes'}{os.pathsep}{libraries}"
    end = await run(generator.java, "-cp", path, "ExchangeToken", scene.url)
    assert json.loads(printed(end)) == RESULT


async def test_a_client_for_python_works(
    generator: Generator, scene: Scene, tmp_path: Path
) -> None:
    """The client for Python gets a token by HTTP Basic, and raises a problem by its type."""
    options = ("--generator-name", "python", "--package-name", "karmo_client")
    await generator.generate(scene, tmp_path, *options)
    program = (HERE / "python_client.py").read_text("utf-8")
    (tmp_path / "program.py").write_text(program, "utf-8")
    end = await run(sys.executable, tmp_path / "program.py", scene.url)
    assert json.loads(printed(end)) == RESULT
