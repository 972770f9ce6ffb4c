"""The token endpoint by hand, on Starlette and uvicorn.

`python -m benchmarks.servers.starlette_server CLIENT PARSER URL` asks the auth-api at URL
by CLIENT (see clients.py), parses HTTP by PARSER (httptools or h11) and prints where it
listens.
"""

import gc
import socket
import sys
from base64 import b64decode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from benchmarks.servers.clients import connect


@asynccontextmanager
async def _lifespan(client: str, url: str, _app: Starlette) -> AsyncIterator[Mapping[str, Any]]:
    async with connect(client, url) as ask:
        gc.freeze()  # as the sidecar does
        yield {"ask": ask}


async def _token(request: Request) -> JSONResponse:
    values = await _values(request)
    if values.get("grant_type") != "client_credentials":
        return JSONResponse({"error": "unsupported_grant_type"}, 400)
    kind, _, encoded = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "basic":
        client_id, _, secret = b64decode(encoded).decode().partition(":")
    else:
        client_id, secret = values["client_id"], values["client_secret"]
    token = await request.state.ask(client_id, secret)
    return JSONResponse(dict(token), headers={"Cache-Control": "no-store"})


async def _values(request: Request) -> Mapping[str, Any]:
    if request.headers["content-type"] == "application/json":
        values: Mapping[str, Any] = await request.json()
        return values
    return dict(parse_qsl((await request.body()).decode()))


def main(client: str, parser: str, url: str) -> None:
    """Serve until killed."""
    app = Starlette(
        routes=[Route("/v1/oauth/token", _token, methods=["POST"])],
        lifespan=partial(_lifespan, client, url),
    )
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    host, port = listener.getsockname()
    config = uvicorn.Config(
        app, http=parser, loop="uvloop", lifespan="on", access_log=False, log_level="warning"
    )
    print(f"listening on {host}:{port}", flush=True)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main(*sys.argv[1:])
