"""The server of the gRPC listener: its interceptors, its limits, and its shutdown."""

import asyncio
import math
from collections.abc import Collection, Coroutine, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health_pb2, health_pb2_grpc

from sidecar import logs
from sidecar.grpc_server import ports, reflection
from sidecar.grpc_server.connections import Connections
from sidecar.grpc_server.eviction import Eviction
from sidecar.grpc_server.health import Health
from sidecar.grpc_server.schema import Schema, read_published
from sidecar.interceptors.access_log import AccessLog
from sidecar.interceptors.admission import Admission
from sidecar.interceptors.connection_use import ConnectionUse
from sidecar.interceptors.error_boundary import ErrorBoundary
from sidecar.interceptors.handler_cache import HandlerCache
from sidecar.interceptors.metadata_limit import MetadataLimit
from sidecar.interceptors.request_message import RequestMessage
from sidecar.process.sockets import Endpoint
from sidecar.settings.types import Address
from sidecar.spans import Tracer

_HEALTH: Any = health_pb2.DESCRIPTOR.services_by_name["Health"]
# Bytes of metadata of a call, as RFC 9113 section 6.5.2 counts them; the limit of REST is the same.
_MAX_METADATA = 16 * 1024
# Options of gRPC core for one connection. Times are in milliseconds.
_OPTIONS = (
    # Without it two processes on one port would silently share the calls.
    ("grpc.so_reuseport", 0),
    # Between these two sizes core refuses by chance, so they are equal. They are above our own
    # limit, because a refusal of core has no details.
    ("grpc.max_metadata_size", 4 * _MAX_METADATA),
    ("grpc.absolute_max_metadata_size", 4 * _MAX_METADATA),
    # Far more than calls in flight: cancelled calls count until their handlers have ended.
    ("grpc.max_concurrent_streams", 200),
    # Calls that wait for a handler. Beyond it core cancels calls of anybody, by default from 1,000
    # on: 14 connections could cause that. Each takes up to 24 KiB, so it cannot be without end.
    ("grpc.server.max_pending_requests", 5_000),
    ("grpc.server.max_pending_requests_hard_limit", 5_000),
    # Until a client acknowledges these limits, they barely bind it: see MetadataLimit.
    ("grpc.http2.settings_timeout", 10_000),
    # A connection ends when it is old, and when its peer is gone.
    ("grpc.max_connection_age_ms", 600_000),
    ("grpc.max_connection_age_grace_ms", 30_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Correct clients ping every 10 s or less often. The third early ping ends the connection.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 2),
)
# At the end: wait for 10 turns of the loop, of 5 ms or more, without a new call.
_TURNS, _TURN = 10, 0.005
# Seconds after which new calls are awaited no longer. Core hands over hundreds in a second, so
# only a caller that goes on calling has more.
_HAND_OVER = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcLimits:
    """Limits of the gRPC server.

    * `handshake_timeout`: seconds in which a new connection must speak HTTP/2. A shutdown
      waits for it too.
    * `message_timeout`: seconds in which the request message of a call must arrive.
    * `read_timeout`: seconds in which a client must read a response.
    * `max_message_bytes`: the largest request message.
    * `connections`: open connections, at most. Beyond it the longest idle ones are closed;
      beyond twice as many, new ones are. Also the number of calls that may wait for their
      request message, and of responses that may wait to be read.
    """

    handshake_timeout: float = 5.0
    message_timeout: float = 10.0
    read_timeout: float = 10.0
    max_message_bytes: int = 16 * 1024
    connections: int = 1024

    def options(self) -> tuple[tuple[str, int], ...]:
        """Return the options of gRPC core for these limits."""
        return (
            ("grpc.max_receive_message_length", self.max_message_bytes),
            ("grpc.server_handshake_timeout_ms", round(self.handshake_timeout * 1000)),
            ("grpc.max_allowed_incoming_connections", 2 * self.connections),
        )


_DEFAULTS = GrpcLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcCounts:
    """The calls so far, those of them that wait for their request message, and evictions."""

    calls: int
    waiting: int
    evicted: int


class GrpcServer:
    """A gRPC server for `services`. Their servicers are added to `server` afterwards.

    * `public_url`: the base of the problem types.
    * `reflects`: whether tools such as grpcurl may ask for the schema.
    * `credentials`: with them the server speaks TLS only.
    * `trusted_proxies`: how many proxies before the server add to `x-forwarded-for`.
    * `tracer`: starts the span of each call.
    * `observe`: gets the values of each access line.
    """

    _connections: Connections  # from `bind` on

    def __init__(
        self,
        services: Iterable[ServiceDescriptor],
        admission: Admission,
        *,
        public_url: str,
        reflects: bool,
        credentials: grpc.ServerCredentials | None = None,
        trusted_proxies: int = 0,
        tracer: Tracer | None = None,
        limits: GrpcLimits = _DEFAULTS,
        observe: logs.Observe | None = None,
    ) -> None:
        services = tuple(services)
        self._admission = admission
        self._message = RequestMessage(timeout=limits.message_timeout, capacity=limits.connections)
        use = ConnectionUse()
        self._eviction = Eviction(
            use, read_timeout=limits.read_timeout, connections=limits.connections
        )
        self._tasks = ExitStack()
        self._accepts_until = math.inf  # a time of the event loop
        self._has_accepted = asyncio.Event()
        self._cutting: asyncio.Task[None] | None = None
        self._credentials = credentials
        self._opened = ExitStack()
        self._health = Health(service.full_name for service in services)
        served = [*services, _HEALTH, *(reflection.SERVICES if reflects else ())]
        self._log = AccessLog(served, trusted_proxies, tracer=tracer, observe=observe)
        boundary, metadata = ErrorBoundary(public_url), MetadataLimit(_MAX_METADATA)
        chain = HandlerCache(use, self._log, boundary, metadata, self._message, admission)
        options = (*_OPTIONS, *limits.options())
        self.server = grpc.aio.server(interceptors=(chain,), options=options)
        self._add_tools(served, reflects=reflects)

    def _add_tools(self, served: Collection[ServiceDescriptor], *, reflects: bool) -> None:
        """Add the health service, and reflection of the services `served`."""
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.server)
        if reflects:
            reflection.Reflection(Schema(served, read_published())).add_to(self.server)

    @property
    def counts(self) -> GrpcCounts:
        """The counts of now."""
        return GrpcCounts(
            calls=self._log.calls,
            waiting=self._message.waiting,
            evicted=self._eviction.evicted,
        )

    def bind(self, address: Address) -> Endpoint:
        """Listen on every address that `address` stands for, or on none, and return them.

        A Unix socket needs `release` at the end. Raises OSError; its text has the address.
        """
        endpoint = ports.bind(self._opened, address, self._add_port)
        self._connections = Connections(endpoint.addresses)
        return endpoint

    def release(self) -> None:
        """Remove the file of a Unix socket, if it is still ours."""
        self._opened.close()

    def _add_port(self, target: str) -> int:
        if self._credentials is None:
            return self.server.add_insecure_port(target)
        return self.server.add_secure_port(target, self._credentials)

    async def start(self) -> None:
        """Begin to answer calls. The health is NOT_SERVING until `set_serving`."""
        self._run(self._eviction.run(self._connections))
        await self.server.start()

    async def set_serving(self, *, serving: bool) -> None:
        """Set the health of the server and of each service."""
        self._health.set_serving(serving=serving)

    async def stop(self, grace: float) -> None:
        """Send GOAWAY, end all streams, and give calls in flight `grace` seconds to end."""
        loop = asyncio.get_running_loop()
        end = loop.time() + grace
        # A caller that goes on calling must not use up the whole time.
        hand_over = loop.time() + min(grace / 2, _HAND_OVER)
        self._accepts_until = min(self._accepts_until, hand_over)
        await self._accept_received_calls()
        self._admission.end_streams()
        # A client that does not read or close must not use it up either.
        self._run(self._eviction.finish(self._connections))
        await self.server.stop(max(end - loop.time(), 0))
        self._tasks.close()
        if self._cutting is not None:
            await self._cutting

    def cut(self, grace: float) -> None:
        """Make `stop` end: refuse the waiting and later calls, cancel others after `grace` seconds.

        Calls that core has received are accepted first, so that they are refused too.
        """
        self._message.end()
        half = grace / 2
        now = asyncio.get_running_loop().time()
        self._accepts_until = min(self._accepts_until, now + half)
        self._cutting = asyncio.create_task(self._cut(half))

    async def _cut(self, grace: float) -> None:
        await self._has_accepted.wait()
        await self.server.stop(grace)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` until the server has stopped."""
        self._tasks.callback(asyncio.create_task(work).cancel)

    async def _accept_received_calls(self) -> None:
        """Wait until each call that gRPC core has received has its handler.

        `stop` of grpc.aio would cancel the others. Core does not tell how many there are: it
        hands them over one by one.
        """
        loop = asyncio.get_running_loop()
        while loop.time() < self._accepts_until and await self._has_new_calls():
            pass
        self._has_accepted.set()

    async def _has_new_calls(self) -> bool:
        """Return whether a new call came in `_TURNS` turns of the loop."""
        before = self._log.calls
        for _ in range(_TURNS):
            await asyncio.sleep(_TURN)
        return self._log.calls != before
