"""Load generators: wrk where it is installed, or ours for HTTP; ours for gRPC."""

import functools
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from benchmarks.grpc_load import GrpcExchange
from benchmarks.load import Exchange, Http1, Load, measure
from benchmarks.token_request import TokenRequest
from sidecar.settings.types import Address
from tests.sidecar_process import run

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
_FAILURE = re.compile(r"Non-2xx or 3xx responses.*|Socket errors.*|unable to .*")


class Loader(Protocol):
    """Sends a request over connections for some seconds, again after each answer."""

    async def __call__(
        self, address: Address, request: TokenRequest, *, connections: int, seconds: float
    ) -> Load:
        """Return the outcome. Raises ValueError or ConnectionError if a request fails."""


async def ours(
    address: Address, request: TokenRequest, *, connections: int, seconds: float
) -> Load:
    """Load by this process, over HTTP/1.1 or gRPC. It is a Loader."""
    make = _EXCHANGES[request.protocol](request)
    return await measure(address, make, connections=connections, seconds=seconds)


_EXCHANGES: Mapping[str, Callable[[TokenRequest], Callable[[], Exchange]]] = MappingProxyType(
    {
        "HTTP": lambda request: functools.partial(Http1, request.http1()),
        "gRPC": lambda request: functools.partial(GrpcExchange, request.path, request.body),
    }
)


async def wrk(address: Address, request: TokenRequest, *, connections: int, seconds: float) -> Load:
    """Load by wrk, for whole seconds and at least one. It is a Loader for HTTP."""
    with tempfile.TemporaryDirectory() as folder:
        script = _script(Path(folder), request)
        count = ("-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency")
        fields = [f"-H{name}: {value}" for name, value in request.fields.items()]
        url = f"http://{address.host}:{address.port}{request.path}"
        end = await run("wrk", *count, *fields, "-s", script, url)
    return parse_wrk(end.stdout + end.stderr)


def _script(folder: Path, request: TokenRequest) -> Path:
    path = folder / "request.lua"
    # A JSON string of ASCII characters is a string in Lua too.
    path.write_text(f'wrk.method = "POST"\nwrk.body = {json.dumps(request.body.decode())}\n')
    return path


def parse_wrk(text: str) -> Load:
    """Return the outcome that wrk printed. Raises ValueError if a request failed."""
    failure = _FAILURE.search(text)
    if failure:
        raise ValueError(f"wrk: {failure[0]}")
    return Load(
        requests=int(_find(r"^ *([0-9]+) requests in ", text)[1]),
        rate=float(_find(r"^Requests/sec: +([0-9.]+)", text)[1]),
        p50=_percentile(text, 50),
        p99=_percentile(text, 99),
    )


def _percentile(text: str, percent: int) -> float:
    found = _find(rf"^ *{percent}% +([0-9.]+)([a-z]+)", text)
    return float(found[1]) * _UNITS[found[2]]


def _find(pattern: str, text: str) -> re.Match[str]:
    found = re.search(pattern, text, re.MULTILINE)
    if found is None:
        raise ValueError(f"wrk printed something else than its figures:\n{text}")
    return found


def choose(seconds: float) -> tuple[Mapping[str, Loader], str]:
    """Return the loader of each protocol for loads of `seconds`, and what to print of them."""
    if seconds >= 1 and shutil.which("wrk"):
        return {"HTTP": wrk, "gRPC": ours}, "wrk for HTTP, our loader for gRPC"
    return {"HTTP": ours, "gRPC": ours}, "our loader for HTTP and gRPC"
