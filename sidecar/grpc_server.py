"""The gRPC server: its interceptors, its access log, its health, and its schema for tools."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from sidecar.interceptors.access_log import AccessLog
from sidecar.interceptors.admission import Admission
from sidecar.interceptors.error_boundary import ErrorBoundary
from sidecar.interceptors.metadata_limit import MetadataLimit
from sidecar.interceptors.request_message import RequestMessage
from sidecar.process import sockets
from sidecar.settings.types import Address

_HEALTH: Any = health_pb2.DESCRIPTOR.services_by_name["Health"]
# Their stubs name the type of descriptors by its implementation.
_REFLECTION: Any = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]
_MAX_METADATA = 16 * 1024  # bytes
# What one connection may ask for, in the names of gRPC core. Times are in milliseconds.
_OPTIONS = (
    # Or two processes on one port split the calls between them without a word.
    ("grpc.so_reuseport", 0),
    # As much as a REST request may be.
    ("grpc.max_receive_message_length", 16 * 1024),
    # Beyond the first, requests are refused by chance, beyond the second surely.
    ("grpc.max_metadata_size", 8 * 1024),
    ("grpc.absolute_max_metadata_size", _MAX_METADATA),
    # Many more than calls are let in: cancelled ones count until their handlers have ended.
    ("grpc.max_concurrent_streams", 200),
    # Until a client acknowledges them these limits bind it hardly: see MetadataLimit.
    ("grpc.http2.settings_timeout", 10_000),
    # A connection is given up when it is old, when nothing is called, and when its peer is gone.
    ("grpc.max_connection_age_ms", 600_000),
    ("grpc.max_connection_age_grace_ms", 30_000),
    ("grpc.max_connection_idle_ms", 900_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Well-meaning clients ping each 10 seconds at the most; three pings too early are too many.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 2),
)
# How long none must come at the end for there to be no more calls: so many turns of the loop,
# however long, of so many seconds.
_TURNS, _TURN = 10, 0.005
_LAST_ANSWERS = 0.5  # seconds in which what was ended at once is told


class GrpcServer:
    """A gRPC server for `services`, whose servicers are still to be added to `server`.

    `public_url` is the base of the problem types. `reflects` lets tools such as
    grpcurl ask for the schema. With `credentials` it speaks TLS and nothing else.
    Of the client's address `trusted_proxies` are believed. A new connection has
    `handshake_timeout` seconds to speak HTTP/2, which also the end waits for, and the
    message of a call `message_timeout`. Of more than `connections` at once the last
    ones are closed unheard; as many calls may wait for their message.
    """

    def __init__(
        self,
        services: Sequence[ServiceDescriptor],
        admission: Admission,
        *,
        public_url: str,
        reflects: bool,
        credentials: grpc.ServerCredentials | None = None,
        trusted_proxies: int = 0,
        handshake_timeout: float = 5.0,
        message_timeout: float = 10.0,
        connections: int = 1024,
    ) -> None:
        self._admission = admission
        self._message = RequestMessage(timeout=message_timeout, most=connections)
        self._cutting: asyncio.Task[None] | None = None
        self._credentials = credentials
        self._health = health.aio.HealthServicer()
        self._health_names = (health.OVERALL_HEALTH, *(service.full_name for service in services))
        offered = [*services, _HEALTH, *([_REFLECTION] if reflects else [])]
        self._log = AccessLog(offered, trusted_proxies)
        interceptors = (
            self._log,
            ErrorBoundary(public_url),
            MetadataLimit(_MAX_METADATA),
            self._message,
            admission,
        )
        options = (
            *_OPTIONS,
            ("grpc.server_handshake_timeout_ms", round(handshake_timeout * 1000)),
            ("grpc.max_allowed_incoming_connections", connections),
        )
        self.server = grpc.aio.server(interceptors=interceptors, options=options)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.server)
        if reflects:
            names = [service.full_name for service in offered]
            reflection.enable_server_reflection(names, self.server)

    def bind(self, address: Address) -> Address:
        """Take the address; return it with its port, if that was 0. Raises OSError."""
        # gRPC takes no socket of ours, and tells of a busy port by lines of its own on
        # standard error. So the address is tried first.
        sockets.listen(address).close()
        try:
            if self._credentials is None:
                port = self.server.add_insecure_port(str(address))
            else:
                port = self.server.add_secure_port(str(address), self._credentials)
        except RuntimeError:  # pragma: no cover - taken since, which no test can time
            raise OSError(f"cannot listen on {address}") from None
        return Address(address.host, port)

    async def start(self) -> None:
        """Begin to answer calls, though not yet healthy."""
        await self.set_serving(serving=False)
        await self.server.start()

    async def set_serving(self, *, serving: bool) -> None:
        """Tell those who ask for the health of the server, or of a service of it."""
        response = health_pb2.HealthCheckResponse
        status = response.SERVING if serving else response.NOT_SERVING
        for name in self._health_names:
            await self._health.set(name, status)

    async def stop(self, grace: float) -> None:
        """Send callers elsewhere, end all streams, and give calls `grace` seconds to end."""
        loop = asyncio.get_running_loop()
        end = loop.time() + grace
        # Of a caller who never leaves there are always more.
        await self._take_what_came(grace / 2)
        self._admission.end_streams()
        await self.server.stop(end - loop.time())
        if self._cutting is not None:
            await self._cutting

    def cut(self) -> None:
        """Let `stop` wait no longer: end what it waits for, and say why to who still listens."""
        self._message.end()
        self._cutting = asyncio.create_task(self.server.stop(_LAST_ANSWERS))

    async def _take_what_came(self, seconds: float) -> None:
        """Wait until every call that gRPC has received has its handler; it would cancel the others.

        It does not tell how many there are, but gives them one by one while there are some.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                has_more = True
                while has_more and self._cutting is None:
                    has_more = await self._has_taken()

    async def _has_taken(self) -> bool:
        """Return whether more calls were taken in so many turns of the loop."""
        before = self._log.calls
        for _ in range(_TURNS):
            await asyncio.sleep(_TURN)
        return self._log.calls != before
