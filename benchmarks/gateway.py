"""Builds grpc-gateway with a servicer in Go; benchmarks/go_gateway has its sources.

The code that is generated from the schema stays in the virtual environment's folder.
"""

import os
import shutil
import sys
from pathlib import Path

from benchmarks.unavailable import UnavailableError
from tests.sidecar_process import ROOT, ToolError, path_of_a_terminal, printed, run

_SOURCES = ROOT / "benchmarks" / "go_gateway"
_FOLDER = ROOT / ".venv" / "go_gateway"
_PROTOS = ("karmo/auth/v1/token_service.proto", "karmo/schema/v1/constraints.proto")
_PLUGINS = ("go", "go-grpc", "grpc-gateway")


async def build() -> Path:
    """Return the program, which is built if need be. Raises UnavailableError if it cannot be."""
    if not shutil.which("go"):
        raise UnavailableError("Go is not installed")
    shutil.copytree(_SOURCES, _FOLDER, dirs_exist_ok=True)
    try:
        await _go("install", "tool")
        await _generate()
        await _go("build", "-o", "bin/gateway", ".")
    except ToolError as error:
        raise UnavailableError(f"the build fails: {str(error).strip().splitlines()[-1]}") from None
    return _FOLDER / "bin" / "gateway"


async def _go(*arguments: str) -> None:
    printed(await run("go", *arguments, env={"GOBIN": str(_FOLDER / "bin")}, cwd=_FOLDER))


async def _generate() -> None:
    outputs = [
        argument
        for plugin in _PLUGINS
        for argument in (
            f"--{plugin}_out={_FOLDER}",
            f"--{plugin}_opt=module=bench/gateway",
            *(f"--{plugin}_opt=M{proto}=bench/gateway/tokens" for proto in _PROTOS),
        )
    ]
    path = os.pathsep.join((str(_FOLDER / "bin"), path_of_a_terminal()))
    command = (sys.executable, "-m", "grpc_tools.protoc", "-Iproto", *outputs, *_PROTOS)
    printed(await run(*command, env={"PATH": path}))
