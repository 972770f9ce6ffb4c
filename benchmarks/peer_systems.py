"""The systems of the comparison: how each is started, and which request it takes."""

import functools
import re
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from benchmarks import gateway
from benchmarks.base_commit import Base
from benchmarks.token_request import FORM, GRPC, JSON, TokenRequest
from benchmarks.unavailable import UnavailableError
from sidecar.settings.types import Address
from tests.sidecar_process import BIN, ROOT, SIDECAR, printed, run, serving, started
from tests.transcoding.envoy import envoy, reverse_proxy

# Given the address of the auth-api, it serves and gives its own address.
Start: TypeAlias = Callable[[Address], AbstractAsyncContextManager[Address]]
_NEVER = "1000000"  # a limit that no load reaches
_SERVICE = "karmo.auth.v1.TokenService"


@dataclass(frozen=True, slots=True)
class System:
    """One row of the table."""

    name: str
    request: TokenRequest
    start: Start


def _url(auth_api: Address) -> str:
    return f"http://{auth_api.host}:{auth_api.port}/v1/oauth/token"


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return Address(host, int(port))


@asynccontextmanager
async def _directly(auth_api: Address) -> AsyncIterator[Address]:
    yield auth_api


@asynccontextmanager
async def _sidecar(
    listener: str, program: Sequence[str | Path], cwd: Path, auth_api: Address
) -> AsyncIterator[Address]:
    """Serve by `program`, with every limit of calls or failures that it has out of reach."""
    usage = printed(await run(*program, "serve", "--help", cwd=cwd))
    limits: Sequence[str] = re.findall(r"--(max-[a-z-]+-(?:calls|failures))", usage)
    flags = {name.replace("-", "_"): _NEVER for name in limits}
    flags["auth_api_token_url"] = _url(auth_api)
    async with serving("serve", program=program, env=None, cwd=cwd, **flags) as ours:
        yield _address(ours.addresses[listener])


@asynccontextmanager
async def _program(*command: str | Path) -> AsyncIterator[Address]:
    """Serve by `command`, which prints where it listens."""
    async with started(*command) as server:
        try:
            line = await server.log.find("listening on ")
        except EOFError:
            raise RuntimeError(f"{command} ended:\n{await server.stderr.all()}") from None
        yield _address(line.split()[-1])


def _module(name: str, *arguments: str) -> AbstractAsyncContextManager[Address]:
    return _program(sys.executable, "-m", f"benchmarks.{name}", *arguments)


def auth_api() -> AbstractAsyncContextManager[Address]:
    """Serve the auth-api, which answers each request at once."""
    return _module("auth_api", "0")


def _starlette(client: str, parser: str) -> Start:
    return lambda auth_api: _module("servers.starlette_server", client, parser, _url(auth_api))


def _grpc_aio(client: str, auth_api: Address) -> AbstractAsyncContextManager[Address]:
    return _module("servers.grpc_server", client, _url(auth_api))


@asynccontextmanager
async def _envoy_transcoder(client: str, auth_api: Address) -> AsyncIterator[Address]:
    _need_envoy()
    image = FileDescriptorSet.FromString(
        (ROOT / "generated" / "karmo" / "descriptors.binpb").read_bytes()
    )
    async with (
        _grpc_aio(client, auth_api) as backend,
        envoy(image, [_SERVICE], backend.port) as address,
    ):
        yield address


@asynccontextmanager
async def _envoy_proxy(auth_api: Address) -> AsyncIterator[Address]:
    _need_envoy()
    async with reverse_proxy(auth_api.port) as address:
        yield address


def _need_envoy() -> None:
    if not shutil.which("envoy", path=str(BIN)):
        raise UnavailableError("Envoy is not installed")


@asynccontextmanager
async def _grpc_gateway(auth_api: Address) -> AsyncIterator[Address]:
    async with _program(await gateway.build(), _url(auth_api)) as address:
        yield address


def _sidecars(suffix: str, program: Sequence[str | Path], cwd: Path) -> tuple[System, System]:
    rest, grpc = (functools.partial(_sidecar, name, program, cwd) for name in ("rest", "grpc"))
    return System(f"ours REST{suffix}", FORM, rest), System(f"ours gRPC{suffix}", GRPC, grpc)


DIRECT = System("auth-api asked directly", FORM, _directly)
SYSTEMS = (
    *_sidecars("", SIDECAR, ROOT),
    System("Envoy, plain reverse proxy", FORM, _envoy_proxy),
    System(
        "Envoy transcoder, grpc.aio, httpx2", JSON, functools.partial(_envoy_transcoder, "httpx2")
    ),
    System(
        "Envoy transcoder, grpc.aio, aiohttp", JSON, functools.partial(_envoy_transcoder, "aiohttp")
    ),
    System("grpc-gateway, Go", JSON, _grpc_gateway),
    System("Starlette by hand, httpx2", FORM, _starlette("httpx2", "httptools")),
    System("Starlette by hand, aiohttp", FORM, _starlette("aiohttp", "httptools")),
    System("floor: Starlette on httptools", FORM, _starlette("constant", "httptools")),
    System("floor: Starlette on h11", FORM, _starlette("constant", "h11")),
    System("floor: grpc.aio", GRPC, functools.partial(_grpc_aio, "constant")),
)


def of_base(base: Base) -> tuple[System, System]:
    """Return the systems of an earlier commit."""
    return _sidecars(f" at {base.commit}", (base.python, "-m", "sidecar"), base.folder)
