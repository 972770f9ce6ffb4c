"""The ASGI scope of a request (HTTP, specification 2.3)."""

import asyncio
from typing import Any
from urllib.parse import unquote

from starlette.types import Scope

from sidecar.http_server.http1.refusal import REFUSAL, RefusedError
from sidecar.http_server.http1.request_head import RequestHead

_ASGI = {"version": "3.0", "spec_version": "2.3"}


def of_connection(transport: asyncio.Transport, peer: str | None) -> Scope:
    """Return what the scopes of all requests of a connection have in common.

    `peer` is the name of the client if its address is not that of the connection.
    """
    server, client = map(transport.get_extra_info, ("sockname", "peername"))
    named = (peer, 0) if peer is not None else client
    return {
        "type": "http",
        "scheme": "http" if transport.get_extra_info("sslcontext") is None else "https",
        "server": (server, None) if isinstance(server, str) else server and server[:2],
        "client": named and named[:2],
        "root_path": "",
    }


def of_request(connection: Scope, head: RequestHead, state: dict[str, Any]) -> Scope:
    """Return the scope of a request on `connection`. `state` is that of the application."""
    path, _, query = head.target.partition(b"?")
    return {
        **connection,
        "asgi": _ASGI.copy(),
        "http_version": head.version,
        "method": head.method,
        "path": unquote(path.decode("ascii")),
        "raw_path": path,
        "query_string": query,
        "headers": head.fields,
        "state": state.copy(),
    }


def of_refusal(connection: Scope, refusal: RefusedError, state: dict[str, Any]) -> Scope:
    """Return the scope of a request that could not be read, with `refusal` under REFUSAL."""
    return {
        **connection,
        "asgi": _ASGI.copy(),
        "http_version": "1.1",
        "method": "",
        "path": "",
        "raw_path": b"",
        "query_string": b"",
        "headers": [],
        "state": state.copy(),
        REFUSAL: refusal,
    }
