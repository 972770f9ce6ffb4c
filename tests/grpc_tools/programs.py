"""Tools and libraries for gRPC callers, with their packages installed once.

If a tool is missing the calling test is skipped, or fails if the environment has CI=true.
"""

import asyncio
from pathlib import Path

from tests.sidecar_process import Ended, find_tool, run
from tests.third_party import find_tool_since, install, install_npm

HERE = Path(__file__).parent
DOWNLOADS = HERE / ".downloads"
METHOD = "karmo.auth.v1.TokenService.ExchangeToken"


async def go_tool(name: str) -> Path:
    """Return the path of a tool in `go/go.mod`. All are built together; that takes a minute."""
    go = find_tool_since("go", (1, 26), "version")
    command = (go, "build", "-o", f"{DOWNLOADS}/go/", "tool")
    env = {"GOTOOLCHAIN": "local"}
    await asyncio.to_thread(install, HERE / "go/go.sum", DOWNLOADS / "go", *command, env=env)
    return DOWNLOADS / "go" / name


async def run_node(*arguments: str) -> Ended:
    """Run `node/exchange.mjs`, by grpc-js."""
    node = await asyncio.to_thread(install_npm, HERE / "node")
    return await run(node, HERE / "node/exchange.mjs", *arguments)


async def run_java(*arguments: str) -> Ended:
    """Run `java/Exchange.java`, by grpc-java."""
    find_tool_since("javac", (17,))
    java, maven = find_tool_since("java", (17,)), find_tool("mvn")
    packages = DOWNLOADS / "java"
    goal = ("dependency:copy-dependencies", f"-DoutputDirectory={packages}")
    flags = ("--batch-mode", f"-Dmaven.repo.local={packages}/repository")
    await asyncio.to_thread(install, HERE / "java/pom.xml", packages, maven, *flags, *goal)
    return await run(java, "-cp", f"{packages}/*", HERE / "java/Exchange.java", *arguments)
