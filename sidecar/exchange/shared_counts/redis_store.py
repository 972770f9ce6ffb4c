"""The store of shared counts on a Redis or Valkey server, by redis-py (extra `shared-limits`)."""

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from redis import exceptions
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from sidecar.auth_api.dns.look_up import LookUpError
from sidecar.auth_api.dns.resolver import Resolver
from sidecar.exchange.failure_limit import MINUTE
from sidecar.exchange.shared_counts.names import PREFIX
from sidecar.exchange.shared_counts.redis_connection import (
    ResolvedConnection,
    ResolvedTlsConnection,
)
from sidecar.exchange.shared_counts.store import StoreError, Total
from sidecar.secret import Secret

# How long the last known addresses of the server are used while DNS fails, in seconds.
_DNS_STALE = 300.0
# Seconds that the end of the connection may take at the end of the process.
_CLOSING = 0.2
_DEFAULT_PORT = 6379
# Tests whether the server can be written to: 0 is added to it.
_PROBE = f"{PREFIX}:probe"
# One script, so that no count is left without an end. It is sent each time: its text is shorter
# than the code for a server that has lost it would be.
_SCRIPT = """
local answer = {}
for i, key in ipairs(KEYS) do
  local total = redis.call('INCRBY', key, ARGV[i + 1])
  local left = redis.call('PTTL', key)
  if left < 0 then
    redis.call('PEXPIRE', key, ARGV[1])
    left = tonumber(ARGV[1])
  end
  answer[2 * i - 1] = total
  answer[2 * i] = left
end
return answer
"""
# The first that fits is the fault.
_FAULTS: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    ((exceptions.OutOfMemoryError,), "full"),
    ((exceptions.ReadOnlyError,), "read_only"),
    (
        (
            exceptions.AuthenticationError,
            exceptions.AuthorizationError,
            exceptions.NoPermissionError,
        ),
        "denied",
    ),
    ((exceptions.BusyLoadingError,), "loading"),
    ((exceptions.TimeoutError, TimeoutError), "timeout"),
    ((LookUpError,), "dns"),
    ((exceptions.ConnectionError,), "connection"),
    ((exceptions.ResponseError,), "error_response"),
)
_OTHER_FAULT = "bad_answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Maximum times in seconds: of a new connection, of an answer, and of all of a request.

    A look-up of the name may take as long as a connection, whose handshake is part of it.
    """

    connect: float = 0.5
    answer: float = 0.5
    request: float = 1.0


TIMEOUTS = Timeouts()


class RedisStore:
    """Keeps counts on the server at `url`, over one connection.

    The scheme of `url` is redis, valkey, or rediss for TLS; user, password and the number of a
    database may be in it. A request is never sent twice.
    """

    def __init__(self, url: Secret[str], timeouts: Timeouts = TIMEOUTS) -> None:
        scheme, _, rest = url.reveal().partition(":")
        is_tls = scheme.lower() == "rediss"
        # Of these schemes redis-py knows two, and one of them would choose its own connection.
        options: dict[str, Any] = dict(parse_url(f"redis:{rest}"))
        name, port = str(options.pop("host")), options.pop("port", _DEFAULT_PORT)
        self.server = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
        pool = ConnectionPool(
            connection_class=ResolvedTlsConnection if is_tls else ResolvedConnection,
            max_connections=1,
            name=name,
            port=port,
            resolver=Resolver(stale=_DNS_STALE),
            socket_connect_timeout=timeouts.connect,
            socket_timeout=timeouts.answer,
            retry=Retry(NoBackoff(), 0),
            protocol=2,  # 3 would turn on notifications, which change timeouts and addresses
            driver_info=None,  # or each connection begins with two commands about redis-py
            **options,
        )
        self._client = Redis.from_pool(pool)
        self._timeout = timeouts.request

    async def add(self, amounts: Mapping[str, int]) -> Sequence[Total]:
        """Add to the counts, as Store says. Raises StoreError."""
        names, milliseconds = amounts or {_PROBE: 0}, round(MINUTE * 1000)
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._client.execute_command(  # type: ignore[no-untyped-call] # it has no annotations
                    "EVAL", _SCRIPT, len(names), *names, milliseconds, *names.values()
                )
        except Exception as error:  # what a server sends can break redis-py in any way
            raise StoreError(_fault_of(error)) from error
        return _totals(answer, len(names))[: len(amounts)]

    async def aclose(self) -> None:
        """Close the connection, in a bounded time."""
        with suppress(TimeoutError, exceptions.RedisError):
            async with asyncio.timeout(_CLOSING):
                await self._client.aclose()


def _fault_of(error: Exception) -> str:
    if isinstance(error.__context__, ssl.SSLError):
        return "tls"
    return next((fault for kinds, fault in _FAULTS if isinstance(error, kinds)), _OTHER_FAULT)


def _totals(answer: object, count: int) -> Sequence[Total]:
    """Return the totals in `answer`, which has numbers for `count` names. Raises StoreError."""
    if not isinstance(answer, list) or len(answer) != 2 * count:
        raise StoreError(_OTHER_FAULT)
    if not all(isinstance(number, int) for number in answer):
        raise StoreError(_OTHER_FAULT)
    pairs = zip(answer[::2], answer[1::2], strict=True)
    return [Total(total, milliseconds / 1000) for total, milliseconds in pairs]
