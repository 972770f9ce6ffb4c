"""Tests of the code that buf generates for Go and TypeScript, and of the sample in Go."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.sidecar_process import (
    BIN,
    ROOT,
    Ended,
    Sidecar,
    find_tool,
    go_without,
    printed,
    run,
    serving,
)
from tests.third_party import install_npm

pytestmark = pytest.mark.tools
GO, TYPESCRIPT = "clients/go", "clients/typescript"


@pytest_asyncio.fixture(scope="module", name="generated")
async def _generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run `buf generate` as the documents say, in a copy of what it needs."""
    go = find_tool("go")
    await asyncio.to_thread(install_npm, ROOT / TYPESCRIPT)
    copy = tmp_path_factory.mktemp("clients") / "copy"
    shutil.copytree(ROOT / "proto", copy / "proto")
    for name in ("buf.yaml", "buf.gen.yaml"):
        shutil.copy(ROOT / name, copy)
    for folder in (GO, TYPESCRIPT):
        ignored = shutil.ignore_patterns("gen", "node_modules")
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignored)
    (copy / TYPESCRIPT / "node_modules").symlink_to(ROOT / TYPESCRIPT / "node_modules")
    if (await run(go, "mod", "download", cwd=copy / GO)).status:
        go_without("the Go modules cannot be downloaded")
    path = os.pathsep.join((str(go.parent), os.environ["PATH"]))
    printed(await run(BIN / "buf", "generate", cwd=copy, env={"PATH": path}))
    return copy


@pytest_asyncio.fixture(scope="module", name="sample")
async def _sample(generated: Path) -> Path:
    """Build the sample in Go."""
    go = find_tool("go")
    printed(await run(go, "vet", ".", cwd=generated / GO))
    printed(await run(go, "build", "-o", "sample", ".", cwd=generated / GO))
    return generated / GO / "sample"


@pytest_asyncio.fixture(scope="module", name="sidecar")
async def _sidecar() -> AsyncIterator[Sidecar]:
    async with serving("dev") as sidecar:
        yield sidecar


async def exchange(sample: Path, sidecar: Sidecar, secret: str, client_id: str) -> Ended:
    """Run the sample in Go as its first comment says."""
    env = {"CLIENT_ID": client_id, "CLIENT_SECRET": secret}
    return await run(sample, sidecar.addresses["grpc"], env=env)


async def test_the_sample_gets_a_token(sample: Path, sidecar: Sidecar) -> None:
    """With the right secret the sample in Go prints the lifetime of a token."""
    end = await exchange(sample, sidecar, "demo-secret", "demo-partner")
    assert end == Ended(status=0, stdout="a token for 3600 seconds\n", stderr="")


async def test_the_sample_explains_a_failure(sample: Path, sidecar: Sidecar) -> None:
    """It decodes the problem, the reason, and the field at fault."""
    end = await exchange(sample, sidecar, "wrong", "demo-partner")
    assert end.status == 1
    lines = end.stdout.splitlines()
    assert lines[0].startswith("Unauthenticated The client is unknown, or its secret is wrong.")
    assert lines[1:3] == ["karmoCode: 40120001 HTTP status: 401", "reason: INVALID_CLIENT"]
    assert lines[3].startswith("request id: ")
    refused = await exchange(sample, sidecar, "secret", "é")
    assert "\nfield: client_id " in refused.stdout


async def test_the_sample_is_formatted() -> None:
    """The sample is as gofmt formats it."""
    gofmt = find_tool("go").parent / "gofmt"
    assert printed(await run(gofmt, "-l", ROOT / GO / "main.go")) == ""


async def test_the_typescript_has_the_types_of_the_schema(generated: Path) -> None:
    """The compiler accepts the generated TypeScript, and code that uses it rightly; no other."""
    folder = generated / TYPESCRIPT
    use = """
import {{ create }} from "@bufbuild/protobuf";
import {{ ExchangeTokenRequestSchema, TokenService }} from "./karmo/auth/v1/token_service_pb.js";
const request = create(ExchangeTokenRequestSchema, {{ {}: "client_credentials" }});
console.log(TokenService.method.exchangeToken.name, request.grantType);
"""
    compiler = install_npm(folder), folder / "node_modules/typescript/bin/tsc"
    (folder / "gen/use.ts").write_text(use.format("grantType"), "utf-8")
    printed(await run(*compiler, cwd=folder))
    (folder / "gen/use.ts").write_text(use.format("grant"), "utf-8")
    wrong = await run(*compiler, cwd=folder)
    assert wrong.status != 0
    assert "'grant' does not exist" in wrong.stdout
