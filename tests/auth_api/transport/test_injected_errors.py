"""Errors at each await of the transport: each is a fault of the list, or a bug of ours."""

import asyncio
import errno
import ssl
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from sidecar.auth_api.dns.look_up import system_look_up
from sidecar.auth_api.dns.resolver import Resolver
from sidecar.auth_api.transport.connection import Connection
from sidecar.auth_api.transport.errors import TransportError
from tests.auth_api.transport.server import Client, Server

ERRORS: Mapping[str, Exception] = {
    "no descriptor": OSError(errno.EMFILE, "canary"),
    "I/O": OSError(errno.EIO, "canary"),
    "reset": ConnectionResetError(errno.ECONNRESET, "canary"),
    "TLS": ssl.SSLError("canary"),
    "no memory": MemoryError("canary"),
    "a bug": KeyError("canary"),
}
# The fault of each error at each await; without one it leaves as it is, for the error boundary.
FAULTS: Mapping[str, Mapping[str, str]] = {
    "look-up": {
        "no descriptor": "local",
        "I/O": "dns",
        "reset": "dns",
        "TLS": "dns",
        "no memory": "local",
        "a bug": "dns",
    },
    "connect": {
        "no descriptor": "local",
        "I/O": "unreachable",
        "reset": "unreachable",
        "TLS": "tls",
    },
    "response": {
        "no descriptor": "closed",
        "I/O": "closed",
        "reset": "closed",
        "TLS": "tls",
        "no memory": "closed",
        "a bug": "closed",
    },
}
CASES = [(at, name) for at in FAULTS for name in ERRORS]


class Once:
    """Raises an error in place of the first call."""

    def __init__(self, call: Callable[..., Any], error: Exception) -> None:
        self._call = call
        self._errors = [error]

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Raise, or call."""
        if self._errors:
            raise self._errors.pop()
        return self._call(*arguments, **options)


def look_up(_host: str, port: int) -> Any:
    """Return the address of the server."""
    return system_look_up("127.0.0.1", port)


def ends_with(error: Exception) -> Callable[[Connection, bytes], None]:
    """Return what ends a connection when the response comes."""
    return lambda connection, _data: connection.connection_lost(error)


@pytest.mark.parametrize(("at", "name"), CASES)
async def test_an_error(monkeypatch: pytest.MonkeyPatch, at: str, name: str) -> None:
    """It ends its call, with no text of its own, and disturbs no later one."""
    error, fault = ERRORS[name], FAULTS[at].get(name)
    loop = asyncio.get_running_loop()
    resolver = Resolver(stale=60.0, look_up=Once(look_up, error) if at == "look-up" else look_up)
    if at == "connect":
        monkeypatch.setattr(loop, "create_connection", Once(loop.create_connection, error))
    async with Server() as server:
        url = server.url.copy_with(host="auth-api.test")
        async with Client(url, resolver=resolver) as client:
            with monkeypatch.context() as patch:
                if at == "response":
                    patch.setattr(Connection, "data_received", ends_with(error))
                with pytest.raises(TransportError if fault else type(error)) as raised:
                    await client.ask(b"a")
            if fault:
                assert getattr(raised.value, "name", None) == fault
                assert "canary" not in str(raised.value)
            assert await client.ask(b"b") == b"b"
            assert client.pool.counters.open == client.pool.counters.idle
