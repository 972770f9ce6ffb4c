"""Connections of redis-py to addresses that our own resolver has looked up.

redis-py lets the event loop look the name up. A look-up of uvloop that hangs delays the end of
the process, until the system gives it up.
"""

import asyncio
import ssl
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from redis.asyncio import Connection, SSLConnection
from redis.asyncio.connection import RedisSSLContext
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from sidecar.auth_api.dns.look_up import LookUpError, SocketAddress
from sidecar.auth_api.dns.resolver import Resolver

# Used only if redis-py connects by a way that is not known here. It cannot be resolved (RFC 6761).
_UNRESOLVED = "unresolved.invalid"


class ResolvedConnection(Connection):
    """A connection to the first of the addresses of `name` that accepts one.

    `resolver` looks `name` up, within `socket_connect_timeout` seconds.
    """

    def __init__(self, *, name: str, resolver: Resolver, **options: Any) -> None:
        super().__init__(host=_UNRESOLVED, **options)
        self._name = name
        self._resolver = resolver

    async def connect_check_health(
        self, check_health: bool = True, retry_socket_connect: bool = True
    ) -> None:
        """Open the connection, unless it is open. Raises what redis-py does, and LookUpError."""
        if self.is_connected:
            return
        *others, last = await self._resolve()
        for address in others:
            self.host = address.host
            with suppress(RedisConnectionError, RedisTimeoutError):
                await super().connect_check_health(check_health, retry_socket_connect)
                return
        self.host = last.host
        await super().connect_check_health(check_health, retry_socket_connect)

    async def _resolve(self) -> Sequence[SocketAddress]:
        try:
            async with asyncio.timeout(self.socket_connect_timeout):
                return await self._resolver.resolve(self._name, self.port)
        except TimeoutError:
            raise LookUpError("HUNG") from None


class ResolvedTlsConnection(ResolvedConnection, SSLConnection):
    """The same by TLS, with a certificate for `name` that the operating system trusts."""

    def __init__(self, *, name: str, **options: Any) -> None:
        super().__init__(name=name, **options)
        self.ssl_context = _Tls(name)


class _Tls(RedisSSLContext):
    """What redis-py asks for its SSL context."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.context = _NamedContext.of(name)


class _NamedContext(ssl.SSLContext):
    """Begins each connection for the server `name`, not for the IP address it goes to."""

    forwarded: ssl.SSLContext
    name: str

    @classmethod
    def of(cls, name: str) -> "_NamedContext":
        context = cls(ssl.PROTOCOL_TLS_CLIENT)
        context.forwarded, context.name = ssl.create_default_context(), name
        return context

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        return self.forwarded.wrap_bio(*args, **(kwargs | {"server_hostname": self.name}))
